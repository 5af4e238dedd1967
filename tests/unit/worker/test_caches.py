"""Cached equals computed, another digest never hits, and garbage is a miss."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import QueryEvent
from tests.fakes.store import FakeStore
from worker.caches import CachedRanking, PairCache, RankingCache
from worker.rank import Score

MODEL, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
EVENT = QueryEvent(query_id="q", query="read")


def ranking(*rows: tuple[str, float | None, float, bool]) -> CachedRanking:
    return CachedRanking(
        doc_ids=tuple(row[0] for row in rows),
        retrieval_scores=tuple(row[1] for row in rows),
        scores=tuple(Score(row[2], row[3]) for row in rows),
    )


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@given(float32s, st.booleans())
def test_a_score_comes_back_bit_for_bit(logit: float, truncated: bool) -> None:
    cache = PairCache(FakeStore(), MODEL)
    (key,) = cache.keys("q", ["d"])
    computed = Score(float(np.float32(logit)), truncated)
    cache.put({key: computed})
    (cached,) = cache.get([key])
    assert cached is not None
    assert bits(cached.logit) == bits(computed.logit)
    assert cached.truncated is truncated


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
            float32s,
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_ranking_comes_back_bit_for_bit(
    rows: list[tuple[str, float | None, float, bool]],
) -> None:
    cache = RankingCache(FakeStore(), MODEL, OTHER)
    key = cache.key(EVENT)
    cache.put({key: ranking(*rows)})
    (found,) = cache.get([key])
    assert repr(found) == repr(ranking(*rows))  # 0.0 and -0.0 are equal, but not the same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("", "ab"), ("ab", "")),
        (("a", "b"), ("b", "a")),
        (("1:a", "b"), ("1", ":ab")),
        (("q", "é"), ("q", "e\u0301")),
        (("é", "x"), ("Ã©", "x")),
        (("q", "d"), ("q", "d ")),
        (("q", "d"), ("Q", "d")),
        (("q", "\U0001f600"), ("q", "\U0001f601")),
    ],
)
def test_different_pairs_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    cache = PairCache(FakeStore(), MODEL)
    assert cache.keys(one[0], [one[1]]) != cache.keys(other[0], [other[1]])


texts = st.text(st.characters(codec="utf-8"), max_size=6) | st.text("0123456789:", max_size=6)


@given(texts, texts, texts, texts)
def test_equal_keys_mean_equal_pairs(a: str, b: str, c: str, d: str) -> None:
    cache = PairCache(FakeStore(), MODEL)
    assert (cache.keys(a, [b]) == cache.keys(c, [d])) == ((a, b) == (c, d))


def test_keys_are_in_the_order_of_the_documents() -> None:
    cache = PairCache(FakeStore(), MODEL)
    assert cache.keys("q", ["a", "b", "a"]) == [cache.keys("q", [d])[0] for d in ("a", "b", "a")]


def test_another_models_score_is_never_seen() -> None:
    store = FakeStore()
    mine, theirs = PairCache(store, MODEL), PairCache(store, OTHER)
    keys = mine.keys("q", ["d"])
    mine.put({keys[0]: Score(1.0, truncated=False)})
    assert theirs.get(theirs.keys("q", ["d"])) == [None]
    assert mine.get(keys) != [None]


@pytest.mark.parametrize(("model", "index"), [(OTHER, OTHER), (MODEL, MODEL), (OTHER, MODEL)])
def test_another_models_or_indexes_ranking_is_never_seen(model: str, index: str) -> None:
    store = FakeStore()
    mine, theirs = RankingCache(store, MODEL, OTHER), RankingCache(store, model, index)
    mine.put({mine.key(EVENT): ranking(("d", None, 1.0, False))})
    assert theirs.get([theirs.key(EVENT)]) == [None]
    assert mine.get([mine.key(EVENT)]) != [None]


@pytest.mark.parametrize(
    "changed", [{"query": "Read"}, {"query": "read "}, {"top_k": 99}, {"query": "0:read"}]
)
def test_another_question_has_another_key(changed: dict[str, object]) -> None:
    cache = RankingCache(FakeStore(), MODEL, OTHER)
    assert cache.key(EVENT) != cache.key(EVENT.model_copy(update=changed))


def test_what_does_not_change_the_candidates_does_not_change_the_key() -> None:
    cache = RankingCache(FakeStore(), MODEL, OTHER)
    same = {"query_id": "other", "top_n": 3, "deadline_ms": 5, "tenant": "t", "return_text": True}
    assert cache.key(EVENT) == cache.key(EVENT.model_copy(update=same))


def test_pairs_and_rankings_have_keys_apart() -> None:
    store = FakeStore()
    pairs, rankings = PairCache(store, MODEL), RankingCache(store, MODEL, OTHER)
    assert pairs.keys("q", ["d"])[0].split(b":")[2] != rankings.key(EVENT).split(b":")[2]


NAN, INF = struct.pack("<cf?", b"s", float("nan"), False), struct.pack("<cf?", b"s", -1e999, True)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"1.5", b"s", b"x" * 6, b"s" * 5, b"s" * 7, b"\x80\x04N.", b"\xff" * 6, NAN, INF],
)
def test_a_score_of_garbage_is_a_miss(garbage: bytes) -> None:
    store = FakeStore()
    cache = PairCache(store, MODEL)
    keys = cache.keys("q", ["d"])
    store.items[keys[0]] = garbage
    assert cache.get(keys) == [None]


GOOD_ROW = ["d", 0.5, 1.5, False]


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"null",
        b"5",
        b"true",
        b'"abcd"',
        b"[]",
        b"{}",
        b'""',
        b'{"abcd": 1}',
        b"[[]]",
        b"[5]",
        b"[null]",
        b'["abcd"]',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"\x80\x04N.",
        b'[["d", 0.5, 1.5, false]',
        json.dumps([GOOD_ROW, GOOD_ROW[:3]]).encode(),
        json.dumps([[*GOOD_ROW, 1]]).encode(),
        json.dumps([["", 0.5, 1.5, False]]).encode(),
        json.dumps([[1, 0.5, 1.5, False]]).encode(),
        json.dumps([["d", "x", 1.5, False]]).encode(),
        json.dumps([["d", 0.5, None, False]]).encode(),
        json.dumps([["d", 0.5, 10**400, False]]).encode(),
        json.dumps([["d", 0.5, True, False]]).encode(),
        json.dumps([["d", 0.5, 1.5, 0]]).encode(),
        json.dumps([["d", 0.5, float("nan"), False]]).encode(),
        json.dumps([["d", float("inf"), 1.5, False]]).encode(),
        json.dumps([["\ud800", 0.5, 1.5, False]]).encode(),
        b'[["d", 0.5, 1e999, false]]',
        b'[["d", 0.5, ' + b"9" * 5000 + b", false]]",
    ],
)
def test_a_ranking_of_garbage_is_a_miss(garbage: bytes) -> None:
    store = FakeStore()
    cache = RankingCache(store, MODEL, OTHER)
    key = cache.key(EVENT)
    store.items[key] = garbage
    assert cache.get([key]) == [None]


@given(st.binary(max_size=40))
def test_no_bytes_make_a_cache_raise(garbage: bytes) -> None:
    store = FakeStore()
    pairs, rankings = PairCache(store, MODEL), RankingCache(store, MODEL, OTHER)
    keys = pairs.keys("q", ["d"])
    store.items[keys[0]] = store.items[rankings.key(EVENT)] = garbage
    pairs.get(keys)
    rankings.get([rankings.key(EVENT)])
