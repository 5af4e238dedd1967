"""`python -m export tune`: the fastest batches for a model on this machine, kept in its bundle.

1. Time batches of several sizes at several lengths, in turn.
2. Where one is faster than the default beyond noise, prove that it changes no score.
3. Write the bundle's manifest anew, with the sizes in it. Its digest follows from it.
"""

import argparse
import json
import os
import platform
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.bundles import MANIFEST, Bundle, open_model
from engine.devices import Device, default_size, open_graph
from engine.graph import runtime_versions
from engine.pairs import PairEncoder
from export.errors import ExportError, VerificationError
from export.seal import check_target, place, staging_beside
from export.tune_grid import Choice, Grid, choose
from schemas.manifests import ModelManifest, canonical_json, digest_of

ROUNDS = 9
# TensorRT's engine is built for its batches, so they are no choice.
CLOCKS: dict[Device, Callable[[], float]] = {
    "cpu": time.thread_time,
    "openvino": time.process_time,
    "cuda": time.perf_counter,
}


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "tune",
        help="the fastest batches for a model on this machine, kept in its bundle",
        description="Times batches of several sizes and lengths with one lane, and keeps those "
        "that are faster than the default beyond noise in the manifest. Scores stay the same bit "
        "for bit; the bundle's digest changes, so tune before it is pushed, promoted or part of a "
        "cascade. A bundle for which nothing is faster stays as it is.",
    )
    parser.add_argument("--model-bundle", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="a new bundle (default: the manifest of --model-bundle is replaced, in one step)",
    )
    parser.add_argument("--force", action="store_true", help="replace the bundle at --out")
    parser.add_argument("--device", choices=sorted(CLOCKS), default="cpu")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="of a batch that is tried; larger ones hold up what waits (default: twice the "
        "device's own)",
    )
    parser.add_argument("--dry-run", action="store_true", help="measure and print, write nothing")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, write, print; return the exit code."""
    if arguments.rounds < 1:
        raise ExportError("--rounds must be at least 1")
    if arguments.max_tokens is not None and arguments.max_tokens < 1:
        raise ExportError("--max-tokens must be at least 1")
    bundle = open_model(arguments.model_bundle)
    out: Path | None = arguments.out
    if out is not None and not arguments.dry_run and not _is_at(bundle, out):
        check_target(out, force=arguments.force)  # said before the minutes of measuring
    choices = measure(bundle, arguments.device, arguments.rounds, arguments.max_tokens)
    raw = tuned(bundle, arguments.device, choices)
    digest = bundle.digest
    if not arguments.dry_run:
        digest = write(bundle, raw, out, force=arguments.force)
    if arguments.json:
        sys.stdout.write(json.dumps(_report(bundle, choices, digest), indent=2) + "\n")
    else:
        _show(choices)
        _say(arguments, bundle, digest)
    return 0


def measure(
    bundle: Bundle[ModelManifest], device: Device, rounds: int, most_tokens: int | None = None
) -> list[Choice]:
    """Return the best size for each length, shortest first; raises VerificationError."""
    manifest = bundle.manifest
    default = default_size(manifest, device)
    grid = Grid(
        open_graph(bundle, device, 1),
        default,
        manifest.pair.max_tokens,
        PairEncoder.open(bundle).tokenizer.get_vocab_size(with_added_tokens=False),
        most_tokens or 2 * default.tokens,
        CLOCKS[device],
    )
    choices = [choose(length, seconds) for length, seconds in grid.time(rounds).items()]
    if device != "cuda":  # where libraries choose how they compute by the shape
        for choice in choices:
            _prove(grid, choice)
    return choices


def _prove(grid: Grid, choice: Choice) -> None:
    """Raise VerificationError where a row does not score alone as it does in the batch."""
    rows = choice.size.rows_of(choice.length)
    ids, starts = grid.random_ids(choice.length, rows, seed=0), np.full(rows, choice.length // 4)
    together = grid.graph(ids, starts)
    alone = [grid.graph(ids[at : at + 1], starts[at : at + 1])[0] for at in range(rows)]
    if together.tolist() != [float(logit) for logit in alone]:
        raise VerificationError(
            f"in a batch of {rows} a pair of {choice.length} tokens scores otherwise than alone: "
            "nothing was written; export the bundle again"
        )


def tuned(bundle: Bundle[ModelManifest], device: Device, choices: Sequence[Choice]) -> Any:
    """Return the manifest's JSON with the choices: as it is, where they are no news.

    Fields that this version does not know stay.
    """
    raw = json.loads((bundle.path / MANIFEST).read_bytes())
    known = raw.get("batches") or []
    steps = _steps(choices) if any(choice.gain > 1 for choice in choices) else []
    if steps == next((table["steps"] for table in known if table["device"] == device), []):
        return raw
    tables = [table for table in known if table["device"] != device]
    if steps:
        tables.append({"device": device, "machine": machine(), "steps": steps})
    raw.pop("batches", None)
    return raw | ({"batches": tables} if tables else {})


def _steps(choices: Sequence[Choice]) -> list[dict[str, int]]:
    """Return steps of the manifest; lengths in a row with one size are one step."""
    steps: list[dict[str, int]] = []
    for choice in choices:
        size = {"rows": choice.size.rows, "batch_tokens": choice.size.tokens}
        if steps and size.items() <= steps[-1].items():
            steps.pop()
        steps.append({"tokens": choice.length, **size})
    return steps


def write(bundle: Bundle[ModelManifest], raw: Any, out: Path | None, *, force: bool) -> str:
    """Write the manifest, at `out` with the other files; return the digest. Raises ExportError."""
    ModelManifest.model_validate(raw)
    text = canonical_json(raw) + b"\n"
    if out is None or _is_at(bundle, out):
        if digest_of(raw) != bundle.digest:
            _replace(bundle.path / MANIFEST, text)
        return open_model(bundle.path).digest
    with staging_beside(out, force=force) as staging:
        for name in bundle.manifest.files:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.file(name), staging / name)
        (staging / MANIFEST).write_bytes(text)
        place(staging, out)
    return open_model(out).digest


def _is_at(bundle: Bundle[ModelManifest], out: Path) -> bool:
    return out.resolve() == bundle.path.resolve()


def _replace(file: Path, text: bytes) -> None:
    """Replace a file in one step: whoever opens it finds the old one or the new one."""
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as new:
            os.fchmod(new.fileno(), file.stat().st_mode & 0o777)
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def machine() -> str:
    """Return what the batches were measured on, for people."""
    versions = runtime_versions()
    return f"{_cpu_name()}, onnxruntime {versions['onnxruntime']}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _report(
    bundle: Bundle[ModelManifest], choices: Sequence[Choice], digest: str
) -> dict[str, Any]:
    return {
        "machine": machine(),
        "lengths": [
            {
                "tokens": choice.length,
                "rows": choice.size.rows_of(choice.length),
                "batch_tokens": choice.size.tokens,
                "pairs_per_s": round(choice.pairs_per_s, 1),
                "default_pairs_per_s": round(choice.default_pairs_per_s, 1),
                "gain": round(choice.gain, 3),
            }
            for choice in choices
        ],
        "digest_before": bundle.digest,
        "digest": digest,
    }


def _show(choices: Sequence[Choice]) -> None:
    columns = [("tokens", "rows", "pairs/s", "default", "gain")] + [
        (
            str(choice.length),
            str(choice.size.rows_of(choice.length)),
            f"{choice.pairs_per_s:,.4g}",
            f"{choice.default_pairs_per_s:,.4g}",
            f"{choice.gain:.2f}",
        )
        for choice in choices
    ]
    for line in zip(*columns, strict=True):
        sys.stdout.write(f"{line[0]:<9}" + "".join(f"{value:>9}" for value in line[1:]) + "\n")


def _say(arguments: argparse.Namespace, bundle: Bundle[ModelManifest], digest: str) -> None:
    out = arguments.out or bundle.path
    if arguments.dry_run:
        sys.stdout.write(f"{bundle.path} stays {digest}: nothing was written\n")
    elif digest == bundle.digest:
        sys.stdout.write(f"{out} stays {digest}: it has the fastest batches\n")
    else:
        sys.stdout.write(f"{out} is {digest}, was {bundle.digest}\n")
