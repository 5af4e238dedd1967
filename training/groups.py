"""Training data on disk: one query with its candidates a line."""

import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

RIGHT, WRONG, UNKNOWN = 1, 0, -1


@dataclass(frozen=True, slots=True)
class Group:
    """A query and its candidates; the lists run in parallel.

    `labels` holds 1 (right), 0 (wrong) or -1 (unknown); `teacher` the teacher's scores.
    `judged` is True where people judged, so that labels weigh more than the teacher.
    """

    source: str
    query: str
    candidates: list[str]
    teacher: list[float]
    labels: list[int]
    judged: bool = False


def write_groups(groups: Iterable[Group], path: Path) -> None:
    """Write gzip JSON lines; the same groups give the same bytes."""
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as out:
        for group in groups:
            out.write((json.dumps(asdict(group), ensure_ascii=False) + "\n").encode())


def read_groups(path: Path) -> list[Group]:
    """Read what `write_groups` wrote."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [Group(**json.loads(line)) for line in lines]
