"""Downloads that are interrupted: no half of a bundle is left, and the next one is whole."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from engine.bundles import open_model
from engine.errors import RemoteError
from engine.remote import open_cached
from tests.conftest import REPOSITORY
from tests.unit.engine.test_remote import address  # noqa: F401 - a fixture
from tests.unit.export.test_seal import write


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), RemoteError, "Connection reset by peer"),
        (TimeoutError(), RemoteError, "TimeoutError"),
        (None, RemoteError, "'model.onnx' is not the file that the manifest names"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_download_that_breaks_off_halfway_leaves_nothing_and_the_next_one_is_whole(
    address: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    raised: type[BaseException],
    said: str | None,
) -> None:
    """The connection fails, or ends as if that were all, with a part of a file on the disk."""
    cache = tmp_path / "cache"
    written: list[str] = []

    def half(file: BinaryIO) -> Iterator[bytes]:
        yield file.read(3)
        written.extend(path.name for path in cache.rglob("*") if path.is_file())
        if error is not None:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr("engine.remote._read", half)
        with pytest.raises(raised, match=said):
            open_cached(address, cache, open_model, "model")
    assert "model.onnx" in written
    assert list(cache.iterdir()) == []

    bundle = open_cached(address, cache, open_model, "model")

    assert bundle.file("model.onnx").read_text() == "weights"
    assert [path.name for path in cache.iterdir()] == [bundle.path.name]


# Stands still with a part of a file on the disk, until it is killed.
STAND_STILL = """
import sys, time
from pathlib import Path
import engine.remote
from engine.bundles import open_model
def half(file):
    yield file.read(3)
    print("half", flush=True)
    time.sleep(600)
engine.remote._read = half
engine.remote.open_cached(sys.argv[1], Path(sys.argv[2]), open_model, "model")
"""


def test_a_process_that_is_killed_while_it_downloads_leaves_no_bundle(tmp_path: Path) -> None:
    """What it leaves has another name than any bundle, and the next download removes it."""
    write(tmp_path / "source", "weights")
    source, cache = f"file://{tmp_path}/source", tmp_path / "cache"
    digest = open_model(tmp_path / "source").digest.removeprefix("sha256:")
    command = [sys.executable, "-c", STAND_STILL, source, str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.kill()
    (left,) = cache.iterdir()
    assert left.name.startswith(".download.")
    os.utime(left, (0, 0))

    bundle = open_cached(source, cache, open_model, "model")

    assert [path.name for path in cache.iterdir()] == [bundle.path.name] == [digest]
    assert bundle.file("model.onnx").read_text() == "weights"


HOUR_S, DAYS_S = 3600, 2 * 24 * 3600


@pytest.mark.parametrize(("written_ago_s", "stays"), [(HOUR_S, True), (DAYS_S, False)])
def test_a_download_of_an_earlier_version_is_let_be_while_it_may_be_alive(
    address: str,  # noqa: F811
    tmp_path: Path,
    written_ago_s: int,
    stays: bool,
) -> None:
    """Those lock nothing, and while one file is written the folders' own times are old."""
    cache = tmp_path / "cache"
    theirs = cache / ".fetch.0123abcd"
    (theirs / "new").mkdir(parents=True)
    file = theirs / "new" / "model.onnx"
    file.write_text("half")
    for path, ago_s in ((file, written_ago_s), (theirs / "new", DAYS_S), (theirs, DAYS_S)):
        os.utime(path, (time.time() - ago_s,) * 2)

    bundle = open_cached(address, cache, open_model, "model")

    assert {path.name for path in cache.iterdir()} == {bundle.path.name} | (
        {theirs.name} if stays else set()
    )
