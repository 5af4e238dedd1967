# ruff: noqa: PLC0415 - torch is loaded by the tests that need it
"""Cross-encoders with random weights, of several families, and LoRA adapters for them."""

import string
from pathlib import Path
from typing import Any

SPECIALS = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "distilbert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
}
MAX_TOKENS = 160
WORDS = "read write open close file line fox dog broker topic record cut document query".split()  # noqa: SIM905


def write_cross_encoder(folder: Path, family: str = "bert", *, labels: int = 1) -> Path:
    """Write a sequence classifier with two layers of random weights that spread their logits."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

    set_seed(11)
    tokenizer = make_tokenizer(family, MAX_TOKENS)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_TOKENS + (2 if family == "roberta" else 0),
        "num_labels": labels,
        "initializer_range": 0.15,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "distilbert":
        sizes |= {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 96}
    else:
        sizes |= {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 96, "type_vocab_size": 2 if family == "bert" else 1}
    make_network: Any = AutoModelForSequenceClassification.from_config
    network = make_network(AutoConfig.for_model(family, **sizes))
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if name.endswith(("bias", "LayerNorm.weight")):  # else all zeros and ones
                weights.add_(torch.randn_like(weights) * 0.1)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_adapter(folder: Path, base: Path, *, head: bool = True) -> Path:
    """Write a LoRA adapter with random weights; `head`: with a classifier of its own."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, set_seed

    set_seed(12)
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    config = LoraConfig(
        r=4, target_modules=["query", "value"], modules_to_save=["classifier"] if head else None
    )
    wrapped: Any = get_peft_model(network, config)
    with torch.no_grad():
        for name, weights in wrapped.named_parameters():
            if "lora_B" in name:
                weights.copy_(torch.randn_like(weights) * 0.3)
    wrapped.save_pretrained(folder)
    return folder


def write_encoder_without_head(folder: Path) -> Path:
    """Write what a bi-encoder is made of: a bare BERT."""
    from transformers import AutoConfig, AutoModel, set_seed

    set_seed(13)
    tokenizer = make_tokenizer("bert", MAX_TOKENS)
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=MAX_TOKENS,
    )
    make_network: Any = AutoModel.from_config
    make_network(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(family: str, max_tokens: int = 64) -> Any:
    """Return a fast tokenizer that builds pairs as the family does."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = SPECIALS[family]
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    pieces = [*specials, *letters, *(f"##{letter}" for letter in letters), *WORDS]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    roberta = family == "roberta"
    unknown, start, end = ("<unk>", "<s>", "</s>") if roberta else ("[UNK]", "[CLS]", "[SEP]")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    pair = f"{start} $A {end} {end} $B {end}" if roberta else f"{start} $A {end} $B:1 {end}:1"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=pair,
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        unk_token=unknown,
        pad_token=specials[1] if roberta else specials[0],
        model_input_names=inputs if family == "bert" else ["input_ids", "attention_mask"],
    )
