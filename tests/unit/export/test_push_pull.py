import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest

from engine.bundles import MANIFEST, open_model
from export.__main__ import main
from tests.unit.export.test_seal import write


@pytest.fixture(params=["file", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/far/model"
        return
    root = f"/{uuid.uuid4().hex}"
    yield f"memory:/{root}"
    files = fsspec.filesystem("memory")
    if files.exists(root):
        files.rm(root, recursive=True)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write(tmp_path / "source", "weights")
    return tmp_path / "source"


def test_there_and_back(bundle: Path, address: str, tmp_path: Path, capsys: Any) -> None:
    digest = open_model(bundle).digest
    out = tmp_path / "back" / "model"

    assert main(["push", str(bundle), address]) == 0
    assert main(["pull", address, "--out", str(out), "--digest", digest]) == 0

    assert open_model(out).digest == digest
    assert (out / MANIFEST).read_bytes() == (bundle / MANIFEST).read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    assert capsys.readouterr().out == f"model weights {digest}\n" * 2


def test_a_push_of_the_same_does_nothing(
    bundle: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["push", str(bundle), address]) == 0
    monkeypatch.setattr("export.push._put", None)

    assert main(["push", str(bundle), address]) == 0


def test_another_bundle_is_replaced_only_by_force(
    bundle: Path, address: str, tmp_path: Path, capsys: Any
) -> None:
    write(tmp_path / "other", "more weights")
    main(["push", str(bundle), address])

    assert main(["push", str(tmp_path / "other"), address]) == 1
    assert "holds sha256:" in capsys.readouterr().err
    assert main(["push", str(tmp_path / "other"), address, "--force"]) == 0
    assert main(["pull", address, "--out", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back" / "model.onnx").read_text() == "more weights"


def test_half_a_push_is_no_bundle_and_can_be_finished(
    bundle: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("export.push._put", interrupt)
        assert main(["push", str(bundle), address]) == 130
    assert main(["pull", address, "--out", str(tmp_path / "back")]) == 1
    assert "is not a bundle" in capsys.readouterr().err

    assert main(["push", str(bundle), address]) == 0


def test_a_push_that_fails_says_no_secret(
    bundle: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("SECRET")

    monkeypatch.setattr("export.push._put", fail)

    assert main(["push", str(bundle), address]) == 1
    error = capsys.readouterr().err
    assert "can't be written (RuntimeError)" in error
    assert "SECRET" not in error


def test_an_altered_bundle_is_not_pushed(bundle: Path, address: str, capsys: Any) -> None:
    (bundle / "model.onnx").write_text("Weights")

    assert main(["push", str(bundle), address]) == 1
    assert "is not the file that the manifest names" in capsys.readouterr().err


def test_another_digest_is_refused(bundle: Path, address: str, tmp_path: Path, capsys: Any) -> None:
    main(["push", str(bundle), address])
    out, other = tmp_path / "back", "sha256:" + "0" * 64

    assert main(["pull", address, "--out", str(out), "--digest", other]) == 1
    assert f"and {other} was asked for" in capsys.readouterr().err
    assert main(["pull", address, "--out", str(out), "--digest", "0" * 64]) == 1
    assert "64 hex digits" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_pull_that_breaks_off_leaves_nothing(
    bundle: Path,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    main(["push", str(bundle), address])

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("engine.remote._read", fail)

    assert main(["pull", address, "--out", str(tmp_path / "in" / "back")]) in {1, 130}
    assert list((tmp_path / "in").iterdir()) == []


def test_what_is_there_is_replaced_only_by_force(
    bundle: Path, address: str, tmp_path: Path, capsys: Any
) -> None:
    main(["push", str(bundle), address])
    write(tmp_path / "back", "old")

    assert main(["pull", address, "--out", str(tmp_path / "back")]) == 1
    assert "exists already: add --force" in capsys.readouterr().err
    assert main(["pull", address, "--out", str(tmp_path / "back"), "--force"]) == 0
    assert (tmp_path / "back" / "model.onnx").read_text() == "weights"


def test_a_pull_of_what_is_there_does_nothing(
    bundle: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "back"
    main(["push", str(bundle), address])
    main(["pull", address, "--out", str(out)])

    with monkeypatch.context() as patch:
        patch.setattr("export.pull.fetch_files", None)
        assert main(["pull", address, "--out", str(out), "--force"]) == 0
    (out / "model.onnx").write_text("Weights")
    assert main(["pull", address, "--out", str(out)]) == 1
    assert main(["pull", address, "--out", str(out), "--force"]) == 0
    assert (out / "model.onnx").read_text() == "weights"


@pytest.mark.parametrize("words", [["push", "{}", "plain"], ["pull", "plain", "--out", "{}/out"]])
def test_a_plain_path_is_no_address(bundle: Path, words: list[str], capsys: Any) -> None:
    assert main([word.format(bundle) for word in words]) == 1
    assert "is not an address" in capsys.readouterr().err
