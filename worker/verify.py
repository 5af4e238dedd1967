"""`python -m worker verify`: bundles are whole, and are the ones that were asked for.

Init containers run it before a worker starts. A worker checks every file of its bundles itself, but
takes any bundle that is whole; this refuses one whose digest is another.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.bundles import Bundle, open_index, open_model
from engine.errors import BundleError
from worker.errors import StartError

DESCRIPTION = """\
Check bundles: every file against the manifest, and the manifest against a digest.

  python -m worker verify --model-bundle build/model --model-digest sha256:0123…
"""


def main(arguments: Sequence[str]) -> int:
    """Check, print the digests, and return the exit code; raises StartError."""
    parser = argparse.ArgumentParser(
        prog="python -m worker verify",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model-bundle", type=Path, metavar="DIR")
    parser.add_argument("--model-digest", metavar="sha256:HEX", help="what it must be")
    parser.add_argument("--index-bundle", type=Path, metavar="DIR")
    parser.add_argument("--index-digest", metavar="sha256:HEX", help="what it must be")
    chosen = parser.parse_args(arguments)
    if chosen.model_bundle is None and chosen.index_bundle is None:
        raise StartError("nothing to verify: name --model-bundle or --index-bundle")
    _check("model", open_model, chosen.model_bundle, chosen.model_digest)
    _check("index", open_index, chosen.index_bundle, chosen.index_digest)
    return 0


def _check(
    kind: str, open_bundle: Callable[[Path], Bundle[Any]], path: Path | None, wanted: str | None
) -> None:
    if path is None:
        if wanted is not None:
            raise StartError(f"--{kind}-digest needs --{kind}-bundle")
        return
    try:
        bundle = open_bundle(path)
    except BundleError as error:
        raise StartError(f"--{kind}-bundle: {error}") from None
    if wanted is not None and bundle.digest != wanted:
        raise StartError(
            f"--{kind}-bundle: {path} is {bundle.digest}, and {wanted or 'an empty digest'} was "
            "asked for: deliver that bundle, or set the digest"
        )
    sys.stdout.write(f"{kind} {bundle.manifest.name} {bundle.digest}\n")
