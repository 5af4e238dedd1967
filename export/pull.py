"""`python -m export pull`: a bundle from an address, checked on arrival.

Needs the extra [remote] and nothing of [export]: init containers run it in the worker's image.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from engine.errors import BundleError
from engine.remote import RemoteBundle, fetch_files, is_address, open_remote, shown
from export.bars import progress
from export.errors import ExportError
from export.inspect import open_any
from export.seal import place, staging_beside
from schemas.manifests import SHA256


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "pull",
        help="a bundle from an address, checked on arrival",
        description="Downloads a bundle beside --out, checks every file against the manifest, and "
        "renames it. A download that is interrupted leaves nothing. Where --out is that bundle "
        "already, whole, nothing is downloaded.",
    )
    parser.add_argument("address", metavar="ADDRESS", help="file://, s3://, gs://, hf://OWNER/NAME")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the bundle's folder"
    )
    parser.add_argument("--digest", metavar="sha256:HEX", help="refuse any other bundle")
    parser.add_argument("--force", action="store_true", help="replace the bundle at --out")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Download, print the digest on standard output, and return the exit code."""
    if not is_address(arguments.address):
        raise ExportError(f"{shown(arguments.address)} is not an address: write file://, s3://, …")
    if arguments.digest is not None and not re.match(SHA256, arguments.digest):
        raise ExportError("--digest is sha256: and 64 hex digits, as `export inspect` prints it")
    bundle = open_remote(arguments.address)
    _check_digest(bundle, arguments.digest)
    if not _is_there(bundle, arguments.out):
        _download(bundle, arguments.out, force=arguments.force)
    sys.stdout.write(f"{bundle.manifest.kind} {bundle.manifest.name} {bundle.digest}\n")
    return 0


def _check_digest(bundle: RemoteBundle, wanted: str | None) -> None:
    """Refuse before the download: the digest covers those of all files."""
    if wanted is not None and bundle.digest != wanted:
        raise ExportError(
            f"{bundle.folder.shown} is {bundle.digest}, and {wanted} was asked for: pull from "
            "where that bundle is, or set --digest"
        )


def _is_there(bundle: RemoteBundle, out: Path) -> bool:
    """Tell whether `out` is this bundle, with every file as it must be.

    An init container that runs a second time finds what the first has fetched.
    """
    try:
        return open_any(out).digest == bundle.digest
    except BundleError:
        return False


def _download(bundle: RemoteBundle, out: Path, *, force: bool) -> None:
    with staging_beside(out, force=force) as staging:
        with progress("downloading, bytes", bundle.size_bytes) as advance:
            fetch_files(bundle, staging, advance)
        place(staging, out)
