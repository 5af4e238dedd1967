"""`python -m training fuse`: how much the retrieval score counts beside the logit.

1. Retrieve and score the candidates of each development query, with the engine that serves.
2. Take the weight (and the logit that says nothing) with the best mean gain in NDCG@10 over the
   retriever alone, where a loss on one collection counts more than a gain on another.
3. Bring the sum to log-odds, by logistic regression on the same pairs (Platt, 1999), so that its
   sigmoid may be read as a probability.
4. Measure retriever, logit alone and fusion: on what was learnt on, and on what was held out.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.bundles import Bundle, open_index, open_model
from engine.fusion import fuse
from engine.index import Retriever
from engine.score import Scorer
from export.corpus import Collection, open_collection
from export.fusion import FUSION_FILE
from export.index import build_index, processors
from export.measures import Judgements, measure, ndcg_of_many
from export.reranking import find_candidates
from schemas.events import DEFAULT_TOP_K
from schemas.manifests import Fusion, ModelManifest
from training.console import console
from training.errors import TrainingError
from training.seeds import half_of

# Cosines lie within a few tenths, logits within a few units: from next to nothing to everything.
WEIGHTS = (0.0, *(round(float(w), 3) for w in np.geomspace(0.5, 2048.0, 25)))
# Falling below the retriever on one collection by more than chance does, with a few dozen queries,
# outweighs as much gain on others: reranking must do no harm where it was not trained.
CHANCE = 0.01
LOSS_COUNTS = 5.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A candidate: what the retriever said of it, and what the model."""

    doc_id: str
    retrieval_score: float
    logit: float
    text: str = ""


@dataclass(frozen=True)
class Scored:
    """A collection's queries with their candidates in the retriever's order."""

    name: str
    judgements: Judgements
    candidates: dict[str, list[Pair]]

    def half(self, second: bool) -> "Scored":
        """One half of the queries."""
        kept = half_of(self.candidates, second=second)
        return Scored(
            name=f"{self.name}, {'other half' if second else 'half'}",
            judgements={query: self.judgements[query] for query in kept},
            candidates={query: self.candidates[query] for query in kept},
        )

    def rankings(self, fusion: Fusion | None) -> dict[str, list[str]]:
        """The fused order of each query; the retriever's where there is no fusion."""
        return {query: _order(pairs, fusion) for query, pairs in self.candidates.items()}

    def ndcg(self, fusions: Sequence[Fusion | None]) -> list[float]:
        """Mean NDCG@10 under each of many fusions."""
        return ndcg_of_many(self.judgements, [self.rankings(fusion) for fusion in fusions])


def learn(
    dev: Sequence[Scored], embedder: str, full_chars: int | None = None, *, must: bool = True
) -> Fusion:
    """Steps 2 and 3; raises TrainingError where the logit says nothing about relevance.

    With `full_chars` longer documents count for less; unless they `must`, only where that is worth
    more than counting all alike.
    """
    shapes: list[tuple[int | None, float]] = []
    if not (full_chars and must):
        shapes.append((None, 0.0))
    if full_chars:
        shapes += [(full_chars, center) for center in _centers(dev)]
    tried = [
        Fusion(
            logit_scale=1.0,
            retrieval_weight=weight,
            full_chars=chars,
            center=center,
            embedder=embedder,
        )
        for chars, center in shapes
        for weight in WEIGHTS
    ]
    retriever, *found = zip(*(one.ndcg([None, *tried]) for one in dev), strict=True)
    gains = np.asarray(found) - np.asarray(retriever)
    worth = (gains - (LOSS_COUNTS - 1) * np.maximum(0.0, -gains - CHANCE)).mean(axis=1)
    by_shape = worth.reshape(len(shapes), len(WEIGHTS))
    # Neighbours count as well: with few queries, a single weight stands out by chance.
    padded = np.pad(by_shape, ((0, 0), (1, 1)), mode="edge")
    smooth = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    best = tried[int(np.argmax(smooth))]
    scale, bias = _log_odds(dev, best)
    if scale <= 0:
        raise TrainingError(
            "relevant documents don't get higher scores than others on these collections: this "
            "model can't be fused with the retriever"
        )
    return best.model_copy(
        update={
            "logit_scale": round(scale, 6),
            "retrieval_weight": round(scale * best.retrieval_weight, 6),
            "bias": round(bias, 6),
            "learnt_on": tuple(one.name for one in dev),
        }
    )


def _centers(dev: Sequence[Scored]) -> tuple[float, ...]:
    """Logits that might say nothing: quantiles over all candidates, from few to most below them."""
    logits = [pair.logit for one in dev for pairs in one.candidates.values() for pair in pairs]
    return tuple(round(float(each), 2) for each in np.quantile(logits, (0.25, 0.5, 0.75, 0.9)))


def _fused(pairs: Sequence[Pair], fusion: Fusion) -> list[float]:
    return fuse(
        fusion,
        [pair.logit for pair in pairs],
        [pair.retrieval_score for pair in pairs],
        [pair.text for pair in pairs],
    )


def _order(pairs: Sequence[Pair], fusion: Fusion | None) -> list[str]:
    if fusion is None:
        return [pair.doc_id for pair in pairs]
    scores = _fused(pairs, fusion)
    places = sorted(range(len(pairs)), key=lambda place: (-scores[place], place))
    return [pairs[place].doc_id for place in places]


def _log_odds(dev: Sequence[Scored], fusion: Fusion) -> tuple[float, float]:
    """Scale and bias that make log-odds of the sum; each collection counts alike."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - takes a second

    scores, labels, weights = [], [], []
    for one in dev:
        total = sum(map(len, one.candidates.values()))
        for query, pairs in one.candidates.items():
            scores += _fused(pairs, fusion)
            labels += [one.judgements[query].get(pair.doc_id, 0) > 0 for pair in pairs]
            weights += [1.0 / total] * len(pairs)
    if len(set(labels)) < 2:
        raise TrainingError("no candidate is judged relevant, or all are: nothing can be learnt")
    x, share = np.asarray(scores), np.asarray(weights) * len(weights) / len(dev)
    center, spread = float(x.mean()), float(x.std()) or 1.0
    fit = LogisticRegression(C=1e6).fit((x[:, None] - center) / spread, labels, share)
    scale = float(fit.coef_[0, 0]) / spread
    return scale, float(fit.intercept_[0]) - scale * center


def score_collection(
    collection: Collection, model: Bundle[ModelManifest], scorer: Scorer, top_k: int
) -> tuple[Scored, str]:
    """Step 1 for one collection, over an index made for the occasion; and the embedder's digest."""
    with tempfile.TemporaryDirectory() as folder:
        index = open_index(build_index(collection.corpus, Path(folder) / "index"))
        retriever = Retriever.open(index, processors())
        hits = find_candidates(retriever, collection, "retrieved", top_k)
        retriever.close()
    candidates = {}
    for query, found in hits.items():
        logits = scorer.score([(collection.queries[query], hit.text) for hit in found])
        candidates[query] = [
            Pair(hit.doc_id, hit.score, score.logit, hit.text)
            for hit, score in zip(found, logits, strict=True)
        ]
    console.print(f"{collection.name}: {len(candidates)} queries, {model.manifest.name}")
    scored = Scored(collection.name, collection.judgements, candidates)
    return scored, index.manifest.embedder.source.digest


def report(scored: Scored, fusion: Fusion) -> dict[str, Any]:
    """The figures of all three orders."""
    alone = Fusion(logit_scale=1.0, retrieval_weight=0.0, embedder=fusion.embedder)
    orders = {"retriever": None, "logit_alone": alone, "fused": fusion}
    figures = {
        name: measure(scored.judgements, scored.rankings(order)) for name, order in orders.items()
    }
    return {
        "queries": len(scored.candidates),
        **{
            name: {key: round(value, 4) for key, value in found.items()}
            for name, found in figures.items()
        },
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--model-bundle", type=Path, required=True, metavar="DIR")
    for name, text in (
        ("--learn", "BEIR folders whose queries are all learnt on"),
        ("--learn-half", "BEIR folders of which one half is learnt on and the other held out"),
        ("--held-out", "BEIR folders that are only measured"),
    ):
        parser.add_argument(name, type=Path, nargs="+", default=[], metavar="DIR", help=text)
    parser.add_argument("--top-k", type=int, default=DEFAULT_TOP_K, help="candidates of a query")
    parser.add_argument(
        "--full-chars",
        type=int,
        metavar="N",
        help="the logit of longer documents counts for less, in proportion; about four characters "
        "for each token that the model was trained on (default: all count alike)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"the adapter's or checkpoint's folder, which gets {FUSION_FILE}: `export model` "
        "puts it into the bundle",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Learn, write, and return the fusion and its figures. Raises TrainingError, ExportError."""
    if not args.learn and not args.learn_half:
        raise TrainingError("nothing to learn on: name folders with --learn or --learn-half")
    if args.out is not None and not args.out.is_dir():
        raise TrainingError(f"--out {args.out} is no folder: name the adapter's")
    model = open_model(args.model_bundle)
    scorer = Scorer.open(model, processors())
    scored: dict[Path, Scored] = {}
    embedders = set()
    for folder in dict.fromkeys([*args.learn, *args.learn_half, *args.held_out]):
        scored[folder], embedder = score_collection(
            open_collection(folder), model, scorer, args.top_k
        )
        embedders.add(embedder)
    scorer.close()
    dev = [scored[one] for one in args.learn] + [scored[one].half(False) for one in args.learn_half]
    held = [scored[one].half(True) for one in args.learn_half] + [
        scored[one] for one in args.held_out if one not in args.learn
    ]
    fusion = learn(dev, embedders.pop(), args.full_chars)
    if args.out is not None:
        text = json.dumps(fusion.model_dump(mode="json"), indent=2)
        (args.out / FUSION_FILE).write_text(text + "\n", encoding="utf-8")
    return {
        "model": model.digest,
        "fusion": fusion.model_dump(mode="json"),
        "learnt_on": {one.name: report(one, fusion) for one in dev},
        "held_out": {one.name: report(one, fusion) for one in held},
    }
