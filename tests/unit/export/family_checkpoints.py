# ruff: noqa: PLC0415 - torch is loaded by the tests that need it
"""Checkpoints with random weights of each family's own classes, and tokenizers trained on texts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.unit.tiny_retrieval import word_pieces

MAX_TOKENS = 96

QUERIES = (
    "how do I read a file line by line?",
    "什么是机器学习",
    "كيف أقرأ ملفا",
    "what is a broker",
    "fox!",
    "?",
)
TEXTS = (
    "Open the file, then iterate over its lines; each keeps its line end.",
    "A broker keeps the records of a topic in partitions, and consumers read them in order.",
    "The quick brown fox jumps over the lazy dog.",
    "机器学习是人工智能的一个分支,它使用数据来改进算法。",
    "افتح الملف ثم اقرأ السطور واحدا بعد الآخر.",
    "פתח את הקובץ וקרא שורה אחר שורה.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "🚀 emoji 👩‍👩‍👧 and 🙂🙃, too",
    "def read(path):\n    with open(path) as file:\n        return list(file)",
    "1,234.56 € (19 % VAT) — see § 3",
)
_LABELLED = {"bert": 2, "deberta-v2": 2}
FAMILIES = (
    "bert",
    "electra",
    "roberta",
    "xlm-roberta",
    "deberta-v2",
    "modernbert",
    "qwen3",
)
# Families that begin and end a text as RoBERTa does, and those whose pieces are of Unigram.
ROBERTA = {"roberta", "xlm-roberta", "camembert"}
UNIGRAM = {"xlm-roberta", "camembert", "deberta-v2"}


def write_family(
    folder: Path, family: str, sizes: Mapping[str, Any] | None = None, texts: Sequence[str] = ()
) -> Path:
    """Write a small random model of the family's real classes, with a tokenizer of its kind.

    `sizes` are fields of its configuration, in place of the small ones; the tokenizer learns
    `texts` too.
    """
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        set_seed,
    )

    set_seed(7)
    tokenizer = train_tokenizer(family, texts)
    config = AutoConfig.for_model(family, **{**_sizes(family, tokenizer), **(sizes or {})})
    kind: Any = AutoModelForCausalLM if family == "qwen3" else AutoModelForSequenceClassification
    network = kind.from_config(config)
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if weights.ndim == 1:  # else all zeros and ones
                weights.add_(torch.randn_like(weights) * 0.1)
            elif name.endswith(("out_proj.weight", "classifier.weight")):
                weights.mul_(4)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _sizes(family: str, tokenizer: Any) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": MAX_TOKENS + (2 if family in ROBERTA else 0),
        "initializer_range": 0.12,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family != "qwen3":
        sizes["num_labels"] = _LABELLED.get(family, 1)
    own: dict[str, dict[str, Any]] = {
        "bert": {"type_vocab_size": 2},
        "electra": {"type_vocab_size": 2, "embedding_size": 32},
        "roberta": {"type_vocab_size": 1},
        "xlm-roberta": {"type_vocab_size": 1},
        "camembert": {"type_vocab_size": 1},
        "deberta-v2": {
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "pooler_hidden_size": 64,
        },
        "modernbert": {
            "num_hidden_layers": 4,
            "global_attn_every_n_layers": 3,
            "local_attention": 16,
            "classifier_pooling": "mean",
            "reference_compile": False,
            **{f"{name}_token_id": tokenizer.cls_token_id for name in ("bos", "eos", "cls", "sep")},
        },
        "qwen3": {
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
        },
    }
    return sizes | own[family]


def train_tokenizer(family: str, more: Sequence[str] = ()) -> Any:
    """Make WordPiece, Unigram or byte-level BPE of texts, as the family's tokenizer is.

    It is the same in each process.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    corpus = [*TEXTS, *QUERIES, *more] * 3
    specials, start, end, pad = _specials(family)
    if family in {"bert", "electra"}:
        tokenizer = word_pieces(specials, corpus)
    elif family in UNIGRAM:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        unknown = "[UNK]" if family == "deberta-v2" else "<unk>"
        trainer: Any = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=specials, unk_token=unknown
        )
        tokenizer.train_from_iterator(corpus, trainer)
        tokenizer.model = _in_order(tokenizer, len(specials))
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = _byte_level(family)
        trainer = trainers.BpeTrainer(
            vocab_size=900 if more else 500,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(corpus, trainer)
    if family == "qwen3":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.add_tokens(["yes", "no"])
    else:
        between = f"{end} {end}" if family in ROBERTA else end
        second = ":1" if family in {"bert", "electra"} else ""
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A {end}",
            pair=f"{start} $A {between} $B{second} {end}{second}",
            special_tokens=[(piece, tokenizer.token_to_id(piece)) for piece in {start, end}],
        )
    inputs = ["input_ids", "attention_mask"]
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=tokenizer,
        model_max_length=512 if family == "qwen3" else MAX_TOKENS,
        pad_token=pad,
        cls_token=None if family == "qwen3" else start,
        sep_token=None if family == "qwen3" else end,
        model_input_names=[*inputs, "token_type_ids"] if family in {"bert", "electra"} else inputs,
    )


def _in_order(tokenizer: Any, specials: int) -> Any:
    """Return the Unigram model with its pieces in one order, and scores without their last digits.

    Both depend on the order in which a trainer sums up, which is another one in each process.
    """
    from tokenizers import models

    model = json.loads(tokenizer.to_str())["model"]
    first, others = model["vocab"][:specials], model["vocab"][specials:]
    pieces = [(piece, round(score, 2)) for piece, score in [*first, *sorted(others)]]
    return models.Unigram(pieces, model["unk_id"], model["byte_fallback"])


def _specials(family: str) -> tuple[list[str], str, str, str]:
    if family in ROBERTA:
        return ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s>", "</s>", "<pad>"
    if family == "qwen3":
        ends = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        return ends, "<|im_start|>", "<|im_end|>", "<|endoftext|>"
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "[CLS]", "[SEP]", "[PAD]"


def _byte_level(family: str) -> Any:
    """Split like GPT-2, or like Qwen, where line ends stay with the punctuation before them."""
    from tokenizers import Regex, pre_tokenizers

    if family != "qwen3":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = pre_tokenizers.Split(Regex(words), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])


def varied_pairs(count: int = 200) -> list[tuple[str, str]]:
    """Give pairs of all lengths: empty, one token, longer than the model reads, many scripts."""
    odd = ["", " ", "a", "读", "🙂", "\n", "[SEP]", "<|im_end|>", "word " * 300, "机器学习" * 120]
    documents = [*odd, *TEXTS]
    for number in range(1, 40):
        documents.append(" ".join(TEXTS[(number * k) % len(TEXTS)] for k in range(1 + number % 4)))
        documents.append(" ".join((TEXTS[1] + TEXTS[number % 5]).split()[: number % 25 + 1]))
    pairs = [(query, document) for document in documents for query in QUERIES[:4]]
    step = len(pairs) / count
    return [pairs[int(place * step)] for place in range(count)]


def write_pairs(file: Path) -> Path:
    """Write calibration pairs."""
    lines = [{"query": query, "document": text} for query in QUERIES[:4] for text in TEXTS]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def write_collection(
    folder: Path, judged: Sequence[tuple[str, Sequence[tuple[str, int]]]] | None = None
) -> Path:
    """Write a BEIR folder: (query, (text, grade)…). By default any order of it is the best."""
    judged = [(QUERIES[0], [(text, 1) for text in TEXTS])] if judged is None else judged
    folder.mkdir()
    texts = list(dict.fromkeys(text for _, graded in judged for text, _ in graded))
    corpus = [{"_id": f"d{at}", "text": text} for at, text in enumerate(texts)]
    queries = [{"_id": f"q{at}", "text": query} for at, (query, _) in enumerate(judged)]
    for name, lines in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [
        f"q{at}\td{texts.index(text)}\t{grade}\n"
        for at, (_, graded) in enumerate(judged)
        for text, grade in graded
    ]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return folder
