"""What was aimed at beside what the last runs measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.report import Row, Table

Runs = Mapping[str, Mapping[str, Any]]
TORCH = "sentence-transformers, torch fp32"
OPENVINO = "sentence-transformers, OpenVINO static int8"
FLASHRANK = "FlashRank, the same ONNX dynamic int8"
TEI = "Text Embeddings Inference, the same ONNX dynamic int8"
NO_RUN = "no run"


@dataclass(frozen=True)
class Target:
    """A row of a run's table, a column of it, and the bound; `most` where less is better.

    The row is the first whose cells hold all of `where`.
    """

    what: str
    run: str
    table: str
    where: Mapping[str, str]
    column: str
    bound: float
    most: bool = False

    def row(self, runs: Runs) -> Row:
        """Return the target, what was measured, and whether that is enough."""
        sign = "≤" if self.most else "≥"
        cells: dict[str, str | int | float | None]
        cells = {
            "what": self.what,
            "target": f"{sign} {self.bound:g}",
            "measured": NO_RUN,
            "met": "",
        }
        found = self._find(runs.get(self.run))
        if found is not None:
            value = float(found.split(" ")[0].replace(",", "").rstrip("%"))
            met = value <= self.bound if self.most else value >= self.bound
            cells |= {"measured": found, "met": "yes" if met else "no"}
        return cells

    def _find(self, run: Mapping[str, Any] | None) -> str | None:
        rows = [] if run is None else run["tables"].get(self.table, [])
        for row in rows:
            if all(str(row.get(column)) == text for column, text in self.where.items()):
                return None if row.get(self.column) is None else str(row[self.column])
        return None


def _peer(name: str, mode: str, natural: float, long: float) -> list[Target]:
    return [
        Target(
            f"{name}, {mode}, {kind} lengths",
            "peers",
            f"peers_{kind}",
            {"reranker": name, "questions": mode},
            "ours : it",
            bound,
        )
        for kind, bound in (("natural", natural), ("long", long))
    ]


def _worker(what: str, row: str, bound: float, *, most: bool) -> Target:
    return Target(what, "bench", "worker", {"what": row}, "value", bound, most)


def _graph(tokens: int, bound: float) -> Target:
    what = f"int8 graph : fp32 as Optimum exports it, one thread, {tokens} tokens"
    where = {"tokens": str(tokens)}
    return Target(what, "bench", "lengths", where, "int8 : plain fp32", bound)


TARGETS: Sequence[Target] = (
    _graph(128, 2.6),
    *_peer(TORCH, "all waiting", 3.0, 3.0),
    *_peer(OPENVINO, "all waiting", 1.5, 1.2),
    *_peer(OPENVINO, "one at a time", 1.2, 1.1),
    *_peer(TEI, "all waiting", 1.9, 2.0),
    *_peer(FLASHRANK, "all waiting", 2.3, 2.4),
    *(
        Target(
            f"the engine with its cascade : without, {kind} lengths",
            "cascade",
            "cascade",
            {"texts": kind, "cascade": "with"},
            ": without",
            2.0,
        )
        for kind in ("natural", "long")
    ),
    _worker(
        "the whole worker : the engine alone, pairs/s",
        "worker : engine, pairs/s in the same round",
        0.9,
        most=False,
    ),
    _worker(
        "one waiting event of 100 candidates: ms more than the engine",
        "... more than the engine alone, ms",
        15,
        most=True,
    ),
    _worker(
        "an event whose pairs are all cached, % of a fresh one",
        "known : new, % by the clock",
        2,
        most=True,
    ),
    _worker("start to ready, s", "start to ready, s", 3, most=True),
    Target(
        "memory at its peak, times the fp32 model's file",
        "bench",
        "worker",
        {"what": "... times the fp32 model's file"},
        "value",
        3,
        most=True,
    ),
    # Two cores are free for the engine alone only: a whole worker shares them with the broker.
    Target(
        "two lanes : one, the engine",
        "bench",
        "engine_ratios",
        {"texts": "natural", "ratio": "two lanes : one, int8"},
        "by the clock",
        1.8,
    ),
    Target(
        "two lanes : one, the worker, with broker and application on the same cores",
        "scale",
        "fleet_ratios",
        {"ratio": "two lanes : one"},
        "within a round",
        1.8,
    ),
)


def target_table(runs: Runs) -> Table:
    """Return all targets with what was measured."""
    note = "Of ratios: the median of the rounds, then (least-most)."
    return Table("targets", "Targets", [target.row(runs) for target in TARGETS], note)
