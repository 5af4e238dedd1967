"""Opens bundles: reads the manifest, checks every file against it, names the whole by digest."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from engine.errors import BundleError
from schemas.manifests import BundledFile, IndexManifest, ModelManifest, digest_of

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024

M = TypeVar("M", ModelManifest, IndexManifest)


@dataclass(frozen=True)
class Bundle(Generic[M]):
    """A verified folder."""

    path: Path
    digest: str
    manifest: M

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest names; raises BundleError for others."""
        if name not in self.manifest.files:
            raise BundleError(f"bundle {self.path} has no file {name!r}")
        return self.path / name


def open_model(path: Path) -> Bundle[ModelManifest]:
    """Verify and open a model bundle; raises BundleError."""
    return _open(path, ModelManifest)


def open_index(path: Path) -> Bundle[IndexManifest]:
    """Verify and open an index bundle; raises BundleError."""
    return _open(path, IndexManifest)


def sha256_of(path: Path) -> str:
    """Return `sha256:<hex>` of a file, read in blocks."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: Path, model: type[M]) -> Bundle[M]:
    raw = _read_manifest(path)
    try:
        manifest = model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path / MANIFEST}: {where}: {first['msg']}") from None
    for name, entry in manifest.files.items():
        _check_file(path, name, entry)
    return Bundle(path=path, digest=digest_of(raw), manifest=manifest)


def _read_manifest(path: Path) -> object:
    file = path / MANIFEST
    if not file.is_file():
        raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{file} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        return json.loads(file.read_bytes(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is not JSON: {error}") from None


def _refuse(constant: str) -> None:
    """Refuse NaN and the like: they are no JSON, and have no canonical form."""
    raise ValueError(f"{constant} is no JSON number")


def _check_file(folder: Path, name: str, entry: BundledFile) -> None:
    file = folder / name
    if not file.is_file():
        raise BundleError(f"bundle {folder} lacks the file {name!r} that its manifest names")
    if file.stat().st_size != entry.bytes or sha256_of(file) != entry.sha256:
        raise BundleError(f"bundle {folder}: {name!r} is not the file that the manifest names")
