"""Bundles: opened only when every file is the one that the manifest names."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.bundles import Bundle, open_index, open_model, sha256_of
from engine.errors import BundleError
from engine.graph import OnnxGraph
from engine.pairs import PairEncoder
from schemas.manifests import ModelManifest, digest_of
from tests.unit.tiny_retrieval import write_counting_model


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_counting_model(tmp_path_factory.mktemp("counting"), "file")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "bundle"))


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return found


def write_manifest(folder: Path, manifest: object) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def seal_again(folder: Path, name: str) -> Bundle[ModelManifest]:
    """Make the manifest fit a file that was changed, as a broken exporter would."""
    manifest = manifest_of(folder)
    file = folder / name
    manifest["files"][name] = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
    write_manifest(folder, manifest)
    return open_model(folder)


def test_a_whole_bundle(folder: Path) -> None:
    bundle = open_model(folder)
    assert bundle.manifest.name == "counts file"
    assert bundle.digest == digest_of(manifest_of(folder))
    assert bundle.file("model.onnx") == folder / "model.onnx"


def test_the_digest_is_that_of_the_manifest_whatever_its_layout(folder: Path) -> None:
    before = open_model(folder).digest
    manifest = manifest_of(folder)
    (folder / "manifest.json").write_text(
        json.dumps(dict(reversed(manifest.items())), indent=7, ensure_ascii=True)
    )
    assert open_model(folder).digest == before


@pytest.mark.parametrize("change", [{"name": "other"}, {"a_later_field": 1}, {"recipe": "x"}])
def test_any_change_of_the_manifest_is_another_digest(
    folder: Path, change: dict[str, object]
) -> None:
    before = open_model(folder).digest
    write_manifest(folder, {**manifest_of(folder), **change})
    assert open_model(folder).digest != before


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_every_file_is_checked(folder: Path, name: str) -> None:
    raw = bytearray((folder / name).read_bytes())
    raw[-1] ^= 1
    (folder / name).write_bytes(raw)
    assert name in refusal(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_that_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refusal(folder)


def test_a_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    assert "model.onnx" in refusal(folder)


def test_a_file_that_the_manifest_does_not_name_is_not_given_out(folder: Path) -> None:
    (folder / "other.bin").write_bytes(b"x")
    bundle = open_model(folder)
    for name in ("other.bin", "../bundle/model.onnx", "", "manifest.json"):
        with pytest.raises(BundleError):
            bundle.file(name)


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "a/../../outside", "a\\b", "", ".", "..", "a//b", "./a", "a/"],
)
def test_a_manifest_never_names_a_file_outside_its_folder(folder: Path, name: str) -> None:
    manifest = manifest_of(folder)
    (folder.parent / "outside").write_bytes(b"x")
    entry = {"sha256": sha256_of(folder.parent / "outside"), "bytes": 1}
    write_manifest(folder, {**manifest, "files": {**manifest["files"], name: entry}})
    assert "manifest.json" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ufeff{}", '{"kind": "model"}'])
def test_a_manifest_that_is_none(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    assert "manifest.json" in refusal(folder)


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"[" * 100_000])
def test_a_manifest_of_rubbish(folder: Path, raw: bytes) -> None:
    (folder / "manifest.json").write_bytes(raw)
    assert "manifest.json" in refusal(folder)


def test_a_manifest_with_a_number_that_json_does_not_know(folder: Path) -> None:
    text = json.dumps({**manifest_of(folder), "later": float("nan")})
    (folder / "manifest.json").write_text(text)
    assert "manifest.json" in refusal(folder)


def test_an_enormous_manifest_is_not_read(folder: Path) -> None:
    with (folder / "manifest.json").open("ab") as file:
        file.truncate(17 * 1024 * 1024)
    assert "larger" in refusal(folder)


@pytest.mark.parametrize(
    "change", [{"schema_version": 2}, {"kind": "index"}, {"precision": "int3"}]
)
def test_a_manifest_of_another_kind_or_version(folder: Path, change: dict[str, object]) -> None:
    write_manifest(folder, {**manifest_of(folder), **change})
    assert next(iter(change)) in refusal(folder)


def test_a_model_is_no_index(folder: Path) -> None:
    with pytest.raises(BundleError):
        open_index(folder)


def test_no_folder(tmp_path: Path) -> None:
    assert "is not a bundle" in refusal(tmp_path / "nowhere")


def test_a_model_that_the_runtime_cannot_read(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a model")
    bundle = seal_again(folder, "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx") as caught:
        OnnxGraph.open(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}", "not json", '{"version": "1.0", "model": null}'])
def test_a_tokenizer_that_cannot_be_read(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    bundle = seal_again(folder, "tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer\.json") as caught:
        PairEncoder.open(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"inputs": ["input_ids"]}, {"output": "scores"}, {"inputs": ["input_ids", "mask"]}]
)
def test_a_graph_that_is_not_as_the_manifest_says(folder: Path, change: dict[str, object]) -> None:
    """It would fail on each batch: better to refuse it at start."""
    write_manifest(folder, {**manifest_of(folder), **change})
    with pytest.raises(BundleError, match=r"model\.onnx"):
        OnnxGraph.open(open_model(folder))
