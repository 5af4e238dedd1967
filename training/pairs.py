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

    Only the document is cut. The query is cut beforehand, to a third of `max_length`, because
    the tokenizer refuses a query that leaves no room.
    """
    room = 3 * max_length  # letters; a token is rarely under one
    heads = [q[:room] for q in queries]
    return tokenizer(
        heads,
        list(documents),
        truncation="only_second",
        max_length=max_length,
        padding=True,
        return_tensors="pt",
    )
