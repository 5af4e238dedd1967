"""Texts to token ids: the one place where query and document become one sequence.

Serving and training build pairs with this code, so a model never meets at work what it did not
meet in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from engine.bundles import Bundle
from engine.errors import BundleError, QueryTooLongError
from engine.passages import ONE_PASSAGE, Passages, cut
from engine.tokens import Ids, TokenCache
from schemas.manifests import ModelManifest, PairTemplate

# What lies behind so many characters for each token that the model can read is cut off before
# tokenising: a document of megabytes must not hold up its neighbours for seconds.
CHARS_PER_TOKEN = 32


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of a pair, int32 [tokens], where the document begins, and whether it was cut.

    `first` is false for all passages of a document but one: together they are one pair's work.
    """

    ids: Ids
    document_start: int
    truncated: bool
    first: bool = True


@dataclass(frozen=True)
class PairEncoder:
    """Builds `prefix + query + infix + document + suffix`; only the document is ever cut."""

    tokenizer: Tokenizer
    template: PairTemplate
    documents: TokenCache = field(default_factory=TokenCache, compare=False, repr=False)
    passages: Passages = ONE_PASSAGE

    @classmethod
    def open(cls, bundle: Bundle[ModelManifest], passages: Passages = ONE_PASSAGE) -> "PairEncoder":
        """Load the tokenizer of a model bundle."""
        return cls.load(bundle.file("tokenizer.json"), bundle.manifest.pair, passages)

    @classmethod
    def load(
        cls, tokenizer_json: Path, template: PairTemplate, passages: Passages = ONE_PASSAGE
    ) -> "PairEncoder":
        """Load a fast tokenizer; its own padding and truncation settings are left out.

        Raises BundleError.
        """
        try:
            tokenizer = Tokenizer.from_file(str(tokenizer_json))
        except Exception as error:  # The library raises nothing more telling.
            raise BundleError(f"{tokenizer_json} is not a fast tokenizer: {error}") from None
        tokenizer.no_padding()
        # One token more than fits, so that a cut can be seen from the length alone.
        longest = template.max_tokens * passages.most + 1
        tokenizer.enable_truncation(longest, direction=template.truncation_side)
        return cls(tokenizer, template, passages=passages)

    def encode_query(self, query: str) -> Ids:
        """Return int32 [tokens] without special tokens; raises QueryTooLongError."""
        template = self.template
        ids = self._tokenise([template.query_prefix + query + template.query_suffix])[0]
        if len(ids) > self.template.max_query_tokens:
            raise QueryTooLongError(
                f"the query has more than {self.template.max_query_tokens} tokens, "
                "and would leave the model no room for a document"
            )
        return ids

    def fits(self, query: str) -> bool:
        """Tell whether the query leaves room for a document."""
        try:
            self.encode_query(query)
        except QueryTooLongError:
            return False
        return True

    def encode(self, query: Ids, documents: Sequence[str]) -> list[EncodedPair]:
        """Return one pair for each document, in order: of several passages the first."""
        return [pairs[0] for pairs in self.encode_passages(query, documents)]

    def encode_passages(self, query: Ids, documents: Sequence[str]) -> list[list[EncodedPair]]:
        """Return the pairs of each document's passages, at least one, in order.

        `truncated` tells of the whole document whether any of it is in no passage.
        """
        limit = CHARS_PER_TOKEN * self.template.max_tokens * self.passages.most
        left = self.template.truncation_side == "left"
        short = [text[-limit:] if left else text[:limit] for text in documents]
        tokens = self.documents.look_up(short, self._tokenise_documents)
        head = np.concatenate(
            [self._ids(self.template.prefix), query, self._ids(self.template.infix)]
        )
        tail = self._ids(self.template.suffix)
        room = self.template.max_tokens - len(head) - len(tail)
        found: list[list[EncodedPair]] = []
        for ids, text in zip(tokens, documents, strict=True):
            parts = cut(len(ids), room, self.passages, from_end=left)
            whole = parts[0].start == 0 and parts[-1].stop == len(ids) and len(text) <= limit
            found.append(
                [
                    EncodedPair(
                        np.concatenate([head, ids[part], tail]), len(head), not whole, place == 0
                    )
                    for place, part in enumerate(parts)
                ]
            )
        return found

    def _tokenise_documents(self, texts: Sequence[str]) -> list[Ids]:
        return self._tokenise([self.template.document_prefix + text for text in texts])

    def _tokenise(self, texts: Sequence[str]) -> list[Ids]:
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]

    @staticmethod
    def _ids(ids: tuple[int, ...]) -> Ids:
        return np.asarray(ids, dtype=np.int32)
