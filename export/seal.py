"""Last step: turns a finished staging folder into a bundle that appears whole or not at all."""

import ctypes
import glob
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from engine.bundles import MANIFEST, sha256_of
from engine.staging import remove_left_behind, staging
from export.errors import ExportError, TargetExistsError
from schemas.manifests import BundledFile, IndexManifest, ModelManifest, canonical_json

_STAGING = ".new"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def staging_beside(out: Path, *, force: bool = False, flag: str = "--force") -> Iterator[Path]:
    """Give an empty folder on the file system of `out`; it is gone afterwards unless sealed.

    Asks first whether `out` may be written, so that a long export doesn't fail at its end. What
    exports to `out` left behind that were killed is removed.
    """
    check_target(out, force=force, flag=flag)
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(out.parent, f".{glob.escape(out.name)}.*{_STAGING}")
    with staging(out.parent / f".{out.name}.{secrets.token_hex(4)}{_STAGING}") as folder:
        yield folder


def check_target(out: Path, *, force: bool = False, flag: str = "--force") -> None:
    """Raise TargetExistsError where `out` holds something that may not be replaced.

    `flag` is what the command calls `force`. Even with it only a bundle or an empty folder is
    replaced: a mistyped path costs nothing.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise TargetExistsError(f"{out} exists and is not a folder: choose another --out")
    if not any(out.iterdir()):
        return
    if not force:
        raise TargetExistsError(f"{out} exists already: add {flag} to replace it")
    if not (out / MANIFEST).is_file():
        raise TargetExistsError(f"{out} is not a bundle, so {flag} won't replace it")


def seal(
    staging: Path, manifest: Mapping[str, Any] | BaseModel, out: Path, *, force: bool = False
) -> Path:
    """Hash all files of `staging`, add its manifest, and rename it to `out`; returns `out`.

    `manifest` is a ModelManifest or IndexManifest, or its fields with `kind`; its `files` are set
    here. `staging` must be on the file system of `out`. Raises TargetExistsError, ExportError.
    """
    check_target(out, force=force)
    fields = manifest.model_dump(mode="json") if isinstance(manifest, BaseModel) else dict(manifest)
    fields["files"] = {name: entry.model_dump() for name, entry in _hash_all(staging).items()}
    kind = IndexManifest if fields.get("kind") == "index" else ModelManifest
    whole = kind.model_validate(fields)
    text = canonical_json(whole.model_dump(mode="json", exclude_none=True))
    (staging / MANIFEST).write_bytes(text + b"\n")
    place(staging, out)
    return out


def place(staging: Path, out: Path) -> None:
    """Rename a folder that is a whole bundle already to `out`, as readable as the umask lets."""
    _make_readable(staging)
    _move(staging, out)


def _hash_all(staging: Path) -> dict[str, BundledFile]:
    files = sorted(path for path in staging.rglob("*") if not path.is_dir() or path.is_symlink())
    entries = {}
    for path in files:
        name = path.relative_to(staging).as_posix()
        if path.is_symlink() or not path.is_file():
            raise ExportError(f"{name} is not a plain file, so it can't be part of a bundle")
        if name != MANIFEST:
            entries[name] = BundledFile(sha256=sha256_of(path), bytes=path.stat().st_size)
    return entries


def _make_readable(staging: Path) -> None:
    """Open the folder, private so far, to those whom the umask lets read."""
    mask = os.umask(0)
    os.umask(mask)
    staging.chmod(0o777 & ~mask)
    for path in staging.rglob("*"):
        mode = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO if path.is_dir() else 0o666
        path.chmod(mode & ~mask)


def _move(staging: Path, out: Path) -> None:
    if not out.exists() or not any(out.iterdir()):
        staging.replace(out)
    elif not _exchange(staging, out):
        # No exchange on this system: `out` is missing for the moment between two renames.
        aside = staging.with_name(staging.name + ".old")
        out.replace(aside)
        staging.replace(out)
        shutil.rmtree(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, with Linux's renameat2; False where that doesn't exist."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    result: int = rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)
    if result == 0:
        shutil.rmtree(one)
    return result == 0
