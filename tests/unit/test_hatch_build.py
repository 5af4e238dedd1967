"""The kernels come with a wheel where they can be compiled, and nothing fails where not."""

import ctypes
import os
import platform
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

from hatch_build import FOLDER, LIBRARY, KernelsHook
from tests.conftest import REPOSITORY, missing


class Recorder:
    """Hatchling's application: keeps what it is to show."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what a wheel of the engine is made of, without a library."""
    monkeypatch.delenv("CC", raising=False)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(REPOSITORY / name, tmp_path)
    shutil.copytree(REPOSITORY / FOLDER, tmp_path / FOLDER, ignore=shutil.ignore_patterns("*.so"))
    return tmp_path


@pytest.fixture
def compiler() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("kernels are for Linux on x86-64")
    if real_compiler() is None:
        missing("no C compiler: install gcc or clang")


def real_compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def install(folder: Path, name: str, command: str) -> None:
    """Write a compiler that leaves its name in a file, and then runs a command."""
    folder.mkdir(exist_ok=True)
    script = folder / name
    # The real one finds assembler and linker on the real PATH.
    script.write_text(
        f"#!/bin/sh\necho {name} >> {folder}.used\nPATH={os.environ['PATH']!r}\n{command}\n"
    )
    script.chmod(0o755)


def used(folder: Path) -> set[str]:
    """Which of them ran."""
    log = Path(f"{folder}.used")
    return set(log.read_text().split()) if log.exists() else set()


def built(root: Path, target: str = "wheel") -> tuple[dict[str, Any], list[str]]:
    """What the hook makes of a build's data, and its warnings."""
    data: dict[str, Any] = {"pure_python": True, "infer_tag": False, "artifacts": []}
    app: Any = Recorder()
    none: Any = None
    KernelsHook(str(root), {}, none, none, str(root / "dist"), target, app).initialize("0", data)
    return data, app.warnings


def is_pure(data: dict[str, Any]) -> bool:
    return data == {"pure_python": True, "infer_tag": False, "artifacts": []}


@pytest.mark.usefixtures("compiler")
def test_a_wheel_gets_the_library_and_is_for_one_platform(root: Path) -> None:
    data, warnings = built(root)
    assert data == {"pure_python": False, "infer_tag": True, "artifacts": [str(LIBRARY)]}
    assert not warnings
    library = ctypes.CDLL(str(root / LIBRARY))
    assert library.kernels_usable() in {0, 1}
    assert library.RegisterCustomOps


@pytest.mark.usefixtures("compiler")
def test_the_compiler_of_the_environment_is_taken_with_its_options(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "gcc -DGELU_SEGMENTS=7")  # which makes no C of the header
    data, warnings = built(root)
    assert is_pure(data)
    assert "kernels.h" in warnings[0]


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("command", [None, "false"])
def test_hatchling_packs_the_library_that_git_ignores(
    root: Path, monkeypatch: pytest.MonkeyPatch, command: str | None
) -> None:
    if command is not None:
        monkeypatch.setenv("CC", command)
    (wheel,) = WheelBuilder(str(root)).build(directory=str(root / "dist"), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    assert str(FOLDER / "__init__.py") in names
    assert (str(LIBRARY) in names) == (command is None)
    assert wheel.endswith("-none-any.whl") == (command is not None)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("found", "taken"),
    [
        (("cc", "gcc", "clang"), "cc"),
        (("clang", "gcc"), "gcc"),
        (("clang",), "clang"),
        (("icc", "gcc"), "gcc"),
    ],
)
@pytest.mark.parametrize("named", [None, ""])
def test_the_first_compiler_there_is_is_taken(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: tuple[str, ...],
    taken: str,
    named: str | None,
) -> None:
    for name in found:
        install(tmp_path / "bin", name, f'exec {real_compiler()} "$@"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    if named is not None:
        monkeypatch.setenv("CC", named)
    data, warnings = built(root)
    assert not is_pure(data)
    assert not warnings
    assert used(tmp_path / "bin") == {taken}
    assert (root / LIBRARY).exists()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("works", [True, False])
def test_of_a_compiler_in_the_environment_there_is_no_other(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    for name in ("cc", "gcc", "clang"):
        install(tmp_path / "bin", name, f'exec {real_compiler()} "$@"')
    install(tmp_path / "bin", "own", f'exec {real_compiler()} "$@"' if works else "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CC", "own -O1")
    data, warnings = built(root)
    assert used(tmp_path / "bin") == {"own"}
    assert (root / LIBRARY).exists() == works
    assert is_pure(data) != works
    assert bool(warnings) != works


@pytest.mark.parametrize("named", [None, "no-such-compiler", "false"])
def test_a_library_of_an_earlier_build_goes_when_there_is_no_new_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    """It may score otherwise than what is installed now."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (root / LIBRARY).write_bytes(b"of an earlier build")
    if named is None:
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    else:
        monkeypatch.setenv("CC", named)
    data, warnings = built(root)
    assert is_pure(data)
    assert not (root / LIBRARY).exists()
    (warning,) = warnings
    assert warning.startswith("engine without kernels of its own: ")


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("wrong", ["tensors.c", "attention.c", "ops.c"])
def test_a_library_of_an_earlier_build_goes_when_a_file_cannot_be_compiled(
    root: Path, wrong: str
) -> None:
    assert not is_pure(built(root)[0])
    assert (root / LIBRARY).exists()
    (root / FOLDER / wrong).write_text("no C\n")
    data, warnings = built(root)
    assert is_pure(data)
    assert not (root / LIBRARY).exists()
    assert wrong in warnings[0]


@pytest.mark.usefixtures("compiler")
def test_a_library_of_an_earlier_build_goes_when_it_cannot_be_linked(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / LIBRARY).write_bytes(b"of an earlier build")
    compile_only = f'case " $* " in *" -shared "*) exit 1;; esac\nexec {real_compiler()} "$@"'
    install(tmp_path / "bin", "cc", compile_only)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    data, warnings = built(root)
    assert is_pure(data)
    assert len(warnings) == 1
    assert not (root / LIBRARY).exists()


@pytest.mark.parametrize("command", ["no-such-compiler", "/no/such/compiler -O2", "false"])
def test_without_a_compiler_that_works_there_is_a_warning_and_no_library(
    root: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("CC", command)
    data, warnings = built(root)
    assert is_pure(data)
    assert not (root / LIBRARY).exists()
    (warning,) = warnings
    assert warning.startswith("engine without kernels of its own: ")


@pytest.mark.parametrize("target", ["sdist", "custom"])
def test_only_wheels_get_a_library(root: Path, target: str) -> None:
    data, warnings = built(root, target)
    assert is_pure(data)
    assert not warnings
    assert not (root / LIBRARY).exists()


@pytest.mark.parametrize(
    ("system", "machine"), [("linux", "aarch64"), ("darwin", "x86_64"), ("win32", "AMD64")]
)
def test_other_machines_get_no_library_and_no_warning(
    root: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    data, warnings = built(root)
    assert is_pure(data)
    assert not warnings
    assert not (root / LIBRARY).exists()
