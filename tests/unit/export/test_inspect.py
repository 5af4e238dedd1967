import json
from pathlib import Path
from typing import Any

import pytest

from engine.bundles import MANIFEST, Bundle, open_model
from export.__main__ import main
from export.index_update import Changes, update_index
from schemas.manifests import IndexManifest
from tests.unit.export.test_seal import write


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write(tmp_path / "source", "weights")
    return tmp_path / "source"


def test_for_people(bundle: Path, capsys: Any) -> None:
    assert main(["inspect", str(bundle)]) == 0

    text = capsys.readouterr().out
    assert open_model(bundle).digest in text
    assert "bert, fp32, trimmed" in text
    assert "all match the manifest" in text
    assert "model.onnx" in text


def test_the_segments_of_an_index(
    tiny_index: Bundle[IndexManifest], tmp_path: Path, capsys: Any
) -> None:
    ids = tmp_path / "ids"
    ids.write_text("d7\nd8\n")
    update_index(tiny_index.path, tmp_path / "out", Changes(delete=ids))

    assert main(["inspect", str(tmp_path / "out")]) == 0

    text = capsys.readouterr().out
    assert "documents     58" in text
    assert "segments/0000: 60 documents, flat, 2 of them deleted" in text


def test_as_json(bundle: Path, capsys: Any) -> None:
    assert main(["inspect", str(bundle), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == open_model(bundle).digest
    assert found["checked"] is True
    assert found["manifest"]["files"]["model.onnx"]["bytes"] == len("weights")


def test_of_an_address_only_the_manifest_is_read(bundle: Path, capsys: Any) -> None:
    (bundle / "model.onnx").unlink()

    assert main(["inspect", f"file://{bundle}"]) == 0
    assert "not checked" in capsys.readouterr().out


def test_an_altered_bundle(bundle: Path, capsys: Any) -> None:
    (bundle / "model.onnx").write_text("Weights")

    assert main(["inspect", str(bundle)]) == 1
    assert "is not the file that the manifest names" in capsys.readouterr().err


def test_no_bundle(tmp_path: Path, capsys: Any) -> None:
    assert main(["inspect", str(tmp_path)]) == 1
    assert "is not a bundle" in capsys.readouterr().err


def test_a_manifest_does_not_steer_the_terminal(bundle: Path, capsys: Any) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["name"] = "\x1b[2Jname"
    (bundle / MANIFEST).write_text(json.dumps(manifest))

    assert main(["inspect", str(bundle)]) == 0
    assert "\x1b" not in capsys.readouterr().out
