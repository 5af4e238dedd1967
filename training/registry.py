"""The models that served: an append-only list, and a folder of their bundles.

`models.jsonl` has a line for each change: `promote` with the lineage of the new model, `rollback`
with the digest that serves again. Lines are never altered. `bundles/<hex>` is laid out as the
volume that `bundles-from-volume` mounts.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.bundles import open_model
from training.errors import TrainingError
from training.run_folder import written_beside

MODELS = "models.jsonl"


class Lineage(BaseModel):
    """What a model came from, each by digest, so that it can be made again or explained."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    data: str
    plan: str
    base: str
    checkpoint: str
    run: str


class Change(BaseModel):
    """A line of the registry."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event: Literal["promote", "rollback"]
    at: str
    digest: str
    previous: str | None = None
    name: str = ""
    lineage: Lineage | None = None
    figures: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Registry:
    """A folder; it comes into being with the first promotion."""

    folder: Path

    def changes(self) -> list[Change]:
        """Return all lines, oldest first; raises TrainingError where one is broken."""
        file = self.folder / MODELS
        if not file.is_file():
            return []
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
        try:
            return [Change.model_validate_json(line) for line in lines]
        except ValidationError as error:
            raise TrainingError(
                f"{file} is broken, restore it from a copy: {error.errors()[0]['msg']}"
            ) from error

    def served(self) -> list[str]:
        """Return the digests up to the one that serves now, without those rolled back."""
        stack: list[str] = []
        for change in self.changes():
            if not stack and change.previous:
                stack.append(change.previous)
            if change.event == "promote":
                stack.append(change.digest)
            else:
                while stack and stack[-1] != change.digest:
                    stack.pop()
        return stack

    def current(self) -> str | None:
        """Return the digest that serves; None where nothing was promoted."""
        served = self.served()
        return served[-1] if served else None

    def bundle(self, digest: str) -> Path:
        """Return where the bundle of a digest lies, if it does."""
        return self.folder / "bundles" / digest.removeprefix("sha256:")

    def keep(self, bundle: Path, digest: str) -> Path:
        """Copy a bundle into the registry, whole or not at all; raises BundleError."""
        target = self.bundle(digest)
        if not target.is_dir():
            with written_beside(target) as beside:
                shutil.copytree(bundle, beside)
        found = open_model(target)
        if found.digest != digest:
            raise TrainingError(f"{target} is not the bundle {digest}: remove it")
        return target

    def append(self, change: Change) -> None:
        """Add a line: readers see the list with it or without it."""
        file = self.folder / MODELS
        before = file.read_text(encoding="utf-8") if file.is_file() else ""
        line = json.dumps(change.model_dump(mode="json", exclude_none=True), ensure_ascii=False)
        with written_beside(file) as beside:
            beside.write_text(before + line + "\n", encoding="utf-8")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the registry meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
