from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from demo.bundles import CODE_ROOT, INDEX_CODE, MODEL_CODE, make_all
from demo.errors import DemoError
from engine.errors import BundleError

MANIFEST = "manifest.json"


class Recorder:
    """Stands in for the commands: notes each, and makes what it was asked for."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.exit_code = 0

    def write_corpus(self, out: Path, places: object) -> int:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("{}\n")
        self.made.append("corpus")
        return 1

    def run(self, command: list[str], check: bool) -> Any:
        what, out = command[3], Path(command[command.index("--out") + 1])
        assert not out.exists()
        self.made.append(what)
        if self.exit_code == 0:
            out.mkdir(parents=True)
            (out / MANIFEST).write_text("{}")
        return SimpleNamespace(returncode=self.exit_code)


def open_bundle(folder: Path) -> None:
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder} is not a bundle")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr("demo.bundles.write_corpus", recorder.write_corpus)
    monkeypatch.setattr("demo.bundles.subprocess", recorder)
    monkeypatch.setattr("demo.bundles.open_model", open_bundle)
    monkeypatch.setattr("demo.bundles.open_index", open_bundle)
    return recorder


@pytest.fixture
def console() -> Console:
    return Console(quiet=True)


def test_everything_is_made_once(recorder: Recorder, console: Console, tmp_path: Path) -> None:
    make_all(tmp_path, console)
    made = make_all(tmp_path, console)
    assert recorder.made == ["corpus", "model", "index"]
    assert made.model == tmp_path / "model"


def test_what_lost_a_file_is_made_again(
    recorder: Recorder, console: Console, tmp_path: Path
) -> None:
    made = make_all(tmp_path, console)
    recorder.made.clear()
    (made.model / MANIFEST).unlink()
    make_all(tmp_path, console)
    assert recorder.made == ["model"]


def test_other_tools_make_other_bundles(
    recorder: Recorder, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(tmp_path, console)
    recorder.made.clear()
    monkeypatch.setattr("demo.bundles.tool_versions", lambda: {"onnxruntime": "99"})
    make_all(tmp_path, console)
    assert recorder.made == ["model", "index"]


def test_a_new_environment_makes_a_new_corpus(
    recorder: Recorder, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(tmp_path, console)
    recorder.made.clear()
    monkeypatch.setattr("demo.bundles.environment_key", lambda: "other packages")
    make_all(tmp_path, console)
    assert recorder.made == ["corpus"]  # which came out the same, so the index is as good as new


def test_a_failed_export_ends_the_demo(
    recorder: Recorder, console: Console, tmp_path: Path
) -> None:
    recorder.exit_code = 1
    with pytest.raises(DemoError, match=r"export model .* ended with exit code 1"):
        make_all(tmp_path, console)
    recorder.exit_code = 0
    make_all(tmp_path, console)
    assert recorder.made == ["corpus", "model", "model", "index"]


@pytest.mark.parametrize("pattern", [*MODEL_CODE, *INDEX_CODE])
def test_the_code_that_bundles_depend_on_is_there(pattern: str) -> None:
    assert list(CODE_ROOT.glob(pattern))
