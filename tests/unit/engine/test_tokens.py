"""Kept token ids: the same as without, within the budget, each text tokenised once."""

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from engine.tokens import ENTRY_OVERHEAD_BYTES, Ids, TokenCache


class Tokeniser:
    """Gives one id a character, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        self.asked += texts
        return [np.asarray([ord(letter) for letter in text], dtype=np.int32) for text in texts]


def test_each_text_is_tokenised_once() -> None:
    cache, tokenise = TokenCache(), Tokeniser()
    first = cache.look_up(["ab", "c", "ab"], tokenise)
    second = cache.look_up(["c", "d", "ab"], tokenise)
    assert tokenise.asked == ["ab", "c", "d"]
    assert [ids.tolist() for ids in first] == [[97, 98], [99], [97, 98]]
    assert [ids.tolist() for ids in second] == [[99], [100], [97, 98]]


def test_the_least_recently_used_goes_first() -> None:
    cache, tokenise = TokenCache(2 * (ENTRY_OVERHEAD_BYTES + 4)), Tokeniser()
    for text in ["a", "b", "a", "c"]:
        cache.look_up([text], tokenise)
    cache.look_up(["a"], tokenise)
    assert tokenise.asked == ["a", "b", "c"]
    cache.look_up(["b"], tokenise)
    assert tokenise.asked == ["a", "b", "c", "b"]


def test_what_is_larger_than_the_budget_is_not_kept() -> None:
    cache, tokenise = TokenCache(ENTRY_OVERHEAD_BYTES + 4), Tokeniser()
    for _ in range(2):
        assert cache.look_up(["long"], tokenise)[0].tolist() == [108, 111, 110, 103]
    assert tokenise.asked == ["long", "long"]


def test_kept_ids_cannot_be_changed() -> None:
    (ids,) = TokenCache().look_up(["a"], Tokeniser())
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 0


def test_half_characters_are_texts_of_their_own() -> None:
    cache, tokenise = TokenCache(), Tokeniser()
    first, second = cache.look_up(["\ud800", "\udc00"], tokenise)
    assert first.tolist() != second.tolist()


def test_an_entry_costs_what_is_reckoned() -> None:
    cache, count, tokens = TokenCache(), 2_000, 40
    texts = [f"{number:040}" for number in range(count)]
    tracemalloc.start()
    try:
        cache.look_up(texts, lambda asked: [np.zeros(tokens, dtype=np.int32) for _ in asked])
        used = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert used <= ENTRY_OVERHEAD_BYTES + 4 * tokens


def test_nothing() -> None:
    assert TokenCache().look_up([], Tokeniser()) == []
