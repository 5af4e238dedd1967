"""Documents and an embedder to the files of one segment, in blocks and bounded memory."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from engine.documents import Documents, DocumentsWriter
from engine.embed import Vectors
from engine.segments import FAISS_FILE, VECTORS_FILE, map_vectors
from export.bars import Advance, progress
from export.corpus import CorpusDocument
from export.errors import ExportError
from export.index_types import Choice, bytes_needed, choose, write_index

# Enough that most lengths fill a batch; the characters bound what long texts take in memory.
CHUNK_DOCUMENTS = 8_192
CHUNK_CHARS = 32 * 1024 * 1024

# Moving the counter takes longer than reading a document does.
COUNT_EVERY = 1_000

# Left free on the disk beside what the index takes.
SPARE_BYTES = 64 * 1024 * 1024


class DocumentEmbedder(Protocol):
    """What a build asks of `engine.embed.Embedder`."""

    def embed_documents(self, texts: list[str], on_progress: Advance, /) -> Vectors:
        """Return float32 [texts, dimension], and report how many more are done."""

    def close(self) -> None:
        """End its threads."""


def write_documents(documents: Iterable[CorpusDocument], folder: Path, task: str) -> Documents:
    """Write the document files of a segment, holding none in memory."""
    with DocumentsWriter(folder) as writer, progress(task) as advance:
        for number, document in enumerate(documents, start=1):
            writer.append(document.doc_id, document.text)
            if number % COUNT_EVERY == 0:
                advance(COUNT_EVERY)
    return Documents.load(folder)


def embed_into(folder: Path, documents: Documents, embedder: DocumentEmbedder) -> None:
    """Write the vectors of all documents, block by block."""
    with (
        (folder / VECTORS_FILE).open("wb") as file,
        progress("embedding documents", len(documents)) as advance,
    ):
        for texts in _chunks(documents):
            append_vectors(file, embedder.embed_documents(texts, advance))


def append_vectors(file: BinaryIO, vectors: Vectors) -> None:
    """Write rows as they are mapped again by `engine.segments`."""
    file.write(np.ascontiguousarray(vectors, dtype="<f4").data)


def finish(
    folder: Path, documents: int, dimension: int, wanted: str | None, threads: int
) -> Choice:
    """Make the index of a segment whose documents and vectors are written."""
    choice = choose(documents, wanted)
    vectors_file = folder / VECTORS_FILE
    write_index(choice, map_vectors(vectors_file, dimension), folder / FAISS_FILE, threads)
    if not choice.keeps_vectors_aside:
        vectors_file.unlink()
    return choice


def check_space(
    folder: Path,
    choice: Choice,
    documents: int,
    dimension: int,
    free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> None:
    """Raise ExportError where the disk is too small: embedding takes long, and fails at its end."""
    needed, there = bytes_needed(choice, documents, dimension) + SPARE_BYTES, free(folder)
    if needed > there:
        raise ExportError(
            f"the index takes about {needed / 1e9:.1f} GB beside the bundle, where "
            f"{there / 1e9:.1f} GB are free: free some space there, or choose another --out"
        )


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunks(documents: Documents) -> Iterator[list[str]]:
    texts: list[str] = []
    chars = 0
    for position in range(len(documents)):
        texts.append(documents.text(position))
        chars += len(texts[-1])
        if len(texts) == CHUNK_DOCUMENTS or chars >= CHUNK_CHARS:
            yield texts
            texts, chars = [], 0
    if texts:
        yield texts
