"""`python -m export push`: a bundle to an address.

Object stores know no rename of a folder, so the manifest goes last: until it is there, the folder
is no bundle, and nobody takes half of one.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from engine.bundles import MANIFEST, Bundle
from engine.errors import RemoteError
from engine.remote import (
    Advance,
    Folder,
    is_address,
    open_folder,
    open_remote,
    read_manifest,
    shown,
)
from export.bars import progress
from export.errors import ExportError, TargetExistsError
from export.inspect import open_any


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "push",
        help="a bundle to an address",
        description="Checks a bundle and uploads it, its manifest last. Pushing the same bundle "
        "again does nothing; after an interruption, push again.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    parser.add_argument("address", metavar="ADDRESS", help="file://, s3://, gs://, hf://OWNER/NAME")
    parser.add_argument("--force", action="store_true", help="replace another bundle at ADDRESS")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Upload, print the digest on standard output, and return the exit code."""
    if not is_address(arguments.address):
        raise ExportError(f"{shown(arguments.address)} is not an address: write file://, s3://, …")
    bundle = open_any(arguments.bundle)
    folder = open_folder(arguments.address)
    try:
        if not _is_there(bundle, arguments.address, folder, force=arguments.force):
            size = sum(entry.bytes for entry in bundle.manifest.files.values())
            with progress("uploading, bytes", size) as advance:
                _upload(bundle, folder, advance)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; no manifest was written: push again to finish\n")
        return 130
    sys.stdout.write(f"{bundle.manifest.kind} {bundle.manifest.name} {bundle.digest}\n")
    return 0


def _is_there(bundle: Bundle[Any], address: str, folder: Folder, *, force: bool) -> bool:
    """Tell whether this bundle is at the address; raises TargetExistsError if another one is."""
    if read_manifest(folder) is None:
        return False
    try:
        there = open_remote(address).digest
    except RemoteError:
        there = "a manifest that can't be read"
    if there == bundle.digest and not force:
        return True
    if not force:
        raise TargetExistsError(f"{folder.shown} holds {there}: add --force to replace it")
    return False


def _upload(bundle: Bundle[Any], folder: Folder, advance: Advance) -> None:
    """Send files, check what arrived by size, and send the manifest. Raises RemoteError."""
    try:
        # 1. What is being replaced stops being a bundle before its files change.
        if folder.files.exists(folder.path(MANIFEST)):
            folder.files.rm_file(folder.path(MANIFEST))
        # 2. The files.
        for name, entry in bundle.manifest.files.items():
            _put(bundle.path / name, folder, name)
            if folder.files.info(folder.path(name))["size"] != entry.bytes:
                raise RemoteError(f"{folder.shown}: {name!r} did not arrive whole: push again")
            advance(entry.bytes)
        # 3. From here on it is a bundle.
        _put(bundle.path / MANIFEST, folder, MANIFEST)
    except RemoteError:
        raise
    except Exception as error:  # each file system has its own errors
        raise _failed(folder, error) from None


def _put(file: Path, folder: Folder, name: str) -> None:
    path = folder.path(name)
    folder.files.makedirs(path.rpartition("/")[0], exist_ok=True)
    folder.files.put_file(str(file), path)


def _failed(folder: Folder, error: Exception) -> RemoteError:
    """Name the kind of failure only: texts of foreign exceptions may hold signed addresses."""
    reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
    if isinstance(error, PermissionError):
        reason = "access was refused"
    return RemoteError(f"{folder.shown} can't be written ({reason}): check address and credentials")
