"""What a step writes is there whole or not at all, and its end is noted with its inputs."""

import errno
from pathlib import Path

import pytest

from training.errors import InputError, TrainingError
from training.label_rows import LabelRow, read_rows, write_rows
from training.run_folder import (
    digest_of_files,
    read_done,
    write_done,
    write_json,
    written_beside,
)

ROW = LabelRow("q", "red fox", None, "d", "a fox", 1.0, 1.0, "train", "click", 3, 0.5)


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with pytest.raises(IsADirectoryError), written_beside(path) as beside:
        tmp_path.write_text(beside.write_text("half") * "x")
    assert [one.name for one in tmp_path.iterdir()] == ["file.json"]
    assert "old" in path.read_text()


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with pytest.raises(TrainingError, match="no space left to write"), written_beside(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [one.name for one in tmp_path.iterdir()] == ["file.json"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("one", "two"):
        with written_beside(path) as beside:
            beside.mkdir()
            (beside / name).write_text(name)
    assert [one.name for one in path.iterdir()] == ["two"]


def test_an_end_counts_for_its_inputs_only(tmp_path: Path) -> None:
    assert read_done(tmp_path, {"a": "1"}) is None
    write_done(tmp_path, {"a": "1"}, {"rows": 3})
    assert read_done(tmp_path, {"a": "1"}) == {"rows": 3}
    assert read_done(tmp_path, {"a": "2"}) is None
    (tmp_path / "done.json").write_text("{")
    assert read_done(tmp_path, {"a": "1"}) is None


def test_a_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("x")
    two.write_text("x")
    assert digest_of_files([one], tmp_path) != digest_of_files([two], tmp_path)
    before = digest_of_files([one, two], tmp_path)
    assert digest_of_files([two, one], tmp_path) == before
    two.write_text("y")
    assert digest_of_files([one, two], tmp_path) != before


def test_rows_come_back_by_split(tmp_path: Path) -> None:
    path = tmp_path / "groups.parquet"
    rows = [ROW, LabelRow("p", "blue", "shop", "e", "", 0.0, 0.5, "dev", "mined")]
    assert write_rows(iter(rows), path) == 2
    assert list(read_rows(path)) == rows
    assert list(read_rows(path, "dev")) == rows[1:]
    first = path.read_bytes()
    write_rows(iter(rows), path)
    assert path.read_bytes() == first


def test_rows_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "groups.parquet"
    with pytest.raises(InputError, match="run `python -m training label` first"):
        list(read_rows(path))
    path.write_text("no")
    with pytest.raises(InputError, match="is not Parquet"):
        list(read_rows(path))
