"""How large the loop is, and the bundles that it begins with."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from demo.bundles import Made
from demo.loop.start import DEFAULT, write_start
from demo.loop.world import World
from engine.bundles import sha256_of
from export.checkpoint import DEFAULT_ADAPTER
from export.index import build_index
from export.model_steps import Request, export_model
from export.tools import tool_versions
from schemas.manifests import Precision
from training.run_folder import digest_of_files, write_json

MADE = "made.json"


@dataclass(frozen=True)
class Setting:
    """How large the loop is. `base` is the model to begin with: see `demo.loop.start`.

    `fuse`: lists go by logit and retrieval score together; else by the logit alone.
    """

    build: Path
    base: str = DEFAULT
    fuse: bool = True
    embedder: str | None = None
    precision: Precision = "int8"
    max_tokens: int = 128
    top_k: int = 50
    shown: int = 20
    sessions: int = 20
    eta: float = 1.0
    seed: int = 7
    train: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    label: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundles:
    """What serves at first, and the index of what the held-out questions are searched in."""

    made: Made
    held_out_index: Path


def prepare(setting: Setting, world: World) -> Bundles:
    """Make the first model, its bundle and the indexes, unless they are there.

    `made.json`, written last, says what they were made from.
    """
    start, model, index = (setting.build / name for name in ("start", "model", "index"))
    parted = world.held_out_of is not world.collection
    other = setting.build / "held-out-index" if parted else index
    note, wanted = setting.build / MADE, _made_from(setting, world)
    if not (note.is_file() and json.loads(note.read_bytes()) == wanted):
        note.unlink(missing_ok=True)
        for old in {start, model, index, other}:
            shutil.rmtree(old, ignore_errors=True)
        setting.build.mkdir(parents=True, exist_ok=True)
        build_index(world.collection.corpus, index, model=setting.embedder)
        if parted:
            build_index(world.held_out_of.corpus, other, model=setting.embedder)
        _export_start(setting, start, model, index)
        write_json(note, wanted)
    return Bundles(Made(world.collection.corpus, model, index), other)


def _made_from(setting: Setting, world: World) -> dict[str, Any]:
    fields = asdict(setting)
    names = ("base", "fuse", "embedder", "precision", "max_tokens", "seed")
    corpora = (world.collection.corpus, world.held_out_of.corpus)
    return {
        **{name: fields[name] for name in names},
        "folders": [_contents(one) for one in (setting.base, setting.embedder)],
        "corpora": [sha256_of(corpus) for corpus in corpora],
        "tools": tool_versions(),
    }


def _contents(model: str | None) -> str | None:
    """Return the digest of a folder's files: another model may have come into the same folder."""
    if model is None:
        return None
    folder = DEFAULT_ADAPTER if model == DEFAULT else Path(model).expanduser()
    if not folder.is_dir():
        return None
    return digest_of_files((file for file in folder.rglob("*") if file.is_file()), folder)


def _export_start(setting: Setting, start: Path, model: Path, index: Path) -> None:
    write_start(setting.base, start, index, setting.seed, fuse=setting.fuse)
    export_model(
        Request(
            setting.precision, model, model=str(start), max_tokens=setting.max_tokens, force=True
        )
    )
