"""Query and document as the model reads them; to be replaced by the engine's own pair building."""

from collections.abc import Sequence

from transformers import BatchEncoding, PreTrainedTokenizerBase


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    documents: Sequence[str],
    max_length: int,
) -> BatchEncoding:
    """[CLS] query [SEP] document [SEP], token types 0/1, int64 [pairs, longest].

    Only the document is cut; but a query of more than three letters for each token of
    `max_length` is cut beforehand, because the tokenizer refuses one that leaves no room.
    """
    heads = [q[: 3 * max_length] for q in queries]
    encoded: BatchEncoding = tokenizer(
        heads,
        list(documents),
        truncation="only_second",
        max_length=max_length,
        padding=True,
        return_tensors="pt",
    )
    return encoded
