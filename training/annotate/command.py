"""`python -m training annotate`: labels by a machine, into `annotated/`."""

import argparse
import sys
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from engine.bundles import open_index
from training.annotate.cache import AnswerCache
from training.annotate.candidates import candidates
from training.annotate.corpus_pairs import CorpusUsage, corpus_pairs
from training.annotate.grading import MAX_GRADE, Pair, Usage, grade_all
from training.annotate.llm import PROMPT_VERSION, Grader
from training.annotate.pairs import PAIRS, Annotated, write_pairs
from training.collect.store import event_files
from training.errors import InputError
from training.label.mine import open_finder
from training.plan import Plan, load_plan
from training.plan_arguments import add_plan
from training.plan_data import AnnotatePlan, LlmPlan
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
    """Annotate, and return what was made and spent; raises TrainingError."""
    return annotate(load_plan(args.plan), RunFolder(args.run))


def annotate(plan: Plan, run: RunFolder) -> dict[str, Any]:
    """Write `annotated/` unless it was made of the same already; raises TrainingError.

    Where a budget or failures left pairs without a grade, a rerun goes on with those.
    """
    section = plan.annotate
    if section.llm is None and section.corpus is None:
        raise InputError("there is nothing to do: set annotate.llm, annotate.corpus or both")
    inputs = _inputs(plan, run)
    done = read_done(run.annotated, inputs)
    if done is not None and not done.get("incomplete"):
        return done
    pairs: list[Annotated] = []
    summary: dict[str, Any] = {"incomplete": False}
    if section.corpus is not None:
        pairs += _from_corpus(section, summary)
    if section.llm is not None:
        pairs += _from_llm(section.llm, plan, run, summary)
    write_pairs(pairs, run.annotated / PAIRS)
    summary["pairs"] = len(pairs)
    write_json(run.annotated / "summary.json", summary)
    write_done(run.annotated, inputs, summary)
    return summary


def _inputs(plan: Plan, run: RunFolder) -> dict[str, str]:
    section = plan.annotate
    found = {"plan": digest_of(section), "prompt": str(PROMPT_VERSION)}
    if section.llm is not None:
        kinds = ("impression", "judgement")
        files = [path for kind in kinds for path in event_files(run, kind)]
        found["events"] = digest_of_files(files, run.path)
        if plan.label.index_bundle is not None:
            found["texts"] = open_index(plan.label.index_bundle).digest
    if section.corpus is not None and section.corpus.path.is_file():
        found["corpus"] = digest_of_files([section.corpus.path], section.corpus.path.parent)
        found["index"] = open_index(section.corpus.index_bundle).digest
    return found


def _from_corpus(section: AnnotatePlan, summary: dict[str, Any]) -> list[Annotated]:
    assert section.corpus is not None
    usage = CorpusUsage()
    with open_finder(section.corpus.index_bundle) as finder:
        pairs = corpus_pairs(section.corpus, finder, section.weight, section.seed, usage)
    summary["corpus"] = asdict(usage)
    return pairs


def _from_llm(
    plan: LlmPlan, whole: Plan, run: RunFolder, summary: dict[str, Any]
) -> list[Annotated]:
    index = whole.label.index_bundle
    with nullcontext() if index is None else open_finder(index) as finder:
        pairs = candidates(
            run, plan, whole.annotate.seed, finder.texts if finder is not None else lambda _: {}
        )
    usage = Usage()
    with AnswerCache(run.annotated / "answers.sqlite") as cache, Grader(plan) as grader:
        grades = grade_all(pairs, grader, cache, plan, usage)
    summary["llm"] = asdict(usage)
    if usage.unasked or usage.failed:
        summary["incomplete"] = True
        sys.stderr.write(f"warning: {_left(usage)}; run the same command again to go on\n")
    weight = whole.annotate.weight
    return [
        _annotated(pairs[place], grade, plan, weight) for place, grade in sorted(grades.items())
    ]


def _left(usage: Usage) -> str:
    parts = []
    if usage.unasked:
        parts.append(f"{usage.unasked} pairs were not asked about: the budget was spent")
    if usage.failed:
        most = max(usage.failures, key=lambda why: usage.failures[why])
        parts.append(f"{usage.failed} pairs got no grade, most of them because: {most}")
    return "; ".join(parts)


def _annotated(pair: Pair, grade: int, plan: LlmPlan, weight: float) -> Annotated:
    return Annotated(
        pair.query,
        pair.tenant,
        pair.doc_id,
        pair.text,
        grade / MAX_GRADE,
        weight,
        f"llm:{plan.model}",
    )
