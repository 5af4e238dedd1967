"""Long documents in passages, of which the best counts."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bundles import open_model
from engine.lanes import Lanes
from engine.pairs import PairEncoder
from engine.passages import Passages, cut
from engine.score import Scorer
from tests.fakes.encoder import NAN, NAN_ID, tiny_encoder, tiny_tokenizer_json
from tests.fakes.graph import FakeGraph, logit_of
from tests.fakes.store import FakeStore
from tests.unit.tiny_retrieval import write_counting_model
from worker.caches import PairCache
from worker.scoring import PairRequest, PairScorer

LONG = " ".join(f"line {number} of the file" for number in range(60))
TEMPLATE = tiny_encoder(max_tokens=64).template


@pytest.mark.parametrize(
    ("tokens", "passages", "expected"),
    [
        (25, Passages(1, 4), [(0, 10)]),
        (25, Passages(9, 0), [(0, 10), (10, 20), (20, 25)]),
        (25, Passages(9, 4), [(0, 10), (6, 16), (12, 22), (18, 25)]),
        (25, Passages(2, 4), [(0, 10), (6, 16)]),
        (10, Passages(9, 4), [(0, 10)]),
        (11, Passages(9, 4), [(0, 10), (6, 11)]),
        (0, Passages(9, 4), [(0, 0)]),
        # More than half of a passage is never shared: the next would hardly get on.
        (20, Passages(9, 99), [(0, 10), (5, 15), (10, 20)]),
    ],
)
def test_where_passages_begin_and_end(
    tokens: int, passages: Passages, expected: list[tuple[int, int]]
) -> None:
    assert [(each.start, each.stop) for each in cut(tokens, 10, passages)] == expected
    turned = [(tokens - end, tokens - start) for start, end in reversed(expected)]
    from_end = cut(tokens, 10, passages, from_end=True)
    assert [(each.start, each.stop) for each in from_end] == turned


@given(st.integers(0, 300), st.integers(2, 60), st.integers(0, 80))
def test_all_is_read_where_passages_are_not_counted(tokens: int, room: int, overlap: int) -> None:
    found = cut(tokens, room, Passages(1_000, overlap))
    assert found[0].start == 0
    assert found[-1].stop == tokens
    assert all(one.stop >= other.start > one.start for one, other in pairwise(found))
    assert all(each.stop - each.start <= room for each in found)


@pytest.fixture
def tokenizer_json(tmp_path: Path) -> Path:
    file = tmp_path / "tokenizer.json"
    file.write_text(tiny_tokenizer_json())
    return file


def test_one_passage_is_what_was_read_before(tokenizer_json: Path) -> None:
    plain = PairEncoder.load(tokenizer_json, TEMPLATE)
    query = plain.encode_query("read a line")
    (pair,) = plain.encode(query, [LONG])
    (parts,) = plain.encode_passages(query, [LONG])
    assert len(parts) == 1
    assert parts[0].ids.tolist() == pair.ids.tolist()
    assert pair.truncated


def test_passages_hold_the_whole_document_and_say_when_they_do_not(tokenizer_json: Path) -> None:
    whole = PairEncoder.load(tokenizer_json, TEMPLATE, Passages(100, 0))
    query = whole.encode_query("read a line")
    (parts,) = whole.encode_passages(query, [LONG])
    tokens = np.concatenate([each.ids[each.document_start : -1] for each in parts])
    assert whole.tokenizer.decode(tokens.tolist()) == LONG
    assert all(len(each.ids) <= TEMPLATE.max_tokens for each in parts)
    assert not any(each.truncated for each in parts)

    some = PairEncoder.load(tokenizer_json, TEMPLATE, Passages(2, 0))
    (first,) = some.encode_passages(query, [LONG])
    assert [each.ids.tolist() for each in first] == [each.ids.tolist() for each in parts[:2]]
    assert all(each.truncated for each in first)


def test_the_worker_takes_the_best_passage_and_keeps_it(tokenizer_json: Path) -> None:
    encoder = PairEncoder.load(tokenizer_json, TEMPLATE, Passages(3, 8))
    graph = FakeGraph()
    lanes = Lanes(graph, 2)
    try:
        scorer = PairScorer(encoder, lanes, PairCache(FakeStore(), "model:3/8"))
        request = PairRequest("read a line", [LONG, "short", LONG + " end"])
        first = scorer.finish(scorer.begin([request])).of_request[0]
        again = scorer.finish(scorer.begin([request])).of_request[0]
    finally:
        lanes.close()

    passages = encoder.encode_passages(encoder.encode_query("read a line"), request.documents)
    assert [len(each) for each in passages] == [3, 1, 3]
    best = [max(logit_of(part.ids) for part in parts) for parts in passages]
    assert [score.logit for score in first if score is not None] == best
    assert [score.truncated for score in first if score is not None] == [True, False, True]
    assert again == first
    assert len(graph.rows) == 7


def test_a_passage_that_cannot_be_scored_leaves_its_document_without_a_score(
    tokenizer_json: Path,
) -> None:
    encoder = PairEncoder.load(tokenizer_json, TEMPLATE, Passages(3, 0))
    document = "line by line " * 10 + NAN + " line by line" * 10
    (parts,) = encoder.encode_passages(encoder.encode_query("read"), [document])
    assert [NAN_ID in each.ids.tolist() for each in parts].count(True) == 1 < len(parts)
    lanes = Lanes(FakeGraph(nan_on={NAN_ID}), 1)
    try:
        scorer = PairScorer(encoder, lanes, PairCache(FakeStore(), "model"))
        (scores,) = scorer.finish(scorer.begin([PairRequest("read", [document, "x"])])).of_request
    finally:
        lanes.close()
    assert scores[0] is None
    assert scores[1] is not None


def test_scorer_finds_what_lies_deep_in_a_document(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    bundle = open_model(write_counting_model(tmp_path, "fox"))  # reads 64 tokens
    deep = " ".join(["file"] * 150 + ["fox", "fox"])
    found = {}
    for most in (1, 4):
        scorer = Scorer.open(bundle, passages=Passages(most, 8))
        try:
            found[most] = scorer.score([("dog", deep), ("dog", "fox")])
        finally:
            scorer.close()
    assert [each.logit for each in found[1]] == [0.0, 1.0]
    assert [each.logit for each in found[4]] == [2.0, 1.0]
    assert [each.truncated for each in found[1]] == [True, False]
    assert [each.truncated for each in found[4]] == [False, False]
