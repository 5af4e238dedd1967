"""Size, speed and independence of the batch of each family in each precision, on random models."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.report import Row, Table
from engine.bundles import open_model
from engine.graph import OnnxGraph
from export.bars import progress
from export.model_steps import Request, Summary, export_model
from schemas.manifests import Precision
from tests.unit.export.family_checkpoints import (
    write_collection,
    write_family,
    write_pairs,
)

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")
# As MiniLM-L6, but for what a family has of its own.
WORDS = 30_522
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1_536,
    "max_position_embeddings": 514,
    "initializer_range": 0.05,
}
OWN_SIZES = {
    "electra": {"embedding_size": 384},
    "deberta-v2": {"pooler_hidden_size": 384, "position_buckets": 256},
    "modernbert": {"local_attention": 128, "intermediate_size": 1_024},
    "qwen3": {"num_key_value_heads": 6, "head_dim": 32, "intermediate_size": 1_024},
}
SHAPES = ((8, 64), (2, 256))
WARM_UPS = 1


def family_table(folder: Path, families: Sequence[str], rounds: int) -> Table:
    """Export each family in each precision below `folder`, and measure."""
    data, pairs = write_collection(folder / "data"), write_pairs(folder / "pairs.jsonl")
    rows: list[Row] = []
    for family in families:
        sizes = SIZES | OWN_SIZES.get(family, {})
        model = write_family(folder / family, family, sizes)
        made = {
            precision: export_model(
                Request(
                    precision=precision,
                    model=str(model),
                    out=folder / f"{family}-{precision}",
                    max_tokens=320 if family == "qwen3" else None,
                    data=data,
                    calibration=pairs,
                )
            )
            for precision in PRECISIONS
        }
        rows += _rows(family, made, _speeds(made, rounds))
    note = (
        "bundles of random models with 6 layers of 384 and 30,522 words; speed: best of rounds in "
        "turn, one thread, CPU time, 8 pairs of 64 and 2 of 256 tokens; fp16 is for GPUs, and was "
        "only checked on the CPU"
    )
    return Table("families", "Families and precisions", rows, note)


def _speeds(made: Mapping[Precision, Summary], rounds: int) -> dict[tuple[Precision, int], float]:
    """Return pairs per CPU second, by precision and length."""
    graphs = {
        precision: OnnxGraph.open(open_model(summary.out))
        for precision, summary in made.items()
        if precision != "fp16"
    }
    best: dict[tuple[Precision, int], float] = {}
    with progress("Timing", total=len(SHAPES) * rounds) as advance:
        for rows, length in SHAPES:
            for number in range(rounds + WARM_UPS):
                for precision, graph in graphs.items():
                    speed = _speed(graph, rows, length, number)
                    if number >= WARM_UPS:
                        key = precision, length
                        best[key] = max(best.get(key, 0), speed)
                advance(number >= WARM_UPS)
    return best


def _speed(graph: OnnxGraph, rows: int, length: int, seed: int) -> float:
    ids = np.random.default_rng(seed).integers(300, WORDS, size=(rows, length))
    starts = np.full(rows, length // 4)
    began_s = time.thread_time()
    graph(ids, starts)
    return rows / (time.thread_time() - began_s)


def _rows(
    family: str,
    made: Mapping[Precision, Summary],
    speeds: Mapping[tuple[Precision, int], float],
) -> list[Row]:
    rows: list[Row] = []
    whole = _bytes(made["fp32"])
    for precision, summary in made.items():
        row: dict[str, str | int | float | None] = {
            "family": family,
            "precision": precision,
            "graph": summary.manifest.recipe,
            "MB": round(_bytes(summary) / 1e6, 1),
            "size": f"{_bytes(summary) / whole:.1%}",
        }
        for _, length in SHAPES:
            speed = speeds.get((precision, length))
            relative = None if speed is None else f"{speed / speeds['fp32', length]:.2f}"
            row[f"speed, {length} tokens"] = relative
        # The export would have failed if one of these had differed in a bit.
        row["alone as in a batch"] = f"{summary.made.rows_checked} of {summary.made.rows_checked}"
        rows.append(row)
    return rows


def _bytes(summary: Summary) -> int:
    return sum(file.bytes for file in summary.manifest.files.values())
