"""An index bundle, without some documents and with some more, as a new bundle.

1. Read the ids to delete and the documents to add, and find their places in the old bundle.
2. Embed the new documents, and only those, with the old bundle's own model.
3. Take over unchanged segments as they are, by hard links where possible.
4. Make the others from the texts and vectors that the old bundle holds.
5. Seal the bundle.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from engine.bundles import Bundle, open_index
from engine.documents import Documents
from engine.embed import Embedder
from engine.segments import (
    DELETED_FILE,
    VECTORS_FILE,
    Segment,
    map_vectors,
    open_segments,
    parts,
    without,
)
from export.corpus import CorpusError, read_corpus, read_ids
from export.index_build import disk_errors
from export.index_merge import MergePolicy, link_or_copy, write_deleted, write_merged
from export.index_segment import (
    check_space,
    embed_into,
    finish,
    processors,
    write_documents,
)
from export.index_types import IVFPQ_LEAST_DOCUMENTS, choose
from export.seal import seal, staging_beside
from schemas.manifests import IndexManifest, IndexSegment

_TOOLS = ("faiss-cpu", "numpy", "onnxruntime", "tokenizers")
_INCOMING = "incoming"


@dataclass(frozen=True)
class Changes:
    """What is to be different. With `replace`, added documents may have ids that are there.

    With `merge` all segments become one. `index_type` holds for segments that are made.
    """

    add: Path | None = None
    delete: Path | None = None
    replace: bool = False
    merge: bool = False
    index_type: str | None = None
    policy: MergePolicy = field(default_factory=MergePolicy)


def update_index(  # noqa: PLR0913 - the options of the command
    base: Path,
    out: Path,
    changes: Changes,
    *,
    name: str | None = None,
    force: bool = False,
    lanes: int | None = None,
) -> Path:
    """Write the changed bundle to `out`; raises BundleError, CorpusError, ExportError."""
    old = open_index(base)
    with disk_errors(out), staging_beside(out, force=force) as staging:
        update = _Update(old, staging, changes, lanes or processors())
        segments = update.write_segments()
        shutil.rmtree(staging / _INCOMING, ignore_errors=True)
        return seal(staging, _manifest(old.manifest, name, segments), out, force=force)


@dataclass(frozen=True)
class _Update:
    old: Bundle[IndexManifest]
    staging: Path
    changes: Changes
    threads: int

    def write_segments(self) -> list[IndexSegment]:
        """Write all files but the manifest, and return what the segments are."""
        for file in self.old.manifest.files:
            if file.startswith("embedder/"):
                link_or_copy(self.old.path / file, self.staging / file)
        kept = open_segments(self.old)
        documents = self._read_incoming()
        segments = [*_deleted(kept, self.changes, documents), *self._embedded(documents)]
        groups = self._groups(segments)
        stay = [group for group in groups if self._stays(group, len(kept), segments)]
        make = [group for group in groups if group not in stay]
        self._check_space(sum(len(segments[place]) for group in make for place in group))
        # A single segment without deleted documents lies as that of a fresh bundle does.
        alone = len(groups) == 1 and not any(_tombstones(segments[group[0]]) for group in stay)
        written = []
        for number, group in enumerate(groups):
            prefix = "" if alone else f"segments/{number:04}/"
            if group in stay:
                written.append(self._take_over(group[0], segments[group[0]], prefix))
            else:
                written.append(self._make([segments[place] for place in group], prefix))
        return written

    def _read_incoming(self) -> Documents | None:
        if self.changes.add is None:
            return None
        corpus = read_corpus(self.changes.add)
        return write_documents(corpus, self.staging / _INCOMING, "reading what is added")

    def _embedded(self, documents: Documents | None) -> Iterator[Segment]:
        """Give the new documents as a segment that has no index yet."""
        if not documents:
            return
        self._check_space(len(documents))
        folder = self.staging / _INCOMING
        embedder = Embedder.open(self.old, self.threads)
        embed_into(folder, documents, embedder)
        embedder.close()
        vectors = map_vectors(folder / VECTORS_FILE, embedder.spec.dimension)
        yield Segment(None, "flat", {}, documents, vectors)

    def _groups(self, segments: Sequence[Segment]) -> list[list[int]]:
        sizes = [len(segment) for segment in segments]
        living = [place for place, size in enumerate(sizes) if size]
        if self.changes.merge or not living:
            return [living]
        return self.changes.policy.groups(sizes)

    def _stays(self, group: list[int], kept: int, segments: Sequence[Segment]) -> bool:
        """Tell whether a group is one segment that can be taken over."""
        if len(group) != 1 or group[0] >= kept:
            return False
        segment = segments[group[0]]
        if self.changes.merge:
            return not _tombstones(segment)
        return not self.changes.policy.must_shrink(segment)

    def _check_space(self, documents: int) -> None:
        dimension = self.old.manifest.embedder.dimension
        check_space(self.staging, choose(documents, "hnsw"), documents, dimension)

    def _take_over(self, place: int, segment: Segment, prefix: str) -> IndexSegment:
        old_prefix, part = parts(self.old.manifest)[place]
        for file in self.old.manifest.files:
            inside = file.removeprefix(old_prefix)
            if not file.startswith(old_prefix) or inside == DELETED_FILE or _is_other(inside):
                continue
            link_or_copy(self.old.path / file, self.staging / prefix / inside)
        deleted = write_deleted(segment, self.staging / prefix)
        return part.model_copy(update={"folder": _folder(prefix), "deleted": deleted})

    def _make(self, segments: Sequence[Segment], prefix: str) -> IndexSegment:
        folder = self.staging / prefix
        count = write_merged(segments, folder)
        wanted = self.changes.index_type
        if wanted == "ivfpq" and count < IVFPQ_LEAST_DOCUMENTS:
            wanted = None
        dimension = self.old.manifest.embedder.dimension
        choice = finish(folder, count, dimension, wanted, self.threads)
        return IndexSegment(
            folder=_folder(prefix),
            documents=count,
            index_type=choice.index_type,
            search=choice.search,
        )


def _deleted(
    segments: Sequence[Segment], changes: Changes, added: Documents | None
) -> Iterator[Segment]:
    """Give the old segments without what is deleted or replaced; raises CorpusError."""
    unwanted = read_ids(changes.delete) if changes.delete is not None else set()
    incoming = {added.id(place) for place in range(len(added))} if added is not None else set()
    found: set[str] = set()
    for segment in segments:
        hidden = np.ones(len(segment.documents), dtype=np.bool_)
        living = segment.raw_positions(np.arange(len(segment)))
        hidden[living] = False
        for raw in living:
            doc_id = segment.documents.id(int(raw))
            if doc_id in unwanted:
                found.add(doc_id)
            elif doc_id not in incoming:
                continue
            elif not changes.replace:
                raise CorpusError(
                    f"{changes.add}: the id {doc_id!r} is in the bundle already: add --replace to "
                    "put new documents in the place of old ones"
                )
            hidden[raw] = True
        yield without(segment, hidden) if hidden.any() else segment
    if missing := sorted(unwanted - found):
        raise CorpusError(
            f"{changes.delete}: {len(missing):,} ids are not in the bundle, the first is "
            f"{missing[0]!r}: take them out of the file"
        )


def _manifest(
    old: IndexManifest, name: str | None, segments: Sequence[IndexSegment]
) -> IndexManifest:
    alone = len(segments) == 1 and segments[0].folder == _folder("")
    return IndexManifest(
        name=name or old.name,
        documents=sum(segment.documents - segment.deleted for segment in segments),
        index_type="+".join(dict.fromkeys(segment.index_type for segment in segments)),
        search=segments[0].search if alone else {},
        segments=() if alone else tuple(segments),
        embedder=old.embedder,
        tools=dict(old.tools) | {tool: version(tool) for tool in _TOOLS},
        files={},
    )


def _tombstones(segment: Segment) -> int:
    return len(segment.documents) - len(segment)


def _is_other(inside: str) -> bool:
    """Tell what at a bundle's top is no file of the segment that lies there."""
    return inside.startswith(("embedder/", "segments/"))


def _folder(prefix: str) -> str:
    return prefix.rstrip("/") or "all"
