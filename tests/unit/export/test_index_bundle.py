import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.bundles import Bundle, open_index
from engine.documents import Documents
from engine.embed import Embedder
from engine.index import Index
from export import index_segment
from export.__main__ import main
from export.errors import ExportError
from export.index import build_index
from schemas.manifests import IndexManifest
from tests.unit.tiny_retrieval import DOCUMENTS, BuildIndex, write_tiny_embedder


def write_corpus(folder: Path, documents: Sequence[Mapping[str, object]]) -> Path:
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return corpus


def test_the_bundle_holds_what_the_corpus_held(tiny_index: Bundle[IndexManifest]) -> None:
    documents = Documents.open(tiny_index, "", len(DOCUMENTS))
    index, embedder = Index.open(tiny_index), Embedder.open(tiny_index)
    texts = [str(document["text"]) for document in DOCUMENTS]

    assert [documents.id(n) for n in range(len(documents))] == [d["_id"] for d in DOCUMENTS]
    assert [documents.text(n) for n in range(len(documents))] == texts
    assert np.array_equal(index.vectors(range(len(index))), embedder.embed_documents(texts))


def test_the_manifest_says_what_the_embedder_does(tiny_index: Bundle[IndexManifest]) -> None:
    manifest = tiny_index.manifest
    spec = manifest.embedder

    assert (manifest.index_type, manifest.documents) == ("flat", len(DOCUMENTS))
    assert (spec.pooling, spec.normalize, spec.dimension) == ("mean", True, 32)
    assert (spec.max_tokens, spec.prefix, spec.suffix) == (48, (2,), (3,))
    assert (spec.query_prompt, spec.document_prompt) == ("read: ", "file: ")


@pytest.mark.parametrize("index_type", ["flat", "hnsw"])
def test_the_same_corpus_gives_the_same_bundle(
    build_tiny_index: BuildIndex, index_type: str
) -> None:
    first = build_tiny_index(DOCUMENTS, index_type=index_type)
    second = build_tiny_index(DOCUMENTS, index_type=index_type)

    assert first.digest == second.digest


def test_how_the_corpus_is_cut_into_chunks_changes_nothing(
    build_tiny_index: BuildIndex,
    tiny_index: Bundle[IndexManifest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_segment, "CHUNK_DOCUMENTS", 7)
    by_count = build_tiny_index(DOCUMENTS)
    monkeypatch.setattr(index_segment, "CHUNK_CHARS", 20)
    by_length = build_tiny_index(DOCUMENTS)

    assert by_count.digest == by_length.digest == tiny_index.digest


def test_a_first_token_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = write_tiny_embedder(tmp_path / "model", pooling_mode_cls_token=True)
    corpus = write_corpus(tmp_path, DOCUMENTS[:3])

    bundle = open_index(build_index(corpus, tmp_path / "out", model=str(model)))

    assert bundle.manifest.embedder.pooling == "cls"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("modules.json", None, "it is not a sentence-transformers model"),
        ("modules.json", [{"type": "x.Transformer"}, {"type": "x.Dense"}], "Dense"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pools by pooling_mode_max"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "pools by pooling_mode_cls_token, pooling_mode_mean_tokens",
        ),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
        ("model.safetensors", None, "model.safetensors"),
    ],
)
def test_a_model_that_cannot_be_served_as_it_is_is_refused(
    tmp_path: Path, name: str, content: object, message: str
) -> None:
    pytest.importorskip("torch")
    model = write_tiny_embedder(tmp_path / "model")
    (model / name).unlink()
    if content is not None:
        (model / name).write_text(json.dumps(content))

    with pytest.raises(ExportError, match=message):
        build_index(write_corpus(tmp_path, DOCUMENTS[:3]), tmp_path / "out", model=str(model))

    assert not (tmp_path / "out").exists()


def test_the_command_prints_json(
    tmp_path: Path, tiny_embedder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path, DOCUMENTS[:5])
    words = ["index", "--corpus", str(corpus), "--out", str(tmp_path / "out"), "--json"]

    assert main([*words, "--model", str(tiny_embedder), "--name", "five"]) == 0

    made = json.loads(capsys.readouterr().out)
    assert made["digest"] == open_index(tmp_path / "out").digest
    assert (made["name"], made["documents"], made["index_type"]) == ("five", 5, "flat")


def test_the_command_says_in_one_line_which_line_is_wrong_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path, [*DOCUMENTS[:5], DOCUMENTS[2]])

    assert main(["index", "--corpus", str(corpus), "--out", str(tmp_path / "out")]) != 0

    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == (
        f"error: {corpus}, line 6: the id 'd2' was there before: give each an _id of its own"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_a_bundle_is_only_replaced_by_force(
    tmp_path: Path, tiny_embedder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path, DOCUMENTS[:5])
    words = ["index", "--corpus", str(corpus), "--out", str(tmp_path / "out")]
    words += ["--model", str(tiny_embedder)]
    assert main(words) == 0
    write_corpus(tmp_path, DOCUMENTS[:7])

    assert main(words) != 0
    assert "--force" in capsys.readouterr().err
    assert open_index(tmp_path / "out").manifest.documents == 5
    assert main([*words, "--force"]) == 0
    assert open_index(tmp_path / "out").manifest.documents == 7
