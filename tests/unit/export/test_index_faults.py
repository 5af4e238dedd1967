"""Builds that are killed, or that a disk has no room for: no half of a bundle, and one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.bundles import Bundle, open_index
from export.__main__ import main
from export.errors import ExportError
from export.index_segment import check_space
from export.index_types import choose
from schemas.manifests import IndexManifest
from tests.unit.tiny_retrieval import DOCUMENTS

# Stands still with the documents written and the index not, until it is killed.
STAND_STILL = """
import sys, time
from export import index_build
from export.__main__ import main
def stand_still(*_):
    print("embedding", flush=True)
    time.sleep(600)
index_build.embed_into = stand_still
sys.exit(main(sys.argv[1:]))
"""

# The kernel refuses to let files grow past so many bytes, as it does on a full disk.
SMALL_FILES = """
import resource, sys
from export import index_segment, index_update
from export.__main__ import main
module = {"embed_into": index_update, "write_index": index_segment}[sys.argv[1]]
step = getattr(module, sys.argv[1])
def limited(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    return step(*arguments)
setattr(module, sys.argv[1], limited)
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        "".join(json.dumps(each | {"_id": f"x{each['_id']}"}) + "\n" for each in DOCUMENTS)
    )
    return path


def test_after_a_kill_there_is_no_bundle_and_the_same_command_works(
    tmp_path: Path, corpus: Path, tiny_embedder: Path
) -> None:
    words = ["index", "--corpus", str(corpus), "--model", str(tiny_embedder)]
    words += ["--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", STAND_STILL, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"embedding\n"
        child.send_signal(signal.SIGKILL)

    assert not (tmp_path / "out").exists()
    (left,) = tmp_path.glob(".out.*")
    old = time.time() - 60
    os.utime(left, (old, old))

    assert main(words) == 0
    assert open_index(tmp_path / "out").manifest.documents == len(DOCUMENTS)
    assert {path.name for path in tmp_path.iterdir()} == {"corpus.jsonl", "out"}


@pytest.mark.parametrize("step", ["embed_into", "write_index"])
def test_a_file_that_cannot_grow_is_one_line(
    tmp_path: Path, corpus: Path, tiny_index: Bundle[IndexManifest], step: str
) -> None:
    words = ["index", "--base", str(tiny_index.path), "--add", str(corpus), "--merge"]
    words += ["--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", SMALL_FILES, step, *words]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert last.startswith("error: ")
    assert "(File too large)" in last
    assert "free" in last
    assert {path.name for path in tmp_path.iterdir()} == {"corpus.jsonl"}


def test_too_small_a_disk_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"takes about 1\.7 GB .* 1\.0 GB are free: free some"):
        check_space(tmp_path, choose(1_000_000), 1_000_000, 384, lambda _: 1_000_000_000)
    check_space(tmp_path, choose(1_000_000), 1_000_000, 384, lambda _: 2_000_000_000)
