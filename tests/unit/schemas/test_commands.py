"""`python -m schemas`: what it writes, what it says, and how it exits."""

import json
import shutil
from pathlib import Path

import pytest

from schemas import files
from schemas.__main__ import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the committed files, which the commands work on."""
    shutil.copytree(files.JSON, tmp_path / "json")
    shutil.copytree(files.RELEASED, tmp_path / "released" / "v1")
    shutil.copy(files.ASYNCAPI, tmp_path)
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    monkeypatch.setattr(files, "JSON", tmp_path / "json")
    monkeypatch.setattr(files, "RELEASED", tmp_path / "released" / "v1")
    monkeypatch.setattr(files, "ASYNCAPI", tmp_path / "asyncapi.yaml")
    return tmp_path


def require_more(folder: Path) -> None:
    """Lets the released contract promise a field that the models no longer have."""
    path = folder / "released" / "v1" / "ranked-list.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"]["gone"] = {"type": "string"}
    path.write_text(json.dumps(schema))


def test_check_of_what_is_committed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["json/click.schema.json", "asyncapi.yaml"])
def test_an_edited_and_a_missing_file_are_found_and_mended(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / name).read_text()
    for spoil in (lambda path: path.write_text(before + "\n"), Path.unlink):
        spoil(folder / name)
        assert main(["check"]) == 1
        said = capsys.readouterr().err
        assert said == (f"schemas: out of date: {name}; run `python -m schemas write` and commit\n")
        assert main(["write"]) == 0
        assert (folder / name).read_text() == before
        assert main(["check"]) == 0


def test_a_file_of_nothing_is_removed(folder: Path) -> None:
    (folder / "json" / "old.schema.json").write_text("{}")
    assert main(["check"]) == 1
    assert main(["write"]) == 0
    assert not (folder / "json" / "old.schema.json").exists()


def test_a_broken_promise_is_named_and_not_released(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_more(folder)
    for command in ("check", "release"):
        assert main([command]) == 1
        said = capsys.readouterr().err
        assert "ranked-list: $.gone: was removed" in said
        assert said.count("\n") == 1


def test_a_whole_schema_that_goes_is_a_broken_promise(folder: Path) -> None:
    (folder / "released" / "v1" / "vote.schema.json").write_text("{}")
    assert files.breaks() == ["vote: was removed"]


def test_release_freezes_what_is_there(folder: Path) -> None:
    shutil.rmtree(folder / "released")
    assert main(["release"]) == 0
    for path in (folder / "json").iterdir():
        assert (folder / "released" / "v1" / path.name).read_text() == path.read_text()
