"""`python -m export inspect`: a bundle's manifest for people, after a check of every file."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bundles import MANIFEST, Bundle, open_index, open_model
from engine.remote import is_address, open_remote
from schemas.manifests import Batches, IndexManifest, IndexSegment, ModelManifest

Manifest = ModelManifest | IndexManifest
Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class Found:
    """What is at a place; `whole` is unknown of a remote bundle, of which only this is read."""

    place: str
    digest: str
    manifest: Manifest
    whole: bool | None


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "inspect",
        help="what a bundle holds and where it came from",
        description="Checks every file of a bundle and prints its manifest. Of an address, only "
        "the manifest is read.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or an address")
    parser.add_argument("--json", action="store_true", help="print digest and manifest as JSON")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Print on standard output and return the exit code; raises BundleError."""
    found = _find(arguments.bundle)
    if arguments.json:
        fields = {
            "bundle": found.place,
            "digest": found.digest,
            "checked": found.whole is True,
            "manifest": found.manifest.model_dump(mode="json", exclude_none=True),
        }
        sys.stdout.write(json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
        return 0
    for name, value in [*_head(found), *_body(found.manifest), *_files(found.manifest)]:
        sys.stdout.write(f"{name:<14}{_plain(value)}\n")
    return 0


def open_any(path: Path) -> Bundle[ModelManifest] | Bundle[IndexManifest]:
    """Verify and open a bundle of either kind; raises BundleError."""
    return open_index(path) if _kind_at(path) == "index" else open_model(path)


def _kind_at(path: Path) -> str | None:
    """Return the kind that a manifest claims; what is wrong with it is said when it is opened."""
    try:
        fields = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return fields.get("kind") if isinstance(fields, dict) else None


def _find(place: str) -> Found:
    if is_address(place):
        remote = open_remote(place)
        return Found(remote.folder.shown, remote.digest, remote.manifest, None)
    bundle = open_any(Path(place))
    return Found(place, bundle.digest, bundle.manifest, True)


def _head(found: Found) -> Lines:
    manifest = found.manifest
    size = sum(file.bytes for file in manifest.files.values())
    checked = "all match the manifest" if found.whole else "not checked"
    return [
        ("bundle", found.place),
        ("digest", found.digest),
        ("kind", manifest.kind),
        ("name", manifest.name),
        ("size", f"{size / 1e6:.1f} MB in {len(manifest.files)} files, {checked}"),
    ]


def _body(manifest: Manifest) -> Lines:
    lines = _model(manifest) if isinstance(manifest, ModelManifest) else _index(manifest)
    return [*lines, ("made with", ", ".join(f"{k} {v}" for k, v in manifest.tools.items()))]


def _model(manifest: ModelManifest) -> Lines:
    lines = [
        ("model", f"{manifest.family}, {manifest.precision}, {manifest.recipe}"),
        ("longest pair", f"{manifest.pair.max_tokens} tokens"),
        ("longest query", f"{manifest.pair.max_query_tokens} tokens"),
        ("base", f"{manifest.base.name} {manifest.base.digest}"),
    ]
    if manifest.adapter is not None:
        lines.append(("adapter", f"{manifest.adapter.name} {manifest.adapter.digest}"))
    lines += [("batches", _batches(table)) for table in manifest.batches or ()]
    return [*lines, *_verification(manifest)]


def _batches(table: Batches) -> str:
    steps = "; ".join(
        f"{step.rows} rows, {step.batch_tokens} tokens up to {step.tokens}" for step in table.steps
    )
    return f"{table.device}: {steps} ({table.machine})"


def _verification(manifest: ModelManifest) -> Lines:
    found = manifest.verification
    if found is None:
        return [("verification", "none in the manifest")]
    forced = ", FORCED against the gate" if found.forced else ""
    quantized = found.quantized.values
    measures = [
        (name, f"{quantized[name]:.4f} (fp32 {value:.4f})")
        for name, value in found.fp32.values.items()
        if name in quantized
    ]
    return [
        ("verification", f"{found.fp32.collection}, {found.fp32.queries} queries{forced}"),
        *(("tried", recipe) for recipe in found.tried),
        *measures,
        ("order", f"Kendall's tau {found.kendall_tau:.3f} to fp32"),
        ("logits", f"99 % differ by less than {found.p99_score_difference:.3f}"),
    ]


def _index(manifest: IndexManifest) -> Lines:
    embedder = manifest.embedder
    search = "".join(f", {name} {value}" for name, value in manifest.search.items())
    return [
        ("documents", f"{manifest.documents:,}"),
        ("index", f"{manifest.index_type}{search}"),
        ("embedder", f"{embedder.name}, {embedder.dimension} dimensions, {embedder.pooling}"),
        ("source", f"{embedder.source.name} {embedder.source.digest}"),
        *(("segment", _segment(segment)) for segment in manifest.segments),
    ]


def _segment(segment: IndexSegment) -> str:
    gone = f", {segment.deleted:,} of them deleted" if segment.deleted else ""
    return f"{segment.folder}: {segment.documents:,} documents, {segment.index_type}{gone}"


def _files(manifest: Manifest) -> Lines:
    return [
        ("file" if place == 0 else "", f"{entry.bytes:>13,}  {entry.sha256[:19]}…  {name}")
        for place, (name, entry) in enumerate(sorted(manifest.files.items()))
    ]


def _plain(text: str) -> str:
    """Replace control characters: a manifest from elsewhere must not steer a terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
