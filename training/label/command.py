"""`python -m training label`: events into `labels/`, with a report."""

import argparse
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby
from typing import Any

from engine.bundles import open_index
from export.bars import progress
from training.annotate.pairs import read_pairs
from training.collect.store import event_files
from training.label.build import (
    Evidence,
    Labelled,
    build,
    check_queries,
    gather_judgements,
    missing_texts,
    wanted_ids,
)
from training.label.clicks import judgement_events, read_clicks
from training.label.disputes import write_disputes
from training.label.mine import BundleFinder, mine, open_finder, retrieved
from training.label.propensity import propensities
from training.label.report import write_report
from training.label.summary import summarise
from training.label_rows import LabelRow, write_rows
from training.plan import load_plan
from training.plan_arguments import add_plan
from training.plan_data import LabelPlan
from training.run_folder import (
    RunFolder,
    digest_of,
    digest_of_files,
    read_done,
    write_done,
    write_json,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_plan(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Label, and return the summary; raises TrainingError."""
    return label(load_plan(args.plan).label, RunFolder(args.run))


def label(plan: LabelPlan, run: RunFolder) -> dict[str, Any]:
    """Write `labels/` unless it was made of the same already; raises TrainingError."""
    inputs = _inputs(plan, run)
    done = read_done(run.labels, inputs)
    if done is not None and run.groups.exists():
        return done
    (run.labels / "done.json").unlink(missing_ok=True)
    with nullcontext() if plan.index_bundle is None else open_finder(plan.index_bundle) as finder:
        summary = _label(plan, run, finder)
    for warning in summary["warnings"]:
        sys.stderr.write(f"warning: {warning}\n")
    write_done(run.labels, inputs, summary)
    return summary


def _inputs(plan: LabelPlan, run: RunFolder) -> dict[str, str]:
    kinds = ("impression", "click", "judgement")
    files = [path for kind in kinds for path in event_files(run, kind)]
    pairs = run.annotated.glob("pairs.parquet")
    found = {
        "plan": digest_of(plan),
        "events": digest_of_files(files, run.path),
        "annotated": digest_of_files(pairs, run.path),
    }
    if plan.index_bundle is not None:
        found["index"] = open_index(plan.index_bundle).digest
    return found


def _label(plan: LabelPlan, run: RunFolder, finder: BundleFinder | None) -> dict[str, Any]:
    with progress("reading events"):
        events = judgement_events(run)
        log = read_clicks(run, wanted_ids(events), plan.clicks.min_dwell_ms)
        judgements = gather_judgements(events, log)
        annotated = read_pairs(run)
    asked = {**log.queries, **judgements.queries}
    check_queries(asked | {str(place): (a.query, a.tenant) for place, a in enumerate(annotated)})
    counts = (
        {position: (shown, clicked) for position, (shown, clicked) in one.positions.items()}
        for one in log.exposures.values()
    )
    evidence = Evidence(log, judgements, annotated, propensities(counts, plan.clicks))
    texts = {} if finder is None else finder.texts(missing_texts(log, judgements))
    labelled = build(evidence, texts, plan)
    if finder is not None:
        labelled = replace(labelled, rows=_with_retriever(labelled.rows, finder, plan))
    return _write(run, labelled)


def _with_retriever(rows: list[LabelRow], finder: BundleFinder, plan: LabelPlan) -> list[LabelRow]:
    """Add ranks and scores of the retriever, and hard negatives."""
    by_query = {key: list(some) for key, some in groupby(rows, lambda row: row.query_id)}
    queries = [(key, some[0].query) for key, some in by_query.items()]
    found: list[LabelRow] = []
    with progress("asking the retriever", len(queries)) as advance:
        for key, hits in retrieved(finder, queries, plan.mine.to_rank, advance):
            places = {hit.doc_id: hit for hit in hits}
            some = [
                replace(
                    row,
                    retrieval_rank=places[row.doc_id].rank,
                    retrieval_score=places[row.doc_id].score,
                )
                if row.doc_id in places
                else row
                for row in by_query[key]
            ]
            found += [*some, *mine(some, hits, finder, plan.mine, plan.seed)]
    return found


def _write(run: RunFolder, labelled: Labelled) -> dict[str, Any]:
    write_rows(labelled.rows, run.groups)
    write_disputes(run.labels / "disagreements.csv", labelled)
    summary = summarise(labelled)
    write_report(run.labels / "report.html", labelled, summary)
    write_json(run.labels / "summary.json", summary)
    return summary
