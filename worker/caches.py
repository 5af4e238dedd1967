"""What was computed before: scores of pairs, and whole rankings.

Every key holds the model's digest, so a new model never sees an old model's score; a ranking's key
also holds the index's. Values that do not decode are misses. Floats are kept bit for bit, so a
cached score equals a computed one.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from pydantic_core import from_json

from schemas.events import QueryEvent
from worker.rank import Score
from worker.store import Store

# Change it when the meaning of a key or a value changes: old entries are then never read.
SCHEMA_VERSION = b"1"

_SCORE = struct.Struct("<cf?")
_SCORE_TAG = b"s"

PairKey = bytes


@dataclass(frozen=True)
class CachedRanking:
    """A ranking without texts: ids, retrieval scores, and scores, in retrieval order."""

    doc_ids: tuple[str, ...]
    retrieval_scores: tuple[float | None, ...]
    scores: tuple[Score, ...]


class PairCache:
    """Scores by (model, query, document)."""

    def __init__(self, store: Store, model_digest: str) -> None:
        self._store = store
        self._prefix = b"kr:" + SCHEMA_VERSION + b":p:" + model_digest.encode() + b":"

    def keys(self, query: str, documents: Sequence[str]) -> list[PairKey]:
        """Return the key of each pair: the model, and the sha256 of the exact pair."""
        # The query's length comes first, or ("ab", "c") and ("a", "bc") would be one pair.
        head = hashlib.sha256(f"{len(query)}:{query}".encode())
        return [self._prefix + _with(head, document) for document in documents]

    def get(self, keys: Sequence[PairKey]) -> list[Score | None]:
        """Return what is known of each pair, in one round trip."""
        return [_decode_score(value) for value in self._store.get_many(keys)]

    def put(self, scores: Mapping[PairKey, Score]) -> None:
        """Keep scores, in one round trip."""
        self._store.set_many({key: _encode_score(score) for key, score in scores.items()})


class RankingCache:
    """Rankings of retrieved candidates by (model, index, query, top_k).

    Only for events without own candidates: for these there is nothing to save but the pairs.
    """

    def __init__(self, store: Store, model_digest: str, index_digest: str) -> None:
        self._store = store
        digests = f"{model_digest}:{index_digest}"
        self._prefix = b"kr:" + SCHEMA_VERSION + b":r:" + digests.encode() + b":"

    def key(self, event: QueryEvent) -> bytes:
        """Return the key of the event's question."""
        question = f"{event.top_k}:{event.query}".encode()
        return self._prefix + hashlib.sha256(question).digest()

    def get(self, keys: Sequence[bytes]) -> list[CachedRanking | None]:
        """Return what is known of each question, in one round trip."""
        return [_decode_ranking(value) for value in self._store.get_many(keys)]

    def put(self, rankings: Mapping[bytes, CachedRanking]) -> None:
        """Keep rankings, in one round trip."""
        self._store.set_many({key: _encode_ranking(value) for key, value in rankings.items()})


def _with(head: "hashlib._Hash", document: str) -> bytes:
    whole = head.copy()
    whole.update(document.encode())
    return whole.digest()


def _encode_score(score: Score) -> bytes:
    return _SCORE.pack(_SCORE_TAG, score.logit, score.truncated)


def _decode_score(value: bytes | None) -> Score | None:
    if value is None or len(value) != _SCORE.size:
        return None
    tag, logit, truncated = _SCORE.unpack(value)
    if tag != _SCORE_TAG or not math.isfinite(logit):
        return None
    return Score(logit, truncated)


def _encode_ranking(ranking: CachedRanking) -> bytes:
    rows = [
        [doc_id, retrieval_score, score.logit, score.truncated]
        for doc_id, retrieval_score, score in zip(
            ranking.doc_ids, ranking.retrieval_scores, ranking.scores, strict=True
        )
    ]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()


def _decode_ranking(value: bytes | None) -> CachedRanking | None:
    if value is None:
        return None
    try:
        # Unlike `json`, this also has an error for bottomless nesting and for half characters.
        rows = [_row(*row) for row in from_json(value)]
    except (ValueError, TypeError):
        return None
    if not rows:
        return None  # Never written: nothing was ranked.
    return CachedRanking(
        doc_ids=tuple(doc_id for doc_id, _, _ in rows),
        retrieval_scores=tuple(retrieval_score for _, retrieval_score, _ in rows),
        scores=tuple(score for _, _, score in rows),
    )


def _row(
    doc_id: object, retrieval_score: object, logit: object, truncated: object
) -> tuple[str, float | None, Score]:
    if not isinstance(doc_id, str) or not doc_id or not isinstance(truncated, bool):
        raise TypeError
    if not _is_number(logit) or not (retrieval_score is None or _is_number(retrieval_score)):
        raise TypeError
    return doc_id, retrieval_score, Score(logit, truncated)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, float) and math.isfinite(value)
