"""`python -m export index`: a corpus into an index bundle, or such a bundle into a changed one."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from engine.bundles import open_index
from export.errors import ExportError
from export.index_build import build_index
from export.index_segment import processors
from export.index_types import INDEX_TYPES
from export.index_update import Changes, update_index
from schemas.manifests import IndexManifest

__all__ = ["add_parser", "build_index", "processors", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command `index`."""
    parser = subparsers.add_parser(
        "index", help="a corpus into an index bundle", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="CORPUS.jsonl[.gz]",
        help="one JSON object a line: _id, text, and title where there is one",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle")
    parser.add_argument(
        "--model",
        metavar="PATH_OR_ID",
        help="an embedding model in the format of sentence-transformers (default: MiniLM)",
    )
    parser.add_argument(
        "--index-type",
        choices=INDEX_TYPES,
        help="instead of the type for the number of documents; see docs/bundles.md",
    )
    parser.add_argument("--name", help="of the index, in results and metrics")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")
    parser.add_argument("--force", action="store_true", help="replace the bundle at --out")
    _add_changes(parser.add_argument_group("changing a bundle, instead of --corpus"))
    parser.set_defaults(func=run)


def _add_changes(group: Any) -> None:
    group.add_argument(
        "--base", type=Path, metavar="DIR", help="the bundle to start from; it stays as it is"
    )
    group.add_argument(
        "--add", type=Path, metavar="CORPUS.jsonl[.gz]", help="documents that are new"
    )
    group.add_argument(
        "--delete", type=Path, metavar="IDS", help="a file of ids, one a line, or .jsonl with _id"
    )
    group.add_argument(
        "--replace", action="store_true", help="--add may bring ids that are there already"
    )
    group.add_argument("--merge", action="store_true", help="make one segment of all")


def run(arguments: argparse.Namespace) -> int:
    """Build or change an index and say what was made."""
    start = time.perf_counter()
    out = _update(arguments) if arguments.base is not None else _build(arguments)
    bundle = open_index(out)
    made = {
        "path": str(out),
        "name": bundle.manifest.name,
        "digest": bundle.digest,
        "documents": bundle.manifest.documents,
        "index_type": bundle.manifest.index_type,
        "segments": max(1, len(bundle.manifest.segments)),
        "embedder": bundle.manifest.embedder.name,
        "bytes": sum(entry.bytes for entry in bundle.manifest.files.values()),
        "seconds": round(time.perf_counter() - start, 1),
    }
    if arguments.json:
        sys.stdout.write(json.dumps(made, ensure_ascii=False) + "\n")
    else:
        Console().print(
            f"{made['path']}: {made['documents']:,} documents, {made['index_type']}, "
            f"{_count(bundle.manifest)}, {made['digest']}, in {made['seconds']} s",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    return 0


def _count(manifest: IndexManifest) -> str:
    return f"{len(manifest.segments)} segments" if len(manifest.segments) > 1 else "1 segment"


def _build(arguments: argparse.Namespace) -> Path:
    if arguments.corpus is None:
        raise ExportError("name a --corpus, or a bundle to change with --base")
    if arguments.add or arguments.delete or arguments.replace or arguments.merge:
        raise ExportError("--add, --delete, --replace and --merge change a bundle: name its --base")
    return build_index(
        arguments.corpus,
        arguments.out,
        model=arguments.model,
        name=arguments.name,
        force=arguments.force,
        index_type=arguments.index_type,
    )


def _update(arguments: argparse.Namespace) -> Path:
    if arguments.corpus is not None or arguments.model is not None:
        raise ExportError(
            "--base keeps its embedding model: leave out --model, and use --add, not --corpus"
        )
    if not (arguments.add or arguments.delete or arguments.merge):
        raise ExportError("say what to change with --add, --delete or --merge")
    changes = Changes(
        add=arguments.add,
        delete=arguments.delete,
        replace=arguments.replace,
        merge=arguments.merge,
        index_type=arguments.index_type,
    )
    return update_index(
        arguments.base, arguments.out, changes, name=arguments.name, force=arguments.force
    )
