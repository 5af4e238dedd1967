"""`python -m export cascade`: a model bundle that scores only what cheaper scores do not rule out.

1. Retrieve the candidates of a development set, and score them by the model and by a smaller one.
2. Choose the cheapest cuts that keep enough of the model's own NDCG@10, and of its first ten.
3. Write the bundle again, with the cuts and the smaller bundle's digest in its manifest.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.bundles import Bundle, open_index, open_model
from engine.cascade import by_retriever, survivors
from engine.fusion import fuse, fusion_for
from engine.index import Retriever
from engine.score import Scorer
from export.cascade_bounds import ENOUGH, unseen_losers
from export.cascade_choice import CascadeError, Choice, Judged, choose, ideal_gain
from export.cascade_parts import Scores, score_candidates, with_tails
from export.corpus import Collection, open_collection
from export.errors import ExportError
from export.index import build_index, processors
from export.measures import measure
from export.reranking import Candidates, find_candidates
from export.seal import seal, staging_beside
from schemas.events import DEFAULT_TOP_K
from schemas.manifests import Cascade, Fusion, IndexManifest, Kept, Measures, ModelManifest

KEEP = 0.995


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "cascade",
        help="a model bundle that scores only what cheaper scores do not rule out",
        description="Chooses on a development set which candidates the model need not score, and "
        "writes the bundle again with the choice in its manifest. Files stay as they are. Of a "
        "grid of cuts it takes the cheapest that keep --keep of NDCG@10, and of the model's own "
        "first ten, at the lower end of a 95 % interval (bootstrap over the queries, which sees "
        "nothing of what no query lost). What is kept of queries that cuts were not chosen on is "
        "estimated by cross-validation.",
    )
    parser.add_argument("--model-bundle", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--small-bundle",
        type=Path,
        metavar="DIR",
        help="a smaller model's bundle; `python -m training small` makes one (default: only the "
        "retriever's scores cut)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="BEIR_DIR",
        help="a development set that is not used for testing: corpus, queries (of which "
        f"{ENOUGH} or more are judged) and qrels.tsv",
    )
    parser.add_argument(
        "--index-bundle",
        type=Path,
        metavar="DIR",
        help="an index of its corpus (default: one is built, and thrown away)",
    )
    parser.add_argument("--top-k", type=int, default=DEFAULT_TOP_K, metavar="N")
    parser.add_argument(
        "--keep",
        type=float,
        default=KEEP,
        metavar="SHARE",
        help="of the model's own NDCG@10, and of its own first ten (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle")
    parser.add_argument("--force", action="store_true", help="replace the bundle at --out")
    parser.add_argument("--json", action="store_true", help="print the cascade as JSON")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Choose, write, print; return the exit code."""
    if not 0 < arguments.keep <= 1:
        raise ExportError("--keep must be above 0 and at most 1")
    model = open_model(arguments.model_bundle)
    small = None if arguments.small_bundle is None else open_model(arguments.small_bundle)
    if small is not None and small.digest == model.digest:
        raise ExportError("--small-bundle is --model-bundle itself: name a smaller one")
    with staging_beside(arguments.out, force=arguments.force) as staging:
        development = Development(
            open_collection(arguments.data), arguments.index_bundle, arguments.top_k
        )
        _warn_of_few(len(development.collection.judgements))
        cascade = make_cascade(model, small, development, arguments.keep)
        for name in model.manifest.files:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.file(name), staging / name)
        manifest = model.manifest.model_copy(update={"cascade": cascade})
        seal(staging, manifest, arguments.out, force=arguments.force)
    if arguments.json:
        sys.stdout.write(json.dumps(cascade.model_dump(mode="json"), indent=2) + "\n")
    else:
        _show(cascade, arguments.out)
    return 0


@dataclass(frozen=True)
class Development:
    """What is chosen on; without `index_bundle` an index is built for the occasion."""

    collection: Collection
    index_bundle: Path | None = None
    top_k: int = DEFAULT_TOP_K


def make_cascade(
    model: Bundle[ModelManifest],
    small: Bundle[ModelManifest] | None,
    development: Development,
    keep: float = KEEP,
) -> Cascade:
    """Choose the cuts; raises CascadeError where none is worth while."""
    collection = development.collection
    with _index_of(collection, development.index_bundle) as index:
        retriever = Retriever.open(index, processors())
        candidates = find_candidates(retriever, collection, "retrieved", development.top_k)
        retriever.close()
        embedder = index.manifest.embedder.source.digest
        fusion = fusion_for(model.manifest, index.manifest)
    by_model = _score(model, collection, candidates)
    by_small = None if small is None else _score(small, collection, candidates)
    known = _judged(collection, candidates, by_model, by_small, fusion)
    relative = 0.0 if by_small is None else by_small.cpu_s / by_model.cpu_s
    choice = choose(list(known.values()), relative, keep)
    return Cascade(
        retriever=choice.retriever,
        embedder=None if choice.retriever is None else embedder,
        small=choice.small,
        small_bundle=None if choice.small is None or small is None else small.digest,
        alone=_measures(collection, candidates, known, None),
        cascaded=_measures(collection, candidates, known, choice),
        kept=Kept(
            judged=round(choice.kept, 4),
            own=round(choice.own, 4),
            held_out=None if choice.held_out.kept is None else round(choice.held_out.kept, 4),
            folds=choice.held_out.folds,
            folds_cut=choice.held_out.cut,
        ),
        small_share=round(choice.small_share, 4),
        model_share=round(choice.model_share, 4),
        cost=round(choice.cost, 4),
    )


@dataclass(frozen=True)
class _Scored:
    """Logits, and the time that the lanes took for them."""

    logits: Scores
    cpu_s: float


def _score(
    bundle: Bundle[ModelManifest], collection: Collection, candidates: Candidates
) -> _Scored:
    scorer = Scorer.open(bundle, processors())
    try:
        logits = score_candidates(scorer, collection.queries, candidates)
        return _Scored(logits, scorer.lanes.stats.busy_s)
    finally:
        scorer.close()


def _judged(
    collection: Collection,
    candidates: Candidates,
    by_model: _Scored,
    by_small: _Scored | None,
    fusion: Fusion | None,
) -> dict[str, Judged]:
    """Return what is known of each query; one that the model can't read is left out."""
    known: dict[str, Judged] = {}
    for name, hits in candidates.items():
        logits = by_model.logits[name]
        if not hits or not np.isfinite(logits).all():
            continue
        retrieval = [hit.score for hit in hits]
        evidence = (
            logits
            if fusion is None
            else fuse(fusion, logits, retrieval, [hit.text for hit in hits])
        )
        place = np.empty(len(hits), dtype=np.intp)
        place[np.argsort(-np.asarray(evidence), kind="stable")] = np.arange(len(hits))
        grades = collection.judgements[name]
        gains = [max(0, grades.get(hit.doc_id, 0)) for hit in hits]
        known[name] = Judged(
            retrieval,
            None if by_small is None else by_small.logits[name],
            place,
            np.asarray(gains, dtype=np.float64),
            ideal_gain(list(grades.values())),
        )
    if not known:
        raise CascadeError("the model can score no query of the development set")
    return known


def _measures(
    collection: Collection,
    candidates: Candidates,
    known: Mapping[str, Judged],
    choice: Choice | None,
) -> Measures:
    """Measure as `export evaluate` does."""
    rankings: dict[str, list[str]] = {}
    for name, hits in candidates.items():
        judged = known.get(name)
        if judged is None:
            rankings[name] = [hit.doc_id for hit in hits]
            continue
        scored = list(range(len(hits)))
        if choice is not None:
            scored = by_retriever(choice.retriever, judged.retrieval)
        if choice is not None and choice.small is not None and judged.small is not None:
            logits = [judged.small[at] for at in scored]
            scored = [scored[at] for at in survivors(choice.small, logits)]
        rankings[name] = [hits[at].doc_id for at in sorted(scored, key=lambda at: judged.place[at])]
    values = measure(collection.judgements, with_tails(rankings, candidates))
    rounded = {name: round(value, 4) for name, value in values.items()}
    return Measures(collection=collection.name, queries=len(collection.judgements), values=rounded)


@contextmanager
def _index_of(collection: Collection, path: Path | None) -> Iterator[Bundle[IndexManifest]]:
    if path is not None:
        yield open_index(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        built = build_index(collection.corpus, Path(folder) / "index", name=collection.name)
        yield open_index(built)


def _show(cascade: Cascade, out: Path) -> None:
    alone, cascaded = cascade.alone.values["NDCG@10"], cascade.cascaded.values["NDCG@10"]
    lines = [
        f"{out}",
        f"retriever    {_text(cascade.retriever)}",
        f"small model  {_text(cascade.small)}",
        f"scored       {cascade.model_share:.1%} of the candidates by the model, "
        f"{cascade.small_share:.1%} by the smaller one",
        f"cost         {cascade.cost:.1%} of the model alone: {1 / cascade.cost:.2f} times as fast",
        f"NDCG@10      {cascaded:.4f}, alone {alone:.4f}, on {cascade.alone.collection} "
        f"({cascade.alone.queries} queries)",
        *([] if cascade.kept is None else _kept(cascade.kept, cascade.alone.queries)),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _kept(kept: Kept, queries: int) -> list[str]:
    lines = [
        f"kept         {kept.judged:.1%} of NDCG@10 and {kept.own:.1%} of the model's own first "
        "ten: lower ends of 95 % intervals (bootstrap)"
    ]
    if max(kept.judged, kept.own) == 1:
        lines.append(
            f"not seen     where none of {queries} queries lost anything, up to "
            f"{unseen_losers(queries):.1%} of other queries may (95 %)"
        )
    if kept.folds:
        held_out = "" if kept.held_out is None else f"{kept.held_out:.1%} of NDCG@10 kept; "
        lines.append(
            f"held out     {held_out}{kept.folds_cut} of {kept.folds} folds cut anything, chosen "
            "on the other queries"
        )
    return lines


def _warn_of_few(queries: int) -> None:
    if queries < ENOUGH:
        sys.stderr.write(
            f"warning: {queries} judged queries are too few to tell what cuts lose (up to "
            f"{unseen_losers(queries):.0%} of other queries may lose something where none of these "
            f"does): choose on {ENOUGH} or more\n"
        )


def _text(cut: object) -> str:
    return "cuts nothing" if cut is None else str(cut)
