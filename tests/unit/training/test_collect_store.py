"""Events on disk: each once, whatever the moment of a kill; nothing of a user unless asked."""

import errno
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from training.collect.events import BadEventError, Row, UnknownKindError, decode
from training.collect.store import EventStore, Progress, event_files, opened
from training.errors import TrainingError
from training.run_folder import RunFolder

CLICK = {"kind": "click", "query_id": "q-1", "doc_id": "d-1", "position": 2, "user": "u-9"}
IMPRESSION = {
    "kind": "impression",
    "query_id": "q-1",
    "query": "red fox",
    "tenant": "shop",
    "model": {"name": "m", "digest": "sha256:0", "precision": "int8"},
    "shown": [{"doc_id": "d-1", "rank": 1, "score": 2.5, "retrieval_rank": 4, "text": "fox"}],
    "attributes": {"user": "u-9"},
}


def row(event: dict[str, Any], event_id: str | None = None, offset: int = 0) -> Row:
    value = json.dumps(event).encode()
    return decode(value, event_id, f"t/0/{offset}", 1_764_000_000_000, keep_user=False)


def rows_of(run: RunFolder, kind: str = "click") -> list[dict[str, Any]]:
    return [found for file in event_files(run, kind) for found in pq.read_table(file).to_pylist()]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_an_impression_becomes_a_row(run: RunFolder) -> None:
    with opened(run) as store:
        store.write([row(IMPRESSION, "id-1")], Progress("t", {0: 1}))
    (path,) = event_files(run, "impression")
    assert path.parent.name == "date=2025-11-24"
    (found,) = rows_of(run, "impression")
    assert found["query"] == "red fox"
    assert found["model_digest"] == "sha256:0"
    assert found["tier"] == "full"
    (shown,) = found["shown"]
    assert (shown["doc_id"], shown["rank"], shown["retrieval_rank"]) == ("d-1", 1, 4)
    assert found["extra"] is None


@pytest.mark.parametrize("event", [CLICK, IMPRESSION])
def test_users_stay_behind_unless_they_are_asked_for(event: dict[str, Any]) -> None:
    assert "u-9" not in repr(row(event))
    asked = decode(json.dumps(event).encode(), None, "t/0/0", 0, keep_user=True)
    assert "u-9" in asked.columns["user"]


def test_an_id_that_came_before_is_left_out_late_or_at_once(run: RunFolder) -> None:
    with opened(run) as store:
        store.write([row(CLICK, "a"), row(CLICK, "a"), row(CLICK, "b")], Progress("t", {0: 3}))
        store.write([row(CLICK, "b"), row(CLICK, None, 9)], Progress("t", {0: 5}))
        assert store.counts() == {"impression": 0, "click": 3, "judgement": 0, "duplicates": 2}
        assert store.offsets("t") == {0: 5}
    assert [found["event_id"] for found in rows_of(run)] == ["a", "b", "t/0/9"]


class Killed(BaseException):
    """As if the process ended here."""


def kill(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("step", ["_write_beside", "_note", "finish"])
def test_a_kill_leaves_each_event_once(
    run: RunFolder, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(run) as store:
        store.write([row(CLICK, "a")], Progress("t", {0: 1}))
    with opened(run) as store, monkeypatch.context() as patch:
        patch.setattr(EventStore, step, kill)
        with pytest.raises(Killed):
            store.write([row(CLICK, "b"), row(CLICK, "c")], Progress("t", {0: 3}))
    with opened(run) as store:
        committed = step == "finish"
        assert store.offsets("t") == {0: 3 if committed else 1}
        assert list(run.events.rglob("*.part")) == []
        assert len(rows_of(run)) == (3 if committed else 1)
        store.write([row(CLICK, "b"), row(CLICK, "c")], Progress("t", {0: 3}))  # read again
    assert [found["event_id"] for found in rows_of(run)] == ["a", "b", "c"]


def test_a_full_disk_is_one_line_and_costs_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(run) as store:
        with monkeypatch.context() as patch:
            patch.setattr("training.collect.store.pq.write_table", full)
            with pytest.raises(TrainingError, match="no space left"):
                store.write([row(CLICK, "a")], Progress("t", {0: 1}))
        assert store.offsets("t") == {}
        store.write([row(CLICK, "a")], Progress("t", {0: 1}))
    assert len(rows_of(run)) == 1


def test_two_at_once_are_refused(run: RunFolder) -> None:
    second = opened(run)
    with opened(run), pytest.raises(TrainingError, match="another collect is at work"):
        second.__enter__()


def test_what_is_no_event() -> None:
    with pytest.raises(BadEventError, match=r"click\.position: Field required"):
        row({"kind": "click", "query_id": "q", "doc_id": "d"})
    with pytest.raises(BadEventError, match="Invalid JSON"):
        decode(b"{", None, "t/0/0", 0, keep_user=False)
    with pytest.raises(BadEventError, match="no value"):
        decode(None, None, "t/0/0", 0, keep_user=False)
    with pytest.raises(UnknownKindError):
        row({"kind": "smile", "query_id": "q"})
