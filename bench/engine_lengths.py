"""Speed of one lane's graph at fixed lengths, in CPU time, against fp32 and another runtime.

CPU time of the process, of which nothing else runs: OpenVINO computes on threads of its own.
"""

import time
from collections.abc import Mapping
from statistics import median

import numpy as np

from bench.report import Row, Table
from engine.batches import MAX_BATCH_TOKENS, MAX_ROWS
from engine.graph import Graph
from export.bars import progress

LENGTHS = (32, 64, 128, 256)
VOCABULARY = (1_000, 20_000)
WARM_UPS = 2


def at_lengths(graphs: Mapping[str, Graph], rounds: int) -> Table:
    """Measure graphs in turn; the first is compared with each of the others."""
    rows: list[Row] = []
    with progress("Graphs at fixed lengths", total=len(LENGTHS) * rounds) as advance:
        for length in LENGTHS:
            seconds: dict[str, list[float]] = {name: [] for name in graphs}
            for number in range(rounds + WARM_UPS):
                for name, graph in graphs.items():
                    taken_s = _run(graph, length, number)
                    if number >= WARM_UPS:
                        seconds[name].append(taken_s)
                advance(number >= WARM_UPS)
            rows.append(_row(length, seconds))
    note = "best of rounds in turn, one thread, CPU time; ratios of the best and (of the medians)"
    return Table("lengths", "Graphs at fixed lengths: pairs/CPU s", rows, note)


def _run(graph: Graph, length: int, seed: int) -> float:
    """Return CPU seconds a pair of one batch as the lanes would make it."""
    count = max(1, min(MAX_ROWS, MAX_BATCH_TOKENS // length))
    ids = np.random.default_rng(seed).integers(*VOCABULARY, size=(count, length))
    starts = np.full(count, length // 4)
    began_s = time.process_time()
    graph(ids, starts)
    return (time.process_time() - began_s) / count


def _row(length: int, seconds: Mapping[str, list[float]]) -> Row:
    ours, *others = seconds
    row: dict[str, str | int | float | None] = {"tokens": length}
    row |= {name: round(1 / min(values), 1) for name, values in seconds.items()}
    for other in others:
        best = min(seconds[other]) / min(seconds[ours])
        middle = median(seconds[other]) / median(seconds[ours])
        row[f"{ours} : {other}"] = f"{best:.2f} ({middle:.2f})"
    return row
