"""A run's folder: where each step writes, whole or not at all, and what it was made from.

| path | written by | holds |
|---|---|---|
| `events/kind=…/date=…/part-*.parquet` | collect | impressions, clicks, judgements |
| `annotated/pairs.parquet` | annotate | labels by a machine |
| `labels/groups.parquet` | label | one (query, document) a row, see `training.label_rows` |
| `labels/report.html`, `summary.json`, `disagreements.csv` | label | what is in the data |
| `<step>/done.json` | each step | the digests of its inputs; equal inputs are not worked on again |
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from training.errors import TrainingError

DONE = "done.json"
BESIDE = ".part"  # ends the name of what is being written


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, `--run DIR`."""

    path: Path

    @property
    def events(self) -> Path:
        """What `collect` wrote, by kind and day."""
        return self.path / "events"

    @property
    def annotated(self) -> Path:
        """What `annotate` wrote."""
        return self.path / "annotated"

    @property
    def labels(self) -> Path:
        """What `label` wrote."""
        return self.path / "labels"

    @property
    def groups(self) -> Path:
        """The labelled pairs."""
        return self.labels / "groups.parquet"

    def step(self, name: str) -> Path:
        """Return the folder of another step."""
        return self.path / name


def digest_of(value: object) -> str:
    """Return `sha256:<hex>` of anything that JSON holds, or of a section of the plan."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def digest_of_files(paths: Iterable[Path], root: Path) -> str:
    """Return one digest of names (below `root`) and contents."""
    found = {str(path.relative_to(root)): _sha256(path) for path in sorted(paths)}
    return digest_of(found)


def read_done(folder: Path, inputs: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what the step said at its end, if it ended with these inputs; otherwise None."""
    try:
        done = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return done["summary"] if done.get("inputs") == dict(inputs) else None


def write_done(folder: Path, inputs: Mapping[str, str], summary: Mapping[str, Any]) -> None:
    """Note that a step has ended. To be called last: what it names is complete by then."""
    write_json(folder / DONE, {"inputs": dict(inputs), "summary": dict(summary)})


def write_json(path: Path, value: object) -> None:
    """Write JSON, whole or not at all."""
    with written_beside(path) as beside:
        text = json.dumps(value, indent=2, ensure_ascii=False)
        beside.write_text(text + "\n", encoding="utf-8")


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a path to write to; it gets its name when all is on disk, and is removed on an error.

    Raises TrainingError where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + BESIDE)
    _remove(beside)
    try:
        yield beside
        sync(beside)
        if path.is_dir():
            shutil.rmtree(path)
        beside.replace(path)
        sync(path.parent)
    except OSError as error:
        _remove(beside)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TrainingError(
                f"no space left to write {path}: free some and run the step again; "
                "what was there before is untouched"
            ) from None
        raise
    except BaseException:
        _remove(beside)
        raise


def sync(path: Path) -> None:
    """Bring a file, or a folder and what is right in it, to the disk."""
    for one in [*path.iterdir(), path] if path.is_dir() else [path]:
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
