"""Reading BEIR folders (labelled collections)."""

import csv
import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class MissingCollectionError(Exception):
    """A BEIR folder lacks a file; the message says which, and how to point to the folder."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Texts and judgements; `qrels[query_id][doc_id]` is the grade, 0 is judged wrong."""

    name: str
    doc_ids: list[str]
    texts: list[str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def data_root() -> Path:
    """Where the labelled collections lie: `RERANKER_TEST_DATA`, or beside the repository."""
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    return Path(os.environ.get("RERANKER_TEST_DATA", default))


def _rows(folder: Path, stem: str) -> Iterator[dict[str, Any]]:
    for path in (folder / f"{stem}.jsonl.gz", folder / f"{stem}.jsonl"):
        if path.is_file():
            read = gzip.open if path.suffix == ".gz" else open
            with read(path, "rt", encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines)
            return
    raise MissingCollectionError(
        f"{folder} has no {stem}.jsonl[.gz]; set RERANKER_TEST_DATA to the folder of collections"
    )


def document_text(title: str, text: str) -> str:
    """What the models read of a document: title, a space, text."""
    return f"{title} {text}" if title else text


def load_collection(name: str, root: Path | None = None) -> Collection:
    """The collection `name` (a folder below `root`); queries without a right answer stay out.

    Raises MissingCollectionError.
    """
    folder = (root or data_root()) / name
    docs = [
        (str(r["_id"]), document_text(r.get("title", ""), r["text"]))
        for r in _rows(folder, "corpus")
    ]
    qrels: dict[str, dict[str, int]] = {}
    with (folder / "qrels.tsv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    queries = {str(r["_id"]): str(r["text"]) for r in _rows(folder, "queries")}
    answered = {q: t for q, t in queries.items() if any(g > 0 for g in qrels.get(q, {}).values())}
    return Collection(name, [i for i, _ in docs], [t for _, t in docs], answered, qrels)
