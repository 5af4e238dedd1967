"""Bundles that lie elsewhere: fetched over fsspec, each file checked as it arrives.

fsspec and what it needs for a protocol are imported here only, on the first remote address, so a
worker with plain paths needs none of them. Messages never hold what may be a credential: no user
part or query of an address, and no text of a foreign exception.
"""

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from engine.bundles import MANIFEST, MAX_MANIFEST_BYTES, Bundle
from engine.errors import BundleError, RemoteError
from engine.staging import remove_left_behind, remove_unlocked, staging
from schemas.manifests import BundledFile, IndexManifest, ModelManifest, digest_of

Advance = Callable[[int], None]
M = TypeVar("M", ModelManifest, IndexManifest)

BLOCK_BYTES = 1024 * 1024
_STAGING = ".download."
# Earlier versions, which may share the cache, named theirs so and did not lock them.
_UNLOCKED = ".fetch."
_UNLOCKED_STILL_S = 24 * 3600.0
ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
PACKAGES = {
    "s3": "kafka-reranker[s3]",
    "s3a": "kafka-reranker[s3]",
    "gs": "kafka-reranker[gs]",
    "gcs": "kafka-reranker[gs]",
    "hf": "kafka-reranker[remote]",
}


@dataclass(frozen=True)
class Folder:
    """A folder of an fsspec file system; `shown` is its address without credentials."""

    files: Any  # fsspec.AbstractFileSystem: it is imported late, and has no types
    root: str
    shown: str

    def path(self, name: str) -> str:
        """Return the file system's path of a file of this folder."""
        return f"{self.root.rstrip('/')}/{name}"


@dataclass(frozen=True)
class RemoteBundle:
    """A manifest that was read from elsewhere, and where its files are. Nothing is checked yet."""

    folder: Folder
    digest: str
    manifest: ModelManifest | IndexManifest
    manifest_bytes: bytes

    @property
    def size_bytes(self) -> int:
        """Return how much `fetch_files` downloads."""
        return sum(entry.bytes for entry in self.manifest.files.values())


def is_address(text: str) -> bool:
    """Tell `s3://bucket/folder` and the like from a plain path."""
    return ADDRESS.match(text) is not None


def shown(address: str) -> str:
    """Return the address as messages may show it: without user, password, query and fragment."""
    scheme, _, rest = re.split(r"[?#]", address, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def default_cache() -> Path:
    """Return the folder for fetched bundles: `kafka-reranker/bundles` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "kafka-reranker" / "bundles"


def open_folder(address: str) -> Folder:
    """Return the folder that an address names, without a look at it; raises RemoteError."""
    protocol = urlsplit(address).scheme.lower()
    try:
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise RemoteError(
            f"{shown(address)} needs the extra [remote]: pip install 'kafka-reranker[remote]'"
        ) from None
    if "::" in address or not is_address(address):
        raise RemoteError(f"{shown(address)} is not an address: write PROTOCOL://FOLDER")
    if protocol not in fsspec.available_protocols():
        raise RemoteError(
            f"{shown(address)}: there is no protocol {protocol}: use file, s3, gs or hf, or "
            "another that fsspec knows"
        )
    try:
        files, root = fsspec.core.url_to_fs(address)
    except ImportError:
        package = PACKAGES.get(protocol, f"fsspec[{protocol}]")
        raise RemoteError(f"{shown(address)} needs a package: pip install '{package}'") from None
    except Exception as error:  # each file system has its own errors
        raise _unreachable(shown(address), error) from None
    return Folder(files, root, shown(address))


def open_remote(address: str) -> RemoteBundle:
    """Read the manifest at an address, and nothing else; raises BundleError."""
    folder = open_folder(address)
    raw = read_manifest(folder)
    if raw is None:
        raise RemoteError(f"{folder.shown} is not a bundle: it has no {MANIFEST}, or isn't there")
    return _parse(folder, raw)


def read_manifest(folder: Folder) -> bytes | None:
    """Return the bytes of a folder's manifest, None where there is none; raises RemoteError."""
    try:
        with folder.files.open(folder.path(MANIFEST), "rb") as file:
            raw: bytes = file.read(MAX_MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # each file system has its own errors
        raise _unreachable(folder.shown, error) from None
    return raw


def fetch_files(bundle: RemoteBundle, into: Path, advance: Advance = lambda _: None) -> None:
    """Download all files and the manifest into an empty folder; `advance` gets bytes done.

    Each file has the length and sha256 of the manifest, or RemoteError is raised and the folder
    is of no use: the caller gives a staging folder, and renames it afterwards.
    """
    with _local_errors(into):
        into.mkdir(parents=True, exist_ok=True)
    for name, entry in bundle.manifest.files.items():
        with _local_errors(into):
            (into / name).parent.mkdir(parents=True, exist_ok=True)
        _fetch(bundle.folder, name, entry, into / name, advance)
    with _local_errors(into):
        (into / MANIFEST).write_bytes(bundle.manifest_bytes)


def open_cached(
    address: str,
    cache: Path,
    open_bundle: Callable[[Path], Bundle[M]],
    kind: Literal["model", "index"],
) -> Bundle[M]:
    """Open the bundle at an address from the cache, downloading it where it is not there yet.

    The cache has a folder for each digest. A cached bundle that was altered is fetched again.
    Processes may share the cache: whoever is first puts the folder there. What downloads left
    behind that were killed is removed. Raises BundleError.
    """
    remote = open_remote(address)
    if remote.manifest.kind != kind:
        article = "an" if remote.manifest.kind == "index" else "a"
        raise BundleError(
            f"{remote.folder.shown} is {article} {remote.manifest.kind} bundle: name one of kind "
            f"{kind}"
        )
    folder = cache / remote.digest.removeprefix("sha256:")
    cached = _open_intact(folder, remote.digest, open_bundle)
    if cached is not None:
        return cached
    with _local_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        remove_left_behind(cache, f"{_STAGING}*")
        remove_unlocked(cache, f"{_UNLOCKED}*", _UNLOCKED_STILL_S)
        with staging(cache / f"{_STAGING}{secrets.token_hex(4)}") as place:
            fetch_files(remote, place / "new")
            _put(place, folder)
    return open_bundle(folder)


def _open_intact(
    folder: Path, digest: str, open_bundle: Callable[[Path], Bundle[M]]
) -> Bundle[M] | None:
    try:
        bundle = open_bundle(folder)
    except BundleError:
        return None
    return bundle if bundle.digest == digest else None


def _put(place: Path, folder: Path) -> None:
    """Move the altered folder of this name away, if there is one, and the new one there."""
    if folder.exists():
        folder.replace(place / "old")
    try:
        (place / "new").replace(folder)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        # Another process was first. Its folder is checked when it is opened.


def _parse(folder: Folder, raw: bytes) -> RemoteBundle:
    where = f"{folder.shown}: {MANIFEST}"
    if len(raw) > MAX_MANIFEST_BYTES:
        raise RemoteError(f"{where} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        fields = json.loads(raw, parse_constant=_refuse)
        digest = digest_of(fields)
    except (ValueError, RecursionError):
        raise RemoteError(f"{where} is not JSON") from None
    index = isinstance(fields, dict) and fields.get("kind") == "index"
    kind = IndexManifest if index else ModelManifest
    try:
        return RemoteBundle(folder, digest, kind.model_validate(fields), raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise RemoteError(f"{where}: {name}: {first['msg']}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _fetch(folder: Folder, name: str, entry: BundledFile, to: Path, advance: Advance) -> None:
    digest, size = hashlib.sha256(), 0
    with _local_errors(to.parent), to.open("xb") as file:
        for block in _blocks(folder, name):
            size += len(block)
            if size > entry.bytes:
                break
            digest.update(block)
            file.write(block)
            advance(len(block))
    if size != entry.bytes or f"sha256:{digest.hexdigest()}" != entry.sha256:
        raise RemoteError(f"{folder.shown}: {name!r} is not the file that the manifest names")


def _blocks(folder: Folder, name: str) -> Iterator[bytes]:
    """Yield a remote file in blocks; a failure on that side is a RemoteError."""
    try:
        with folder.files.open(folder.path(name), "rb") as file:
            yield from _read(file)
    except FileNotFoundError:
        raise RemoteError(
            f"{folder.shown} lacks the file {name!r} that its manifest names"
        ) from None
    except Exception as error:  # each file system has its own errors
        raise _unreachable(f"{folder.shown}: {name!r}", error) from None


def _read(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


@contextmanager
def _local_errors(folder: Path) -> Iterator[None]:
    """Turn an error of this machine's disk into one line."""
    try:
        yield
    except OSError as error:
        raise BundleError(f"can't write to {folder}: {error.strerror or error}") from None


def _unreachable(what: str, error: Exception) -> RemoteError:
    """Name the kind of failure only: texts of foreign exceptions may hold signed addresses."""
    if isinstance(error, RemoteError):
        return error
    if isinstance(error, PermissionError):
        return RemoteError(f"{what}: access was refused: check the credentials and their rights")
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
    return RemoteError(
        f"{what} can't be reached ({reason or type(error).__name__}): check address, credentials "
        "and network"
    )
