"""Small models and bundles that several unit tests share."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from engine.bundles import Bundle, open_index
from engine.kernels import library
from export.index import build_index
from schemas.manifests import IndexManifest
from tests.conftest import missing
from tests.unit.tiny_retrieval import DOCUMENTS, BuildIndex, write_tiny_embedder


@pytest.fixture(scope="session")
def kernels() -> Path:
    """The library of the engine's kernels, which every CPU with AVX-512 VNNI must have."""
    found = library()
    if found is None:
        cpu = Path("/proc/cpuinfo")
        if not cpu.exists() or "avx512_vnni" not in cpu.read_text():
            pytest.skip("the kernels need a CPU with AVX-512 VNNI")
        missing("the engine's kernels are not built: install a C compiler, and the project again")
    return found


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedding model of two random layers."""
    pytest.importorskip("torch")
    return write_tiny_embedder(tmp_path_factory.mktemp("models") / "tiny-embedder")


@pytest.fixture(scope="session")
def build_tiny_index(tiny_embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildIndex:
    """Builds an index bundle of some documents: `build_tiny_index(documents, index_type=…)`."""

    def build(
        documents: Sequence[Mapping[str, object]], index_type: str | None = None
    ) -> Bundle[IndexManifest]:
        folder = tmp_path_factory.mktemp("index")
        corpus = folder / "corpus.jsonl"
        corpus.write_text("".join(json.dumps(document) + "\n" for document in documents))
        out = build_index(
            corpus,
            folder / "bundle",
            name="tiny",
            model=str(tiny_embedder),
            lanes=2,
            index_type=index_type,
        )
        return open_index(out)

    return build


@pytest.fixture(scope="session")
def tiny_index(build_tiny_index: BuildIndex) -> Bundle[IndexManifest]:
    """An index bundle of `DOCUMENTS`, of which some have equal texts."""
    return build_tiny_index(DOCUMENTS)
