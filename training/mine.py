"""From passages to groups: candidates by the retriever, scores by the teacher.

The teacher is the retriever's cosine plus a little BM25: on every collection that we looked at
the sum orders better than either, and it costs nothing, so it can be distilled over any text.
"""

from collections.abc import Callable, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from training.beir import Collection
from training.groups import RIGHT, UNKNOWN, WRONG, Group
from training.passages import Passage
from training.retriever import Bm25

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[str], str], Floats]

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
    middle = [i for i in ranked[_NEAR:_FAR]]
    far = rng.sample(middle, min(n - len(near) - 2, len(middle)))
    anywhere = ranked[_FAR:]
    easy = rng.sample(anywhere, min(2, len(anywhere)))
    return near + far + easy


def _order(similarity: Floats, depth: int) -> list[int]:
    top = np.argpartition(-similarity, min(depth, len(similarity) - 1))[:depth]
    return [int(i) for i in top[np.argsort(-similarity[top], kind="stable")]]


def mine_source(
    passages: list[Passage],
    n_queries: int,
    n_candidates: int,
    lexical_weight: float,
    encode: Encode,
    rng: Random,
) -> list[Group]:
    """One group a query: its passage (right), and candidates of the same source (unknown).

    A candidate that scores well below the right passage counts as wrong.
    """
    texts = [p.text for p in passages]
    asked = [(rng.choice(p.queries), row) for row, p in enumerate(passages) if p.queries]
    asked = asked[:n_queries]
    docs = encode(texts, f"{passages[0].source}: passages")
    queries = encode([q for q, _ in asked], f"{passages[0].source}: queries")
    bm25 = Bm25(texts)
    groups = []
    for (query, row), vector in zip(asked, queries, strict=True):
        similarity = docs @ vector
        ranked = [i for i in _order(similarity, 400) if i != row and texts[i] != texts[row]]
        rows = [row, *_pick(ranked, n_candidates - 1, rng)]
        teacher = [float(similarity[i]) + lexical_weight * bm25.score(query, i) for i in rows]
        decoys = passages[row].decoys
        teacher[1:1] = [teacher[0] - _DECOY_GAP] * len(decoys)
        chosen = [texts[row], *decoys, *(texts[i] for i in rows[1:])]
        groups.append(_group(passages[0].source, query, chosen, teacher))
    return groups


def _group(source: str, query: str, texts: list[str], teacher: list[float]) -> Group:
    labels = [RIGHT] + [WRONG if t < teacher[0] - _MARGIN else UNKNOWN for t in teacher[1:]]
    return Group(source, query, texts, [round(t, 4) for t in teacher], labels)


def mine_collection(
    collection: Collection, lexical_weight: float, encode: Encode, rng: Random, depth: int = 60
) -> list[Group]:
    """Judged queries: everything judged, and the retriever's best of the rest as wrong.

    Raises nothing of its own; a query without a right answer is not in a Collection.
    """
    docs = encode(collection.texts, f"{collection.name}: passages")
    names = list(collection.queries)
    vectors = encode([collection.queries[n] for n in names], f"{collection.name}: queries")
    bm25 = Bm25(collection.texts)
    groups = []
    for name, vector in zip(names, vectors, strict=True):
        qrels, similarity = collection.qrels[name], docs @ vector
        right = {
            collection.texts[i] for i, d in enumerate(collection.doc_ids) if qrels.get(d, 0) > 0
        }
        judged = [i for i, d in enumerate(collection.doc_ids) if d in qrels]
        rows = list(dict.fromkeys(judged + _order(similarity, depth)))
        query = collection.queries[name]
        teacher = [
            round(float(similarity[i]) + lexical_weight * bm25.score(query, i), 4) for i in rows
        ]
        labels = [RIGHT if collection.texts[i] in right else WRONG for i in rows]
        texts = [collection.texts[i] for i in rows]
        groups.append(Group("trecqa", query, texts, teacher, labels, judged=True))
    return groups
