"""`python -m worker verify`, which init containers run before a worker starts."""

import hashlib
import json
from pathlib import Path

import pytest

from schemas.manifests import digest_of
from worker.__main__ import main


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A whole model bundle of one file that is no model: nothing of it is run."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    manifest = {
        "name": "tiny",
        "family": "bert",
        "precision": "int8",
        "recipe": "none",
        "inputs": ["input_ids"],
        "output": "logit",
        "pair": {
            "prefix": [1],
            "infix": [2],
            "suffix": [2],
            "max_tokens": 64,
            "max_query_tokens": 32,
            "token_types": False,
        },
        "pad_token_id": 0,
        "base": {"name": "tiny", "digest": "sha256:" + "0" * 64},
        "tools": {},
        "files": {
            "model.onnx": {
                "bytes": 7,
                "sha256": "sha256:" + hashlib.sha256(b"weights").hexdigest(),
            }
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def digest(bundle: Path) -> str:
    return digest_of(json.loads((bundle / "manifest.json").read_text()))


def test_the_bundle_that_was_asked_for(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", f"--model-bundle={bundle}", f"--model-digest={digest(bundle)}"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"model tiny {digest(bundle)}\n"


@pytest.mark.parametrize("wanted", ["sha256:" + "0" * 64, ""])
def test_another_bundle_is_refused(
    bundle: Path, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", f"--model-bundle={bundle}", f"--model-digest={wanted}"]) == 78
    assert digest(bundle) in capsys.readouterr().err


def test_a_changed_file_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = digest(bundle)
    (bundle / "model.onnx").write_bytes(b"WEIGHTS")
    assert main(["verify", f"--model-bundle={bundle}", f"--model-digest={wanted}"]) == 78
    assert "'model.onnx' is not the file that the manifest names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to verify"),
        (["--model-bundle=/none", "--index-digest=sha256:0"], "/none is not a bundle"),
        (["--index-bundle=/none"], "/none is not a bundle"),
    ],
)
def test_one_line_for_what_is_wrong(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *arguments]) == 78
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_digest_without_its_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", f"--model-bundle={bundle}", "--index-digest=sha256:0"]) == 78
    assert "--index-digest needs --index-bundle" in capsys.readouterr().err
