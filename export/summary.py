"""What `export model` says when it is done: for people, or as JSON."""

import json
import sys
from dataclasses import asdict
from typing import Any

from export.model_steps import Summary


def print_summary(summary: Summary, *, as_json: bool) -> None:
    """Write to standard output."""
    if as_json:
        sys.stdout.write(json.dumps(_fields(summary), indent=2) + "\n")
        return
    for name, value in _lines(summary):
        sys.stdout.write(f"{name:<14}{value}\n")


def _fields(summary: Summary) -> dict[str, Any]:
    manifest, made = summary.manifest, summary.made
    return {
        "out": str(summary.out),
        "digest": summary.digest,
        "name": manifest.name,
        "family": manifest.family,
        "precision": manifest.precision,
        "recipe": manifest.recipe,
        "max_tokens": manifest.pair.max_tokens,
        "bytes": _bytes(summary),
        "fp32_difference": made.fp32_difference,
        "rows_alone_as_in_batch": made.rows_checked,
        "smoothing": made.alpha,
        "agreement": asdict(made.agreement) if made.agreement else None,
        "seconds": round(summary.seconds, 1),
    }


def _lines(summary: Summary) -> list[tuple[str, str]]:
    manifest, made = summary.manifest, summary.made
    lines = [
        ("bundle", str(summary.out)),
        ("digest", summary.digest),
        ("model", f"{manifest.name} ({manifest.family}, {manifest.precision}, {manifest.recipe})"),
        ("size", f"{_bytes(summary) / 1e6:.1f} MB"),
        ("longest pair", f"{manifest.pair.max_tokens} tokens"),
        ("fp32 graph", f"within {made.fp32_difference:.1e} of the model"),
        ("batches", f"{made.rows_checked} pairs score alone exactly as in a batch"),
    ]
    if made.agreement is not None:
        found = made.agreement
        lines += [
            ("smoothing", "none" if made.alpha is None else f"alpha {made.alpha}"),
            ("order", f"Kendall's tau {found.kendall_tau:.3f} to fp32, {found.queries} queries"),
            (
                "logits",
                f"rms difference {found.rms_difference:.3f}, 99 % below {found.p99_difference:.3f}"
                f" (fp32 deviates by {found.fp32_deviation:.3f})",
            ),
        ]
    return [*lines, ("took", f"{summary.seconds:.1f} s")]


def _bytes(summary: Summary) -> int:
    return sum(file.bytes for file in summary.manifest.files.values())
