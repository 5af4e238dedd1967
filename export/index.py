"""`python -m export index`: a corpus into an index bundle.

1. Read the whole corpus into the bundle's document files, so that a wrong line shows at once.
2. Export the embedding model.
3. Embed the documents, some thousand at a time, and index them.
4. Seal the bundle.

Texts are never in memory as a whole; ids, and 1.5 to 2 KB a document for the index, are.
The same corpus on the same kind of machine gives the same bundle, with the same digest.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
from rich.console import Console

from engine.bundles import open_index
from engine.documents import Documents, DocumentsWriter
from engine.embed import MODEL_FILE, TOKENIZER_FILE, Embedder
from engine.index import EF_SEARCH, FAISS_FILE
from export.bars import progress
from export.corpus import collection_name, read_corpus
from export.seal import seal, staging_beside
from schemas.manifests import EmbedderSpec, IndexManifest

# Up to here comparing with every vector takes a few milliseconds a query and is exact.
HNSW_FROM_DOCUMENTS = 50_000
HNSW_LINKS = 32
HNSW_EF_CONSTRUCTION = 200

# Enough that most lengths fill a batch; the characters bound what long texts take in memory.
CHUNK_DOCUMENTS = 8_192
CHUNK_CHARS = 32 * 1024 * 1024

# Moving the counter takes longer than reading a document does.
COUNT_EVERY = 1_000

_TOOLS = ("faiss-cpu", "numpy", "onnxruntime", "optimum-onnx", "tokenizers", "torch")


def add_parser(subparsers: Any) -> None:
    """Add the command `index`."""
    parser = subparsers.add_parser(
        "index", help="a corpus into an index bundle", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        required=True,
        metavar="CORPUS.jsonl[.gz]",
        help="one JSON object a line: _id, text, and title where there is one",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle")
    parser.add_argument(
        "--model",
        metavar="PATH_OR_ID",
        help="an embedding model in the format of sentence-transformers (default: MiniLM)",
    )
    parser.add_argument("--name", help="of the index, in results and metrics")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")
    parser.add_argument("--force", action="store_true", help="replace the bundle at --out")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Build an index and say what was made."""
    start = time.perf_counter()
    out = build_index(
        arguments.corpus,
        arguments.out,
        model=arguments.model,
        name=arguments.name,
        force=arguments.force,
    )
    bundle = open_index(out)
    made = {
        "path": str(out),
        "name": bundle.manifest.name,
        "digest": bundle.digest,
        "documents": bundle.manifest.documents,
        "index_type": bundle.manifest.index_type,
        "embedder": bundle.manifest.embedder.name,
        "bytes": sum(entry.bytes for entry in bundle.manifest.files.values()),
        "seconds": round(time.perf_counter() - start, 1),
    }
    if arguments.json:
        sys.stdout.write(json.dumps(made, ensure_ascii=False) + "\n")
    else:
        Console().print(
            f"{made['path']}: {made['documents']:,} documents, {made['index_type']}, "
            f"{made['digest']}, in {made['seconds']} s",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    return 0


def build_index(  # noqa: PLR0913 - the options of the command
    corpus: Path,
    out: Path,
    *,
    model: str | None = None,
    name: str | None = None,
    force: bool = False,
    lanes: int | None = None,
    hnsw_from: int = HNSW_FROM_DOCUMENTS,
) -> Path:
    """Write the index bundle `out`; raises CorpusError, CheckpointError, TargetExistsError.

    `lanes` threads embed (default: one for each processor). From `hnsw_from` documents on the
    index is approximate.
    """
    with staging_beside(out, force=force) as staging:
        documents = _write_documents(corpus, staging)
        spec = _export_embedder(model, staging)
        index_type = "hnsw" if len(documents) >= hnsw_from else "flat"
        embedder = Embedder.load(
            staging / MODEL_FILE, staging / TOKENIZER_FILE, spec, lanes or processors()
        )
        index = _new_index(index_type, spec.dimension)
        _fill(index, documents, embedder)
        embedder.close()
        faiss.write_index(index, str(staging / FAISS_FILE))
        manifest = IndexManifest(
            name=name or collection_name(corpus),
            documents=len(documents),
            index_type=index_type,
            search={"efSearch": EF_SEARCH} if index_type == "hnsw" else {},
            embedder=spec,
            tools={tool: version(tool) for tool in _TOOLS},
            files={},
        )
        return seal(staging, manifest, out, force=force)


def _write_documents(corpus: Path, staging: Path) -> Documents:
    with DocumentsWriter(staging) as writer, progress("reading the corpus") as advance:
        for number, document in enumerate(read_corpus(corpus), start=1):
            writer.append(document.doc_id, document.text)
            if number % COUNT_EVERY == 0:
                advance(COUNT_EVERY)
    return Documents.load(staging)


def _export_embedder(model: str | None, staging: Path) -> EmbedderSpec:
    with progress("exporting the embedding model"):
        # Imported here: its libraries take seconds, and a wrong line of the corpus none.
        from export.embedder import export_embedder  # noqa: PLC0415

        return export_embedder(model, staging)


def _new_index(index_type: str, dimension: int) -> Any:
    if index_type == "flat":
        return faiss.IndexFlatIP(dimension)
    index = faiss.IndexHNSWFlat(dimension, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
    return index


def _fill(index: Any, documents: Documents, embedder: Embedder) -> None:
    # One thread: with more, the graph of an HNSW index would differ from run to run.
    faiss.omp_set_num_threads(1)
    with progress("embedding documents", len(documents)) as advance:
        for texts in _chunks(documents):
            index.add(embedder.embed_documents(texts, advance))


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


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
