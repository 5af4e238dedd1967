"""One index type on simulated embeddings: time to make it, memory, time of a search, recall."""

import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from bench.index_vectors import DIMENSION, Simulation
from engine.documents import Documents, DocumentsWriter
from engine.embed import Vectors
from engine.segments import FAISS_FILE, VECTORS_FILE, Segment, map_vectors, read_faiss
from export.index_segment import append_vectors, finish

TOP_K = 100
QUERIES = 200
QUERY_SEED = 2
DOCUMENT_SEED = 1

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Searched:
    """What searching cost. `mapped_bytes` are those of files that were read, shared by processes.

    `own_bytes` are those that each process has for itself.
    """

    recall: float
    median_ms: float
    mapped_bytes: int
    own_bytes: int


@dataclass(frozen=True)
class Made:
    """What making an index cost: the peak is that of the whole process."""

    seconds: float
    peak_bytes: int
    file_bytes: int
    beside_bytes: int


def alone(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run `work` in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **options).result()


def write_vectors(path: Path, documents: int) -> None:
    """Write the simulated vectors of so many documents."""
    with path.open("wb") as file:
        for block in Simulation.new().draw(documents, DOCUMENT_SEED):
            append_vectors(file, block)


def exact(path: Path) -> list[list[int]]:
    """Return the TOP_K nearest documents of each query, by comparing with all."""
    vectors, queries = map_vectors(path, DIMENSION), _queries()
    best = np.full((len(queries), TOP_K), -1, dtype=np.int64)
    scores = np.full((len(queries), TOP_K), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), 50_000):
        block = queries @ vectors[start : start + 50_000].T
        both = np.hstack([scores, block])
        ids = np.hstack([best, np.tile(np.arange(block.shape[1]) + start, (len(queries), 1))])
        chosen = np.argpartition(-both, TOP_K, axis=1)[:, :TOP_K]
        scores, best = np.take_along_axis(both, chosen, 1), np.take_along_axis(ids, chosen, 1)
    return [[int(place) for place in row] for row in best]


def make(folder: Path, documents: int, index_type: str, threads: int) -> Made:
    """Index the vectors that lie in `folder`."""
    start = time.perf_counter()
    finish(folder, documents, DIMENSION, index_type, threads)
    beside = folder / VECTORS_FILE
    return Made(
        seconds=time.perf_counter() - start,
        peak_bytes=peak_bytes(),
        file_bytes=(folder / FAISS_FILE).stat().st_size,
        beside_bytes=beside.stat().st_size if beside.exists() else 0,
    )


def search(
    folder: Path, index_type: str, options: dict[str, int], truth: list[list[int]]
) -> Searched:
    """Search for every query, one at a time, in one thread."""
    with DocumentsWriter(folder):
        pass
    queries = _queries()
    before = _smaps()["own"]
    documents = Documents.load(folder)
    aside = folder / VECTORS_FILE
    whole = map_vectors(aside, DIMENSION) if index_type == "ivfpq" else None
    segment = _Unread(read_faiss(folder / FAISS_FILE), index_type, options, documents, whole)
    times, found = [], []
    for query in queries:
        start = time.perf_counter()
        scores, positions = segment.nearest(query, TOP_K)
        times.append(time.perf_counter() - start)
        found.append(positions[np.argsort(-scores)[:TOP_K]])
    memory = _smaps(str(folder.resolve()))
    hits = [len(set(truth[i]) & set(found[i].tolist())) for i in range(len(truth))]
    return Searched(
        recall=sum(hits) / (TOP_K * len(truth)),
        median_ms=float(np.median(times)) * 1000,
        mapped_bytes=memory["mapped"],
        own_bytes=memory["own"] - before,
    )


class _Unread(Segment):
    """A segment whose documents are not looked at."""

    def __len__(self) -> int:
        return int(self.faiss_index.ntotal)


def peak_bytes() -> int:
    """Return the most memory that this process ever had, in bytes (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _queries() -> Vectors:
    return np.concatenate(list(Simulation.new().draw(QUERIES, QUERY_SEED)))


def _smaps(below: str = "\0") -> dict[str, int]:
    """Return bytes in memory: `mapped` of files in a folder, and `own`, of no file."""
    total = {"mapped": 0, "own": 0}
    for path, fields in _mappings():
        total["own"] += fields.get("Anonymous", 0)
        if path.startswith(below):
            total["mapped"] += fields.get("Rss", 0)
    return total


def _mappings() -> Iterator[tuple[str, dict[str, Any]]]:
    path, fields = "", {}
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name and name[0].isupper() and rest.endswith(" kB"):
            fields[name] = int(rest.split()[0]) * 1024
        elif "-" in line.split(" ", 1)[0]:
            yield path, fields
            words = line.split(maxsplit=5)
            path, fields = words[5] if len(words) > 5 else "", {}
    yield path, fields
