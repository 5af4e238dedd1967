from pathlib import Path

import pytest

from export.calibration import MAX_PAIRS, load_pairs
from export.errors import CalibrationError, ExportError
from export.evaluation_set import load_calibration
from tests.unit.export.family_checkpoints import QUERIES, TEXTS, write_collection


def test_built_in_pairs_are_many_and_share_no_query() -> None:
    pairs = load_pairs(None)
    assert len(pairs.measure) >= 100
    assert len(pairs.judge) >= 100
    assert not {query for query, _ in pairs.measure} & {query for query, _ in pairs.judge}
    assert pairs == load_pairs(None)


def test_own_pairs_are_read_and_wrong_lines_named(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"query": "a", "document": "b"}\n\n{"query": "c", "document": "d"}\n')
    assert load_pairs(file).measure == (("a", "b"),)
    assert load_pairs(file).judge == (("c", "d"),)
    for line in ("{", "[]", '{"query": "a"}', '{"query": "a", "document": 1}'):
        file.write_text('{"query": "a", "document": "b"}\n' + line)
        with pytest.raises(CalibrationError, match="line 2"):
            load_pairs(file)
    file.write_text('{"query": "a", "document": "b"}')
    with pytest.raises(CalibrationError, match="at least two queries"):
        load_pairs(file)


def test_a_collection_gives_judged_pairs_and_such_that_look_alike(tmp_path: Path) -> None:
    judged = [(query, [(TEXTS[at], 1)]) for at, query in enumerate(QUERIES)]
    pairs = load_calibration(write_collection(tmp_path / "data", judged))
    assert pairs.name == "data"
    every = pairs.measure + pairs.judge
    assert (QUERIES[0], TEXTS[0]) in every
    assert {query for query, _ in every} == set(QUERIES)
    assert len(QUERIES) < len(every) <= MAX_PAIRS
    assert not {query for query, _ in pairs.measure} & {query for query, _ in pairs.judge}


def test_a_folder_that_is_no_collection_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has no corpus\.jsonl"):
        load_calibration(tmp_path)
