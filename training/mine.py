"""From passages to groups: candidates by the retriever, scores by the teacher.

The teacher is the retriever's cosine plus a little BM25: on every collection that we looked at
the sum orders better than either, and it costs nothing, so it can be distilled over any text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from training.beir import Collection
from training.groups import RIGHT, UNKNOWN, WRONG, Group
from training.passages import Passage
from training.retriever import Bm25

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[str], str], Floats]

JUDGED = "trecqa"  # the source name of groups that people judged

_NEAR, _FAR = 20, 100  # ranks that hard and easy candidates come from
_DECOY_GAP = 0.1  # what the teacher, that can't tell a decoy, is made to say of it
_MARGIN = 0.02  # an unjudged candidate this close to the right one may be right as well


def draw(passages: list[Passage], n_queries: int, pool: int, rng: Random) -> list[Passage]:
    """A pool of passages of which enough have queries, in random order."""
    shuffled = passages.copy()
    rng.shuffle(shuffled)
    asked = [p for p in shuffled if p.queries][:n_queries]
    taken = {id(p) for p in asked}
    rest = [p for p in shuffled if id(p) not in taken]
    return asked + rest[: max(0, pool - len(asked))]


def _pick(ranked: Sequence[int], n: int, rng: Random) -> list[int]:
    """Half of the picks from the top, then the middle, and two from anywhere."""
    near = rng.sample(ranked[:_NEAR], min(n // 2, len(ranked[:_NEAR])))
    middle = ranked[_NEAR:_FAR]
    far = rng.sample(middle, min(n - len(near) - 2, len(middle)))
    anywhere = ranked[_FAR:]
    easy = rng.sample(anywhere, min(2, len(anywhere)))
    return near + far + easy


def _order(similarity: Floats, depth: int) -> list[int]:
    top = np.argpartition(-similarity, min(depth, len(similarity) - 1))[:depth]
    return [int(i) for i in top[np.argsort(-similarity[top], kind="stable")]]


@dataclass(frozen=True, slots=True)
class Miner:
    """Finds candidates with the bi-encoder `encode` and scores them with the teacher."""

    encode: Encode
    lexical_weight: float
    n_candidates: int

    def mine_passages(self, passages: list[Passage], n_queries: int, rng: Random) -> list[Group]:
        """One group a query: its passage (right), and candidates of the same source.

        A candidate that scores well below the right passage counts as wrong, others are unknown.
        """
        source, texts = passages[0].source, [p.text for p in passages]
        asked = [(rng.choice(p.queries), row) for row, p in enumerate(passages) if p.queries]
        asked = asked[:n_queries]
        docs = self.encode(texts, f"{source}: passages")
        queries = self.encode([q for q, _ in asked], f"{source}: queries")
        bm25 = Bm25(texts)
        groups = []
        for (query, row), vector in zip(asked, queries, strict=True):
            similarity = docs @ vector
            ranked = [i for i in _order(similarity, 400) if texts[i] != texts[row]]
            rows = [row, *_pick(ranked, self.n_candidates - 1, rng)]
            teacher = self._teacher(query, rows, similarity, bm25)
            groups.append(_group(passages[row], query, [texts[i] for i in rows], teacher))
        return groups

    def mine_collection(self, collection: Collection, depth: int = 60) -> list[Group]:
        """Judged queries: everything judged, and the best `depth` of the rest as wrong."""
        docs = self.encode(collection.texts, f"{collection.name}: passages")
        names = list(collection.queries)
        vectors = self.encode([collection.queries[n] for n in names], f"{collection.name}: queries")
        bm25 = Bm25(collection.texts)
        groups = []
        for name, vector in zip(names, vectors, strict=True):
            query, similarity = collection.queries[name], docs @ vector
            judged = [i for i, d in enumerate(collection.doc_ids) if d in collection.qrels[name]]
            rows = list(dict.fromkeys(judged + _order(similarity, depth)))
            teacher = [round(t, 4) for t in self._teacher(query, rows, similarity, bm25)]
            texts, right = [collection.texts[i] for i in rows], _right_texts(collection, name)
            labels = [RIGHT if t in right else WRONG for t in texts]
            groups.append(Group(JUDGED, query, texts, teacher, labels, judged=True))
        return groups

    def _teacher(self, query: str, rows: list[int], similarity: Floats, bm25: Bm25) -> list[float]:
        return [float(similarity[i]) + self.lexical_weight * bm25.score(query, i) for i in rows]


def _group(passage: Passage, query: str, texts: list[str], teacher: list[float]) -> Group:
    right, rest, decoys = teacher[0], teacher[1:], list(passage.decoys)
    scores = [right, *[right - _DECOY_GAP] * len(decoys), *rest]
    labels = [RIGHT] + [WRONG if t < right - _MARGIN else UNKNOWN for t in scores[1:]]
    candidates = [texts[0], *decoys, *texts[1:]]
    return Group(passage.source, query, candidates, [round(t, 4) for t in scores], labels)


def _right_texts(collection: Collection, query_id: str) -> set[str]:
    """By text, because a right sentence's copy is right as well."""
    grades = collection.qrels[query_id]
    found = zip(collection.doc_ids, collection.texts, strict=True)
    return {text for doc_id, text in found if grades.get(doc_id, 0) > 0}
