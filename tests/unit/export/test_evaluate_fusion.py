"""`export evaluate` ranks as the worker does: with the fusion, where it belongs to the index."""

import json
from pathlib import Path

import pytest

from engine.bundles import open_model
from export.corpus import open_collection
from export.evaluate import evaluate
from schemas.manifests import Fusion
from tests.unit.tiny_retrieval import BuildIndex, write_counting_model

TEXTS = {"a": "fox", "b": "fox fox", "c": "dog", "d": "line dog"}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    for name, texts in (("corpus", TEXTS), ("queries", {"q": "dog"})):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tc\t1\n")
    return folder


def bundle_with(fusion: Fusion | None, folder: Path) -> Path:
    pytest.importorskip("onnx")
    bundle = write_counting_model(folder, "fox")
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    if fusion is not None:
        manifest["fusion"] = fusion.model_dump(mode="json")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def test_a_large_weight_gives_the_retrievers_order_back(
    collection: Path, build_tiny_index: BuildIndex, tmp_path: Path
) -> None:
    index = build_tiny_index([{"_id": key, "text": text} for key, text in TEXTS.items()])
    own = index.manifest.embedder.source.digest
    fusions = {
        "none": None,
        "own": Fusion(logit_scale=1.0, retrieval_weight=1e6, embedder=own),
        "other": Fusion(logit_scale=1.0, retrieval_weight=1e6, embedder="sha256:" + "ab" * 32),
    }
    reports = {
        name: evaluate(
            open_collection(collection), open_model(bundle_with(one, tmp_path / name)), index.path
        )
        for name, one in fusions.items()
    }
    assert reports["own"]["fusion"] == fusions["own"].model_dump(mode="json")  # type: ignore[union-attr]
    assert reports["own"]["reranked"] == reports["own"]["retriever"]
    assert reports["none"]["fusion"] is reports["other"]["fusion"] is None
    # The model counts foxes: b, a, then what has none.
    assert reports["none"]["reranked"] == reports["other"]["reranked"]
    assert reports["none"]["reranked"]["MRR@10"] <= 1 / 3
