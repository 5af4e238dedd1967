"""`python -m export evaluate`: how well a retriever ranks a test collection, and a model after it.

1. Read the collection, and open or build its index.
2. Find the candidates of each judged query, in the retriever's order.
3. Rerank them with the engine that serves.
4. Measure both orders by the same judgements.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bundles import Bundle, open_index, open_model
from engine.fusion import fusion_for
from engine.index import Retriever
from engine.passages import ONE_PASSAGE, Passages
from engine.score import Scorer
from export.cascade_parts import Stages, Thinned, small_of, thin, with_tails
from export.corpus import Collection, open_collection
from export.errors import ExportError
from export.index import build_index, processors
from export.reranking import (
    Candidates,
    CandidateSource,
    Reranked,
    find_candidates,
    rerank,
)
from schemas.events import DEFAULT_TOP_K
from schemas.manifests import IndexManifest, ModelManifest

STANDARD_OUTPUT = "-"
# As the worker's setting passages.overlap.
PASSAGE_OVERLAP = 32


def add_parser(subparsers: Any) -> None:
    """Add the command `evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="how well a bundle ranks a test collection",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("--model-bundle", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--index-bundle",
        type=Path,
        metavar="DIR",
        help="an index of the collection's corpus (default: one is built, and thrown away)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="BEIR_DIR",
        help="a folder with corpus.jsonl[.gz], queries.jsonl[.gz] and qrels.tsv",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the figures there instead of a table; - is stdout"
    )
    parser.add_argument(
        "--top-k",
        type=_positive,
        default=DEFAULT_TOP_K,
        help="how many documents are retrieved and reranked (default: %(default)s)",
    )
    parser.add_argument(
        "--candidates",
        choices=("retrieved", "judged"),
        default="retrieved",
        help="rank what is retrieved, or only what the query was judged with, as is usual in "
        "answer sentence selection (default: %(default)s)",
    )
    parser.add_argument(
        "--cascade", action="store_true", help="score only what the bundle's cascade leaves"
    )
    parser.add_argument(
        "--small-bundle", type=Path, metavar="DIR", help="the smaller model of the cascade"
    )
    parser.add_argument(
        "--passages",
        type=_positive,
        default=ONE_PASSAGE.most,
        metavar="N",
        help="score a long document as at most so many passages, of which the best counts, as "
        "RERANKER_PASSAGES__MOST does (default: %(default)s)",
    )
    parser.add_argument(
        "--passage-overlap",
        type=_from_zero,
        metavar="M",
        help="tokens that a passage shares with the next, at most half of it (default: "
        f"{PASSAGE_OVERLAP})",
    )
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and show or write the figures."""
    target = arguments.json
    if target not in (None, STANDARD_OUTPUT) and not Path(target).absolute().parent.is_dir():
        raise ExportError(f"--json {target}: its folder does not exist")
    report = evaluate(
        open_collection(arguments.data),
        open_model(arguments.model_bundle),
        arguments.index_bundle,
        source=arguments.candidates,
        top_k=arguments.top_k,
        cascade=_cascade_of(arguments),
        passages=_passages_of(arguments),
    )
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if target is None:
        _show(report)
    elif target == STANDARD_OUTPUT:
        sys.stdout.write(text)
    else:
        Path(target).write_text(text, encoding="utf-8")
    return 0


@dataclass(frozen=True)
class CascadeUse:
    """That the bundle's cascade is used, with the smaller model's bundle where it needs one."""

    small: Bundle[ModelManifest] | None = None


def evaluate(  # noqa: PLR0913 - the command's options, by name
    collection: Collection,
    model: Bundle[ModelManifest],
    index_bundle: Path | None = None,
    *,
    source: CandidateSource = "retrieved",
    top_k: int = DEFAULT_TOP_K,
    cascade: CascadeUse | None = None,
    passages: Passages = ONE_PASSAGE,
) -> dict[str, Any]:
    """Return the report: a JSON object with the figures under `retriever` and `reranked`.

    Without `index_bundle` an index is built for the occasion. Raises ExportError, BundleError.
    """
    timings: dict[str, float] = {}
    with _index_of(collection, index_bundle, timings) as index:
        retriever = Retriever.open(index, processors())
        with _timed(timings, "retrieve"):
            candidates = find_candidates(retriever, collection, source, top_k)
        retriever.close()
    scorer = Scorer.open(model, processors(), passages)
    fusion = fusion_for(model.manifest, index.manifest)
    thinned = Thinned(candidates, 0)
    with _timed(timings, "rerank"):
        if cascade is not None:
            small = small_of(model, cascade.small)
            stages = Stages(model.manifest.cascade, index.manifest, small, passages)
            thinned = thin(stages, collection.queries, candidates, processors())
        reranked = rerank(scorer, collection.queries, thinned.candidates, fusion)
    reranked.rankings = with_tails(reranked.rankings, candidates)
    scorer.close()
    return {
        "collection": collection.name,
        "candidates": source,
        "top_k": top_k if source == "retrieved" else None,
        "queries": _queries(collection, reranked),
        **_figures(collection, candidates, reranked),
        "model": {
            "name": model.manifest.name,
            "digest": model.digest,
            "precision": model.manifest.precision,
        },
        "index": {"name": index.manifest.name, "digest": index.digest},
        "fusion": None if fusion is None else fusion.model_dump(mode="json"),
        "pairs": {
            "scored": reranked.scored_pairs,
            "truncated": reranked.truncated_pairs,
            "failed": reranked.failed_pairs,
        },
        "passages": None
        if passages.most == ONE_PASSAGE.most
        else {
            "most": passages.most,
            "overlap": passages.overlap,
            "scored": reranked.scored_passages,
        },
        "cascade": None
        if cascade is None
        else {
            "by_small_model": thinned.small_pairs,
            "cut": sum(map(len, candidates.values())) - reranked.scored_pairs,
        },
        "timings_s": timings,
    }


def _cascade_of(arguments: argparse.Namespace) -> CascadeUse | None:
    path = arguments.small_bundle
    if not arguments.cascade:
        if path is not None:
            raise ExportError("--small-bundle is of use with --cascade only")
        return None
    return CascadeUse(None if path is None else open_model(path))


def _passages_of(arguments: argparse.Namespace) -> Passages:
    overlap = arguments.passage_overlap
    if arguments.passages == ONE_PASSAGE.most:
        if overlap is not None:
            raise ExportError("--passage-overlap is of use with --passages 2 or more only")
        return ONE_PASSAGE
    return Passages(arguments.passages, PASSAGE_OVERLAP if overlap is None else overlap)


def _positive(text: str) -> int:
    return _whole(text, 1)


def _from_zero(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least}")
    return int(text)


@contextmanager
def _index_of(
    collection: Collection, path: Path | None, timings: dict[str, float]
) -> Iterator[Bundle[IndexManifest]]:
    if path is not None:
        yield open_index(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        with _timed(timings, "index"):
            built = build_index(collection.corpus, Path(folder) / "index", name=collection.name)
        yield open_index(built)


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[step] = round(time.perf_counter() - start, 3)


def _queries(collection: Collection, reranked: Reranked) -> dict[str, int]:
    """Count the queries; one without a relevant document is evaluated, and counts as 0."""
    grades = collection.judgements.values()
    return {
        "total": len(collection.queries),
        "evaluated": len(grades),
        "without_relevant": sum(all(grade < 1 for grade in each.values()) for each in grades),
        "too_long": reranked.too_long_queries,
    }


def _figures(
    collection: Collection, candidates: Candidates, reranked: Reranked
) -> dict[str, dict[str, float]]:
    from export.measures import measure  # noqa: PLC0415 - its libraries take a second

    retrieved = {query_id: [hit.doc_id for hit in hits] for query_id, hits in candidates.items()}
    return {
        "retriever": measure(collection.judgements, retrieved),
        "reranked": measure(collection.judgements, reranked.rankings),
    }


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 - with --json it isn't needed
    from rich.table import Table  # noqa: PLC0415

    queries = report["queries"]
    table = Table(title=f"{report['collection']}, {report['candidates']} candidates")
    table.add_column("")
    for name in ("retriever", "reranked", "difference"):
        table.add_column(name, justify="right")
    for name, before in report["retriever"].items():
        after = report["reranked"][name]
        table.add_row(name, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    console.print(
        f"{queries['evaluated']} of {queries['total']} queries are judged and were evaluated; "
        f"{queries['without_relevant']} of them have no relevant document and count as 0"
        + (f"; {queries['too_long']} are too long to rerank" if queries["too_long"] else "")
    )
    for name in ("model", "index"):
        console.print(f"{name}: {report[name]['name']} {report[name]['digest']}")
    pairs, passages = report["pairs"], report["passages"]
    if passages is not None:
        console.print(
            f"{passages['scored']:,} passages scored, at most {passages['most']} of a document, "
            f"which share at most {passages['overlap']} tokens"
        )
    if report["cascade"] is not None:
        console.print(
            f"{report['cascade']['cut']:,} pairs cut by the cascade, for which its smaller model "
            f"scored {report['cascade']['by_small_model']:,}"
        )
    console.print(
        f"{pairs['scored']:,} pairs scored, {pairs['truncated']:,} of them cut, "
        f"{pairs['failed']:,} failed; seconds: "
        + ", ".join(f"{step} {seconds:.1f}" for step, seconds in report["timings_s"].items())
    )
