"""Simulated users: they look at a list from above, and click on what they see and like.

The position-based click model (Craswell et al., "An experimental comparison of click
position-bias models", WSDM 2008): a click is a look times a liking. How often the place is looked
at falls with its rank; the liking comes from the collection's judgements.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from demo.asking import Answered, Asking
from demo.loop.world import World
from demo.services import TOPICS
from schemas.cloudevents import CLICK, headers
from schemas.events import Click
from training.seeds import seeded

SOURCE = "/kafka-reranker/demo/loop"


class Taste(Protocol):
    """How likely a document that was looked at is clicked."""

    def likes(self, grade: int) -> float:
        """Return the chance, for a grade of which 0 is wrong."""


@dataclass(frozen=True)
class Knowing:
    """Users who can tell right from wrong, nearly always."""

    right: float = 0.9
    wrong: float = 0.05

    def likes(self, grade: int) -> float:
        """Return the chance of a click."""
        return self.right if grade > 0 else self.wrong


@dataclass(frozen=True)
class Blind:
    """Users who click on anything: nothing can be learnt from them."""

    rate: float = 0.3

    def likes(self, grade: int) -> float:
        """Return the chance of a click, which doesn't depend on the grade."""
        del grade
        return self.rate


@dataclass(frozen=True)
class Users:
    """Everyone asks every question `sessions` times in all; looks fall with 1 / position ** eta."""

    taste: Taste
    sessions: int
    eta: float
    seed: int

    def visit(
        self, asking: Asking, world: World, advance: Callable[[int], None]
    ) -> tuple[int, int]:
        """Ask and click; returns how many lists were shown, and how many clicks there were."""
        rng = seeded(self.seed, "clicks")
        lists = clicks = 0
        for _ in range(self.sessions):
            answers = asking.ask(list(world.asked.values()), advance)
            for question_id, answer in zip(world.asked, answers, strict=True):
                clicks += self._click(asking, world, question_id, answer, rng)
                lists += 1
            # One session at a time: its clicks are on the topic before the next one's lists.
            asking.producer.flush(10.0)
        return lists, clicks

    def _click(
        self, asking: Asking, world: World, question_id: str, answer: Answered, rng: Random
    ) -> int:
        clicks = 0
        for entry in answer.ranked.ranking:
            look = 1 / entry.rank**self.eta
            if rng.random() < look * self.taste.likes(world.grade(question_id, entry.doc_id)):
                _publish(
                    asking,
                    Click(
                        query_id=answer.ranked.query_id,
                        doc_id=entry.doc_id,
                        position=entry.rank,
                    ),
                )
                clicks += 1
        return clicks


def _publish(asking: Asking, click: Click) -> None:
    asking.producer.produce(
        TOPICS.feedback,
        key=click.query_id.encode(),
        value=click.model_dump_json(exclude_none=True).encode(),
        headers=headers(f"click-{uuid.uuid4()}", CLICK, SOURCE, time.time()),
    )
