"""What is measured without the test collections."""

from pathlib import Path

import pytest

from bench.engine_texts import LONG_WORDS, Question, Texts, load_texts

PASSAGES = ("the cat sat", "the dog ran", "a rare zebra", "the cat and the zebra")


def test_candidates_have_rare_words_in_common() -> None:
    (question,) = Texts("t", ("zebra cat",), PASSAGES).natural(1, 2)
    assert question.documents[0] == "the cat and the zebra"
    assert question.documents[1] == "a rare zebra" or "cat" in question.documents[1]


def test_long_ones_are_as_long_as_said_and_begin_alike() -> None:
    texts = Texts("t", ("zebra",), PASSAGES)
    (natural,), (long,) = texts.natural(1, 4), texts.long(1, 4)
    for short, longer in zip(natural.documents, long.documents, strict=True):
        assert longer.startswith(short)
        assert len(longer.split()) == LONG_WORDS


def test_more_questions_than_there_are_begin_again() -> None:
    texts = Texts("t", ("one", "two"), PASSAGES)
    assert [question.query for question in texts.natural(3, 1)] == ["one", "two", "one"]


def test_a_salt_changes_the_query_alone() -> None:
    assert Question("q", ("d",)).salted("(1)") == Question("q (1)", ("d",))


def test_docstrings_stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RERANKER_TEST_DATA", str(tmp_path))
    texts = load_texts()
    assert texts.name == "standard library docstrings"
    assert len(texts.queries) >= 20
    assert len(texts.passages) >= 100
