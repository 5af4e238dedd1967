from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("torch")
pytest.importorskip("confluent_kafka")

from demo.asking import Answered, Asking
from demo.errors import DemoError
from demo.loop.users import Blind, Knowing, Taste, Users
from demo.loop.world import World, open_world, write_held_out
from export.corpus import open_collection, read_corpus
from schemas.events import Click
from tests.unit.demo.answers import answered
from tests.unit.demo.tiny_world import write_tiny_world


class Shown:
    """Answers each question with the same ten documents, and keeps the clicks."""

    def __init__(self, ranking: list[str]) -> None:
        self.ranking = ranking
        self.clicks: list[Click] = []
        self.producer = self

    def ask(self, questions: list[str], advance: Any) -> list[Answered]:
        advance(len(questions))
        return [self._answer(question) for question in questions]

    def _answer(self, question: str) -> Answered:
        answer = answered(question, range(1, len(self.ranking) + 1))
        ranking = tuple(
            entry.model_copy(update={"doc_id": doc_id})
            for entry, doc_id in zip(answer.ranked.ranking, self.ranking, strict=True)
        )
        return replace(answer, ranked=answer.ranked.model_copy(update={"ranking": ranking}))

    def produce(self, topic: str, key: bytes, value: bytes, headers: dict[str, bytes]) -> None:
        assert topic.endswith("feedback")
        self.clicks.append(Click.model_validate_json(value))

    def flush(self, timeout_s: float) -> None:
        """Nothing is kept back."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(write_tiny_world(tmp_path_factory.mktemp("world") / "w"), 0.4, None, 7)


def visit(world: World, taste: Taste, sessions: int = 40) -> list[Click]:
    shown = Shown([f"d{number}" for number in range(10)])
    lists, clicks = Users(taste, sessions, 1.0, 7).visit(
        cast("Asking", shown), world, lambda _: None
    )
    assert lists == sessions * len(world.asked)
    assert clicks == len(shown.clicks)
    return shown.clicks


def test_the_first_place_gets_most_clicks_of_blind_users(world: World) -> None:
    clicks = visit(world, Blind())

    counts = [sum(click.position == place for click in clicks) for place in range(1, 11)]
    shows = 40 * len(world.asked)
    assert counts[0] / shows == pytest.approx(0.3, abs=0.03)
    assert counts[0] / counts[4] == pytest.approx(5, rel=0.25)


def test_users_who_know_click_on_what_is_right(world: World) -> None:
    clicks = visit(world, Knowing())

    wrong = sum(click.position == 1 for click in clicks if click.doc_id != "d0")
    assert wrong == 0
    right = {question_id for question_id in world.asked if world.grade(question_id, "d0") > 0}
    first = sum(click.doc_id == "d0" for click in clicks)
    others = len(world.asked) - len(right)
    assert first == pytest.approx(40 * (0.9 * len(right) + 0.05 * others), rel=0.2)


def test_no_question_is_both_asked_and_held_out(world: World, tmp_path: Path) -> None:
    assert not set(world.asked.values()) & set(world.held_out.values())
    assert (len(world.asked), len(world.held_out)) == (42, 28)

    written = open_collection(write_held_out(world, tmp_path / "held-out"))

    assert written.queries == world.held_out
    assert set(written.judgements) == set(world.held_out)


def test_quotes_in_ids_stay_as_they_are(world: World, tmp_path: Path) -> None:
    question_id, text = next(iter(world.held_out.items()))
    judged = {'"q"': {'"d"': 1, 'say "d"': 0}, question_id: {"d\r1": 1}}
    texts = {'"q"': "what does it say", question_id: text}
    source = replace(world.held_out_of, judgements=judged)

    folder = write_held_out(replace(world, held_out_of=source, held_out=texts), tmp_path / "it")

    assert open_collection(folder).judgements == judged


def test_a_missing_collection_says_where_it_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="RERANKER_TEST_DATA"):
        open_world(tmp_path / "nowhere", 0.5, None, 7)


def test_parts_of_a_collection_are_asked_and_the_test_part_is_held_out(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        write_tiny_world(tmp_path / "both" / name)

    world = open_world(tmp_path / "both", 0.5, 30, 7, tmp_path / "asked")

    assert world.name == "both/train + both/dev, held out: both/test"
    assert (len(world.asked), len(world.held_out)) == (30, 70)
    assert {question_id[:2] for question_id in world.asked} == {"1/", "2/"}
    question_id = next(iter(world.asked))
    right = [
        doc_id for doc_id, grade in world.collection.judgements[question_id].items() if grade > 0
    ]
    assert world.grade(question_id, right[0]) == 1
    assert right[0].startswith(question_id[:2])
    texts = [document.doc_id for document in read_corpus(world.collection.corpus)]
    assert len(texts) == len(set(texts)) == 560
    written = open_collection(write_held_out(world, tmp_path / "held-out"))
    assert written.queries == world.held_out
