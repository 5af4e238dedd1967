"""Which segments of an index are merged, and how: from their stored texts and vectors."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.segments import DELETED_FILE, VECTORS_FILE, Segment
from export.bars import progress
from export.corpus import CorpusDocument
from export.index_segment import append_vectors, write_documents
from export.index_types import BLOCK_DOCUMENTS


@dataclass(frozen=True)
class MergePolicy:
    """Keeps segments few and their work small; only neighbours merge, so their order stays.

    A segment is merged with the one before it unless that one has `ratio` times its documents, so
    there are no more segments than the logarithm of all documents, and a document is indexed again
    no more often than that. Segments under `floor` documents count as that many. A segment with
    more than `most_deleted` of its documents deleted is made anew without them.
    """

    ratio: float = 2.0
    floor: int = 1_000
    most_deleted: float = 0.2

    def groups(self, sizes: Sequence[int]) -> list[list[int]]:
        """Return which segments become one; `sizes` count their living documents."""
        merged: list[list[int]] = []
        for place, size in enumerate(sizes):
            if size == 0:
                continue
            merged.append([place])
            while len(merged) > 1 and self._are_close(sizes, merged[-2], merged[-1]):
                last = merged.pop()
                merged[-1].extend(last)
        return merged

    def must_shrink(self, segment: Segment) -> bool:
        """Tell whether too many documents of a segment are deleted."""
        documents = len(segment.documents)
        return documents - len(segment) > self.most_deleted * documents

    def _are_close(self, sizes: Sequence[int], before: list[int], last: list[int]) -> bool:
        first, second = (max(sum(sizes[i] for i in group), self.floor) for group in (before, last))
        return first < self.ratio * second


def write_merged(segments: Sequence[Segment], folder: Path) -> int:
    """Write the living documents of segments, and their vectors, as one; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(write_documents(_documents(segments), folder, "copying documents"))
    with (
        (folder / VECTORS_FILE).open("wb") as file,
        progress("copying vectors", count) as advance,
    ):
        for segment in segments:
            for start in range(0, len(segment), BLOCK_DOCUMENTS):
                end = min(start + BLOCK_DOCUMENTS, len(segment))
                append_vectors(file, segment.vectors(np.arange(start, end)))
                advance(end - start)
    return count


def write_deleted(segment: Segment, folder: Path) -> int:
    """Write which documents are deleted, if any are; returns how many."""
    count = len(segment.documents) - len(segment)
    if count:
        deleted = np.ones(len(segment.documents), dtype=np.bool_)
        deleted[segment.raw] = False
        (folder / DELETED_FILE).write_bytes(np.packbits(deleted, bitorder="little").tobytes())
    return count


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file of a bundle, which never changes, a second name; copy where that can't be.

    A file of somebody else is copied: this bundle's mode must be ours to set.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.stat().st_uid != os.geteuid():
            raise PermissionError
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _documents(segments: Sequence[Segment]) -> Iterator[CorpusDocument]:
    for segment in segments:
        for raw in segment.raw_positions(np.arange(len(segment))):
            place = int(raw)
            yield CorpusDocument(segment.documents.id(place), segment.documents.text(place))
