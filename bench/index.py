"""`python -m bench.index types` and `python -m bench.index build`: what indexes cost.

Both use simulated embeddings (see `bench.index_vectors`), so that a million documents take
minutes and not hours. `types` makes an index of each type and measures recall@100 against
comparing with all documents. `build` makes a whole bundle of short passages, with everything that
`export index` does but for the embedding model.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.index_build import build, write_corpus
from bench.index_types import alone, exact, make, search, write_vectors
from engine.segments import VECTORS_FILE
from export.index_segment import processors
from export.index_types import INDEX_TYPES, choose

_SEARCHES: dict[str, list[dict[str, int]]] = {
    "flat": [{}],
    "hnsw": [{"efSearch": 128}, {"efSearch": 256}],
    "ivfpq": [
        {"nprobe": 32, "rescore": 4},
        {"nprobe": 64, "rescore": 4},
        {"nprobe": 64, "rescore": 8},
        {"nprobe": 128, "rescore": 8},
    ],
}


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and return the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        rows: list[dict[str, Any]] = options.func(options, Path(name))
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        _show(rows)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.index", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, help="for the files (default: the system's)")
    common.add_argument("--json", action="store_true", help="print JSON, not a table")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    types = commands.add_parser("types", parents=[common], help="recall, memory and time by type")
    types.add_argument("--documents", type=int, nargs="+", default=[50_000, 250_000])
    types.add_argument("--types", nargs="+", choices=INDEX_TYPES, default=list(INDEX_TYPES))
    types.set_defaults(func=_types)
    whole = commands.add_parser("build", parents=[common], help="a whole bundle: time and memory")
    whole.add_argument("--documents", type=int, default=1_000_000)
    whole.add_argument("--index-type", choices=INDEX_TYPES)
    whole.set_defaults(func=_build)
    return parser


def _types(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    rows = []
    for documents in options.documents:
        vectors = folder / f"{documents}.f32"
        alone(write_vectors, vectors, documents)
        truth = alone(exact, vectors)
        for index_type in options.types:
            inside = folder / f"{documents}-{index_type}"
            inside.mkdir()
            # Linked, because a type whose index holds the vectors removes this file.
            (inside / VECTORS_FILE).hardlink_to(vectors)
            made = alone(make, inside, documents, index_type, processors())
            for settings in _SEARCHES[index_type]:
                used = settings == choose(documents, index_type).search
                found = alone(search, inside, index_type, settings, truth)
                row = {"documents": documents, "type": index_type, "search": settings}
                rows.append(row | {"default": used} | asdict(made) | asdict(found))
            shutil.rmtree(inside)
        vectors.unlink()
    return rows


def _build(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    alone(write_corpus, folder / "corpus.jsonl", options.documents)
    row = alone(build, folder / "corpus.jsonl", folder / "bundle", options.index_type)
    return [row]


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    Console(width=200).print(table)


def _cell(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return f"{value / 1e6:,.0f} MB"
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if type(value) is int else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
