"""What `export model` says when it is done: for people, or as JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from export.gate import Attempt, GateError
from export.model_steps import Summary
from schemas.manifests import Verification


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
        "gate": _gate(made.attempts),
        "forced": bool(manifest.verification and manifest.verification.forced),
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
    lines += [("tried", str(attempt)) for attempt in made.attempts]
    if manifest.verification is not None:
        lines += _gate_lines(manifest.verification)
    return [*lines, ("took", f"{summary.seconds:.1f} s")]


def print_refusal(error: GateError, *, as_json: bool) -> None:
    """Write the figures of all attempts to standard output."""
    if as_json:
        fields = {"out": None, "error": str(error), "gate": _gate(error.attempts)}
        sys.stdout.write(json.dumps(fields, indent=2) + "\n")
        return
    for attempt in error.attempts:
        found = attempt.figures
        sys.stdout.write(
            f"{'tried':<14}{attempt}\n{'':<14}Kendall's tau {found.kendall_tau:.3f}, 99 % of "
            f"logits differ by less than {found.p99_difference:.3f} "
            f"(fp32 deviates by {found.fp32_deviation:.3f})\n"
        )


def _gate(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    return [{**asdict(attempt), "ratio": attempt.figures.ratio} for attempt in attempts]


def _gate_lines(found: Verification) -> list[tuple[str, str]]:
    name = "NDCG@10"
    return [
        ("judged by", f"{found.fp32.collection}, {found.fp32.queries} queries"),
        (
            name,
            f"{found.quantized.values[name]:.4f}, fp32 {found.fp32.values[name]:.4f}"
            + (" - written against the gate" if found.forced else ""),
        ),
        ("order", f"Kendall's tau {found.kendall_tau:.3f} to fp32"),
        ("logits", f"99 % differ by less than {found.p99_score_difference:.3f}"),
    ]


def _bytes(summary: Summary) -> int:
    return sum(file.bytes for file in summary.manifest.files.values())
