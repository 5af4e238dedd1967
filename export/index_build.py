"""A whole corpus into an index bundle of one segment.

1. Read the whole corpus into the bundle's document files, so that a wrong line shows at once.
2. Export the embedding model.
3. Embed the documents, some thousand at a time, into a file of vectors.
4. Index the vectors, a block at a time.
5. Seal the bundle.

Texts and vectors are never in memory as a whole; ids are, and what FAISS keeps of the index type.
The same corpus on the same kind of machine gives the same bundle, with the same digest.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from engine.embed import MODEL_FILE, TOKENIZER_FILE, Embedder
from export.bars import progress
from export.corpus import collection_name, read_corpus
from export.errors import ExportError
from export.index_segment import (
    DocumentEmbedder,
    check_space,
    embed_into,
    finish,
    processors,
    write_documents,
)
from export.index_types import choose
from export.seal import seal, staging_beside
from schemas.manifests import EmbedderSpec, IndexManifest

_TOOLS = ("faiss-cpu", "numpy", "onnxruntime", "optimum-onnx", "tokenizers", "torch")
_DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
}


def build_index(  # noqa: PLR0913 - the options of the command
    corpus: Path,
    out: Path,
    *,
    model: str | None = None,
    name: str | None = None,
    force: bool = False,
    lanes: int | None = None,
    index_type: str | None = None,
) -> Path:
    """Write the index bundle `out`; raises CorpusError, CheckpointError, ExportError.

    `lanes` threads embed (default: one for each processor). Without `index_type` the number of
    documents decides.
    """
    threads = lanes or processors()

    def prepare(staging: Path) -> tuple[EmbedderSpec, Embedder]:
        spec = _export_embedder(model, staging)
        model_onnx, tokenizer = staging / MODEL_FILE, staging / TOKENIZER_FILE
        return spec, Embedder.load(model_onnx, tokenizer, spec, threads)

    wanted = Wanted(name or collection_name(corpus), index_type, threads, force)
    return build_with(corpus, out, prepare, wanted)


@dataclass(frozen=True)
class Wanted:
    """What a bundle is to be, beside its documents and embedder."""

    name: str
    index_type: str | None
    threads: int
    force: bool = False


def build_with(
    corpus: Path,
    out: Path,
    prepare: Callable[[Path], tuple[EmbedderSpec, DocumentEmbedder]],
    wanted: Wanted,
) -> Path:
    """Build with the embedder that `prepare` writes into a folder and opens."""
    with disk_errors(out), staging_beside(out, force=wanted.force) as staging:
        documents = write_documents(read_corpus(corpus), staging, "reading the corpus")
        choice = choose(len(documents), wanted.index_type)
        spec, embedder = prepare(staging)
        check_space(staging, choice, len(documents), spec.dimension)
        embed_into(staging, documents, embedder)
        embedder.close()
        finish(staging, len(documents), spec.dimension, wanted.index_type, wanted.threads)
        manifest = IndexManifest(
            name=wanted.name,
            documents=len(documents),
            index_type=choice.index_type,
            search=choice.search,
            embedder=spec,
            tools={tool: version(tool) for tool in _TOOLS},
            files={},
        )
        return seal(staging, manifest, out, force=wanted.force)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise ExportError(
            f"the bundle can't be written beside {out} ({error.strerror}): free or allow some "
            "space there, or choose another --out; nothing was written"
        ) from None


def _export_embedder(model: str | None, staging: Path) -> EmbedderSpec:
    with progress("exporting the embedding model"):
        # Imported here: its libraries take seconds, and a wrong line of the corpus none.
        from export.embedder import export_embedder  # noqa: PLC0415

        return export_embedder(model, staging)
