"""Step 3: learns from the tokenizer how it makes one sequence of a pair, and proves it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.errors import QueryTooLongError
from engine.pairs import PairEncoder
from export.checkpoint import Checkpoint
from export.errors import CheckpointError
from schemas.manifests import PairTemplate

DEFAULT_MAX_TOKENS = 512
MIN_TOKENS = 8
# A query may fill all of the window but this part, which is the document's.
DOCUMENT_SHARE = 8

_SENTINELS = ("apple", "river")
PROOFS = (
    ("how do I read a file?", "Open it, then iterate over its lines."),
    ("Grüße aus Köln, ça va?", "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich."),
    ("什么是机器学习", "机器学习是人工智能的一个分支。 🚀 emoji, too"),
    ("", "a document without a query"),
    ("a query without a document", ""),
    ("  white \t space\n", "\u00a0and \u200b odd ones \x00 too"),
    ("[SEP] </s> special tokens in the text", "as <mask> or [MASK] or [CLS]"),
    ("cut", "a document that is far too long for the model " * 400),
)


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerFast:
    """Return the checkpoint's tokenizer in its fast form; raises CheckpointError."""
    try:
        load: Callable[..., object] = AutoTokenizer.from_pretrained
        tokenizer = load(checkpoint.path, use_fast=True, trust_remote_code=checkpoint.trusted)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"the tokenizer can't be loaded: {reason}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise CheckpointError(f"{checkpoint.source.name} has no fast tokenizer (tokenizer.json)")
    return tokenizer


def write_tokenizer(tokenizer: PreTrainedTokenizerFast, file: Path) -> None:
    """Write `tokenizer.json` without padding and truncation: the engine does both itself."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    backend.save(str(file))


def derive_template(
    tokenizer: PreTrainedTokenizerFast, config: dict[str, Any], max_tokens: int | None = None
) -> PairTemplate:
    """Return the template; `max_tokens` defaults to the model's maximum, at most 512.

    Raises CheckpointError where the model can't read so many, or the tokenizer does more to a
    pair than to put ids around and between.
    """
    size = longest_pair(tokenizer, config, max_tokens)
    prefix, infix, suffix = _pieces(tokenizer)
    special = len(prefix) + len(infix) + len(suffix)
    room = size - special - max(1, size // DOCUMENT_SHARE)
    if room < 1 or size < MIN_TOKENS:
        raise CheckpointError(f"--max-tokens {size}: that is too short for a pair")
    return PairTemplate(
        prefix=prefix,
        infix=infix,
        suffix=suffix,
        max_tokens=size,
        max_query_tokens=room,
        token_types=_has_token_types(tokenizer, config),
        truncation_side="left" if tokenizer.truncation_side == "left" else "right",
    )


def longest_pair(
    tokenizer: PreTrainedTokenizerFast, config: dict[str, Any], max_tokens: int | None
) -> int:
    """Return `max_tokens`, or the model's maximum, at most 512; raises CheckpointError."""
    limit = _model_limit(tokenizer, config)
    size = min(DEFAULT_MAX_TOKENS, limit) if max_tokens is None else max_tokens
    if size > limit:
        raise CheckpointError(f"--max-tokens {size}: the model reads {limit} at most")
    return size


def prove_template(
    tokenizer: PreTrainedTokenizerFast, template: PairTemplate, tokenizer_json: Path
) -> None:
    """Raise CheckpointError unless the engine's pairs are exactly the tokenizer's own."""
    encoder = PairEncoder.load(tokenizer_json, template)
    tokenizer.truncation_side = template.truncation_side
    for query, document in PROOFS:
        try:
            ids = encoder.encode_query(query)
        except QueryTooLongError:
            continue
        # As lists: a lone pair with an empty document would be taken for a single text.
        own = tokenizer(
            [query], [document], truncation="only_second", max_length=template.max_tokens
        )
        pair = encoder.encode(ids, [document])[0]
        types = np.arange(len(pair.ids)) >= pair.document_start
        if own["input_ids"][0] != pair.ids.tolist() or (
            template.token_types and own["token_type_ids"][0] != types.astype(int).tolist()
        ):
            raise CheckpointError(
                "the tokenizer builds pairs in a way that no pair template can express, "
                f"for instance of {query[:40]!r} and {document[:40]!r}"
            )


def _model_limit(tokenizer: PreTrainedTokenizerFast, config: dict[str, Any]) -> int:
    """Return how many tokens fit; RoBERTa's positions begin after the padding id."""
    positions = int(config.get("max_position_embeddings") or DEFAULT_MAX_TOKENS)
    if "roberta" in config["model_type"] or config["model_type"] == "camembert":
        positions -= int(config.get("pad_token_id", 1)) + 1
    return min(positions, int(tokenizer.model_max_length))


def _pieces(
    tokenizer: PreTrainedTokenizerFast,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return what stands before, between and after the two texts."""
    query, document = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in _SENTINELS
    )
    pair = tokenizer(*_SENTINELS)["input_ids"]
    first = _find(pair, query, 0)
    second = _find(pair, document, first + len(query))
    return (
        tuple(pair[:first]),
        tuple(pair[first + len(query) : second]),
        tuple(pair[second + len(document) :]),
    )


def _find(ids: list[int], part: list[int], start: int) -> int:
    for position in range(start, len(ids) - len(part) + 1):
        if ids[position : position + len(part)] == part:
            return position
    raise CheckpointError("the tokenizer changes texts when it joins them to a pair")


def _has_token_types(tokenizer: PreTrainedTokenizerFast, config: dict[str, Any]) -> bool:
    types = tokenizer(*_SENTINELS, return_token_type_ids=True)["token_type_ids"]
    return (
        "token_type_ids" in tokenizer.model_input_names
        and int(config.get("type_vocab_size") or 0) > 1
        and any(types)
    )
