# ruff: noqa: PLC0415 - torch is loaded by the tests that need it
"""A tiny corpus, an embedding model with random weights, and a reranker that counts words."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.bundles import Bundle
from export.seal import seal
from schemas.manifests import IndexManifest, ModelManifest, PairTemplate, Source

TOPICS = ("file", "line", "fox", "dog", "broker", "topic", "record", "partition")
DOCUMENTS = [
    {"_id": f"d{n}", "title": "", "text": " ".join(TOPICS[n * k % 8] for k in range(1, n % 9 + 2))}
    for n in range(60)
]

BuildIndex = Callable[..., Bundle[IndexManifest]]

SENTENCES = (
    "how do I read a file line by line",
    "open the file and iterate over its lines",
    "the quick brown fox jumps over the lazy dog",
    "a broker keeps records of topics in partitions",
    "機器學習是人工智慧的一個分支",
)


def write_tiny_embedder(folder: Path, tokenizer: Any = None, **pooling: bool) -> Path:
    """Write a model in the format of sentence-transformers, pooling by the mean if unsaid."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tokenizer or _make_tokenizer()
    torch.manual_seed(7)
    make_config: Any = BertConfig
    config = make_config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    network: Any = BertModel
    network(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write(folder / "modules.json", _steps("Transformer", "Pooling", "Normalize"))
    _write(folder / "1_Pooling/config.json", pooling or {"pooling_mode_mean_tokens": True})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    _write(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "read: ", "document": "file: "}},
    )
    return folder


def word_pieces(specials: Sequence[str], texts: Iterable[str]) -> Any:
    """Return a WordPiece tokenizer: of the texts' words every other one is whole, the rest halves.

    Without a trainer: one chooses among equally frequent pieces, and numbers them, differently in
    each process, and with the numbers random weights and all scores change.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words = {
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    ordered, characters = sorted(words), sorted({letter for word in words for letter in word})
    halves = [
        piece
        for word in ordered[1::2]
        for piece in (word[: len(word) // 2], f"##{word[len(word) // 2 :]}")
        if piece
    ]
    pieces = [*specials, *characters, *(f"##{one}" for one in characters), *ordered[::2], *halves]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    return tokenizer


def _make_tokenizer() -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = word_pieces(specials, SENTENCES)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    make_tokenizer: Any = PreTrainedTokenizerFast
    return make_tokenizer(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def _steps(*names: str) -> list[dict[str, str]]:
    return [{"path": "", "type": f"sentence_transformers.models.{name}"} for name in names]


def _write(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def write_counting_model(folder: Path, word: str, words: tuple[str, ...] = TOPICS) -> Path:
    """Write a model bundle whose logit is how often the document has `word`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    staging = folder / "staging"
    staging.mkdir(parents=True)
    vocabulary = {name: number for number, name in enumerate(("[UNK]", "[SEP]", *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(staging / "tokenizer.json"))
    wanted = numpy_helper.from_array(np.array(vocabulary[word], dtype=np.int64), "wanted")
    axes = numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")
    nodes = [
        helper.make_node("Equal", ["input_ids", "wanted"], ["same"]),
        helper.make_node("Cast", ["same"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["token_type_ids"], ["document"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ones", "document"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "axes"], ["logits"], keepdims=0),
    ]
    rows = ["batch", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, rows)
        for name in ("input_ids", "token_type_ids")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph(nodes, "counting", inputs, [output], [wanted, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, staging / "model.onnx")
    manifest = ModelManifest(
        name=f"counts {word}",
        family="test",
        precision="fp32",
        recipe="counting",
        inputs=("input_ids", "token_type_ids"),
        output="logits",
        pair=PairTemplate(
            prefix=(),
            infix=(1,),
            suffix=(1,),
            max_tokens=64,
            max_query_tokens=32,
            token_types=True,
        ),
        pad_token_id=0,
        base=Source(name="none", digest="sha256:" + "0" * 64),
        tools={},
        files={},
    )
    return seal(staging, manifest, folder / "model")
