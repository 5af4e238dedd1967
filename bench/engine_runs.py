"""Throughput of the engine alone: texts in, logits out."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.engine_texts import Question, Texts
from bench.engine_timing import Timing, in_turn, speed_ratio
from bench.report import Row, Table
from engine.bundles import Bundle
from engine.devices import Device, open_lanes
from engine.graph import Logits
from engine.lanes import Lanes
from engine.pairs import PairEncoder
from schemas.manifests import ModelManifest

LANES = (1, 2)
# Pairs that are handed to the lanes together, as in a worker's batch.
PAIRS_A_JOB = 1_024


@dataclass(frozen=True)
class Engine:
    """A model with its lanes."""

    encoder: PairEncoder
    lanes: Lanes

    @classmethod
    def open(cls, bundle: Bundle[ModelManifest], lanes: int, device: Device = "cpu") -> "Engine":
        """Load a bundle."""
        return cls(PairEncoder.open(bundle), open_lanes(bundle, device, lanes))

    def one_at_a_time(self, questions: Sequence[Question]) -> None:
        """Answer each question before the next is read, as when none waits."""
        for question in questions:
            self.submit([question]).result()

    def all_waiting(self, questions: Sequence[Question]) -> None:
        """Answer questions that all wait already; while some are scored, more are tokenised."""
        jobs: list[Future[Logits]] = []
        group: list[Question] = []
        for question in questions:
            group.append(question)
            if sum(len(each.documents) for each in group) >= PAIRS_A_JOB:
                jobs.append(self.submit(group))
                group = []
        jobs.append(self.submit(group))
        for job in jobs:
            job.result()

    def submit(self, questions: Sequence[Question]) -> Future[Logits]:
        """Tokenise questions and hand their pairs to the lanes."""
        pairs = [
            pair
            for question in questions
            for pair in self.encoder.encode(
                self.encoder.encode_query(question.query), question.documents
            )
        ]
        return self.lanes.submit(pairs)


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    rounds: int
    questions: int
    natural_candidates: int
    long_candidates: int

    def of(self, texts: Texts) -> Mapping[str, list[Question]]:
        """Return the questions of each kind of text."""
        return {
            "natural": texts.natural(self.questions, self.natural_candidates),
            "long": texts.long(self.questions, self.long_candidates),
        }


def throughput(
    bundles: Mapping[str, Bundle[ModelManifest]], texts: Texts, amount: Amount
) -> list[Table]:
    """Measure every precision with one and two lanes, with few and many questions waiting."""
    engines = {
        (precision, lanes): Engine.open(bundle, lanes)
        for precision, bundle in bundles.items()
        for lanes in LANES
    }
    rows: list[Row] = []
    ratios: list[Row] = []
    try:
        for kind, questions in amount.of(texts).items():
            works = _works(engines)
            timings = in_turn(
                f"Engine, {kind} lengths",
                {name: partial(_run, work, questions) for name, work in works.items()},
                amount.rounds,
            )
            shape = _Shape.of(next(iter(engines.values())).encoder, questions)
            rows += [_row(kind, shape, name, timings[name]) for name in works]
            ratios += _ratios(kind, timings)
    finally:
        for engine in engines.values():
            engine.lanes.close()
    waiting = f"{amount.questions} questions; {texts.name}"
    return [
        Table("engine", "Engine alone", rows, f"best and median of rounds in turn; {waiting}"),
        Table("engine_ratios", "Engine: ratios within a round", ratios, "median (least-most)"),
    ]


Name = str
Work = Callable[[Sequence[Question]], None]


def _works(engines: Mapping[tuple[str, int], Engine]) -> dict[Name, Work]:
    works: dict[Name, Work] = {}
    for (precision, lanes), engine in engines.items():
        works[f"{precision}, {lanes}, all waiting"] = engine.all_waiting
        if precision == "int8":
            works[f"{precision}, {lanes}, one at a time"] = engine.one_at_a_time
    return works


def _run(work: Work, questions: Sequence[Question], number: int) -> None:
    work([question.salted(f"({number})") for question in questions])


@dataclass(frozen=True)
class _Shape:
    """Sizes of a set of questions."""

    pairs: int
    tokens: int

    @classmethod
    def of(cls, encoder: PairEncoder, questions: Sequence[Question]) -> "_Shape":
        lengths = [
            len(pair.ids)
            for question in questions
            for pair in encoder.encode(encoder.encode_query(question.query), question.documents)
        ]
        return cls(len(lengths), int(np.sum(lengths)))


def _row(kind: str, shape: _Shape, name: Name, timings: Sequence[Timing]) -> Row:
    precision, lanes, mode = name.split(", ")
    best = min(timing.wall_s for timing in timings)
    middle = sorted(timing.wall_s for timing in timings)[len(timings) // 2]
    cpu = min(timing.cpu_s for timing in timings)
    return {
        "texts": kind,
        "tokens/pair": round(shape.tokens / shape.pairs, 1),
        "precision": precision,
        "lanes": int(lanes),
        "questions": mode,
        "pairs/s": round(shape.pairs / best, 1),
        "median": round(shape.pairs / middle, 1),
        "pairs/CPU s": round(shape.pairs / cpu, 1),
        "tokens/s": round(shape.tokens / best),
    }


def _ratios(kind: str, timings: Mapping[Name, Sequence[Timing]]) -> list[Row]:
    comparisons = {
        "int8 : fp32, one lane": ("int8, 1, all waiting", "fp32, 1, all waiting"),
        "int8 : fp32, two lanes": ("int8, 2, all waiting", "fp32, 2, all waiting"),
        "two lanes : one, int8": ("int8, 2, all waiting", "int8, 1, all waiting"),
        "all waiting : one at a time, int8": ("int8, 2, all waiting", "int8, 2, one at a time"),
    }
    return [
        {
            "texts": kind,
            "ratio": ratio,
            "by the clock": str(speed_ratio(timings[left], timings[right])),
            "by CPU time": str(speed_ratio(timings[left], timings[right], cpu=True)),
        }
        for ratio, (left, right) in comparisons.items()
    ]
