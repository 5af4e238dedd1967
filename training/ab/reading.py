"""Feedback from a run's Parquet (`collect`) or from JSON lines, as far as a comparison needs it."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError

from schemas.events import Click, Experiment, Impression, feedback_adapter
from training.ab.observations import Shown
from training.errors import InputError
from training.run_folder import RunFolder

MAX_BAD_SHARE = 0.05
_QUOTED = 3  # bad lines that a message shows


@dataclass
class Feedback:
    """What was read. `clicks` maps query → the documents that were clicked for long enough."""

    shown: list[Shown] = field(default_factory=list)
    clicks: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    newest_ms: int | None = None
    bad_lines: int = 0

    def saw(self, time_ms: int | None) -> None:
        """Note the time of an event."""
        if time_ms is not None:
            self.newest_ms = max(time_ms, self.newest_ms or 0)


def read(place: Path, min_dwell_ms: int) -> Feedback:
    """Read a run's folder or a file of JSON lines; raises InputError."""
    if place.is_dir():
        return _read_run(RunFolder(place), min_dwell_ms)
    if place.is_file():
        return _read_lines(place, min_dwell_ms)
    raise InputError(f"there is no {place}: name a --run folder or a file of feedback events")


def _read_run(run: RunFolder, min_dwell_ms: int) -> Feedback:
    if not run.events.is_dir():
        raise InputError(f"{run.path} has no events: `python -m training collect` reads them first")
    found = Feedback()
    for row in _rows(run, "impression", ["query_id", "time", "tier", "shown", "extra"]):
        time_ms = round(row["time"].timestamp() * 1000)
        found.saw(time_ms)
        experiment = json.loads(row["extra"] or "{}").get("experiment")
        if experiment is not None:
            ids = tuple(each["doc_id"] for each in row["shown"])
            part = Experiment.model_validate_json(json.dumps(experiment))
            found.shown.append(Shown(row["query_id"], ids, row["tier"], part, time_ms))
    for row in _rows(run, "click", ["query_id", "time", "doc_id", "dwell_ms"]):
        found.saw(round(row["time"].timestamp() * 1000))
        if _counts(row["dwell_ms"], min_dwell_ms):
            found.clicks[row["query_id"]].add(row["doc_id"])
    return found


def _rows(run: RunFolder, kind: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    for path in sorted(run.events.glob(f"kind={kind}/date=*/*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(columns=columns):
            yield from batch.to_pylist()


def _read_lines(path: Path, min_dwell_ms: int) -> Feedback:
    """Read events, a line each, in the order in which they came; `time` (ISO 8601) is optional."""
    found, total, bad = Feedback(), 0, list[str]()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            total += 1
            try:
                event, time_ms = feedback_adapter.validate_json(line), _time_ms(line)
            except (ValidationError, ValueError) as error:
                found.bad_lines += 1
                bad.append(f"line {number}: {line[:60].decode(errors='replace').strip()!r}")
                del error, bad[_QUOTED:]
                continue
            _add(found, event, time_ms, min_dwell_ms)
    if found.bad_lines > MAX_BAD_SHARE * total:
        raise InputError(
            f"{path}: {found.bad_lines} of {total} lines are no feedback events, for instance "
            + "; ".join(bad)
        )
    return found


def _add(found: Feedback, event: object, time_ms: int | None, min_dwell_ms: int) -> None:
    found.saw(time_ms)
    if isinstance(event, Impression) and event.experiment is not None:
        ids = tuple(each.doc_id for each in event.shown)
        found.shown.append(Shown(event.query_id, ids, event.tier, event.experiment, time_ms))
    elif isinstance(event, Click) and _counts(event.dwell_ms, min_dwell_ms):
        found.clicks[event.query_id].add(event.doc_id)


def _counts(dwell_ms: int | None, min_dwell_ms: int) -> bool:
    """A click of unknown length counts: not every application measures it."""
    return dwell_ms is None or dwell_ms >= min_dwell_ms


def _time_ms(line: bytes) -> int | None:
    value = json.loads(line).get("time")
    if value is None:
        return None
    time = datetime.fromisoformat(str(value))
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
