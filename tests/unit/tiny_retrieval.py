# ruff: noqa: PLC0415 - torch is loaded by the tests that need it
"""A tiny corpus, and a tiny embedding model with random weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.bundles import Bundle
from schemas.manifests import IndexManifest

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


def write_tiny_embedder(folder: Path, **pooling: bool) -> Path:
    """Write it in the format of sentence-transformers; `pooling` replaces the modes of its pooling step."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = _train_tokenizer()
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write(folder / "modules.json", _steps("Transformer", "Pooling", "Normalize"))
    _write(folder / "1_Pooling/config.json", pooling or {"pooling_mode_mean_tokens": True})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    _write(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "read: ", "document": "file: "}},
    )
    return folder


def _train_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=specials)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
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
