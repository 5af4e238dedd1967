"""Pairs to grades: from the cache where they are, from the model while the budget lasts."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol

from export.bars import progress
from training.annotate.cache import AnswerCache, key_of
from training.annotate.llm import PROMPT_VERSION, Answer
from training.plan_data import LlmPlan

MAX_GRADE = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair that waits for a grade."""

    query: str
    tenant: str | None
    doc_id: str
    text: str


class Asks(Protocol):
    """What grading needs of a model."""

    def grade(self, query: str, text: str) -> Answer:
        """Return the grade of a pair, from any thread."""
        ...


@dataclass
class Usage:
    """What was asked and spent. `unasked` is what the budget did not allow."""

    from_cache: int = 0
    graded: int = 0
    failed: int = 0
    unasked: int = 0
    calls: int = 0
    tokens: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    def allows(self, plan: LlmPlan, in_flight: int) -> bool:
        """Whether another pair may be asked for, should all that are under way need one call."""
        mean = self.tokens / self.calls if self.calls else 0
        return (
            self.calls + in_flight < plan.max_calls
            and self.tokens + mean * (in_flight + 1) <= plan.max_tokens
        )


def grade_all(
    pairs: Iterable[Pair], asks: Asks, cache: AnswerCache, plan: LlmPlan, usage: Usage
) -> dict[int, int]:
    """Return place of the pair → grade; `usage` is told what it took. Raises EndpointError."""
    grades: dict[int, int] = {}
    waiting: list[tuple[int, Pair, str]] = []
    for place, pair in enumerate(pairs):
        key = _key(plan, pair)
        grade = cache.get(key)
        if grade is None:
            waiting.append((place, pair, key))
        else:
            grades[place] = grade
            usage.from_cache += 1
    with progress("asking the model", len(waiting)) as advance:
        for place, key, answer in _answers(waiting, asks, plan, usage):
            advance(1)
            if answer.grade is None:
                usage.failed += 1
                why = answer.why or "unknown"
                usage.failures[why] = usage.failures.get(why, 0) + 1
                continue
            cache.put(key, answer.grade)
            grades[place] = answer.grade
            usage.graded += 1
    usage.unasked = len(waiting) - usage.graded - usage.failed
    return grades


def _answers(
    waiting: list[tuple[int, Pair, str]], asks: Asks, plan: LlmPlan, usage: Usage
) -> Iterator[tuple[int, str, Answer]]:
    """Give answers as they come; never more than `concurrency` are under way."""
    queue = iter(waiting)
    running: dict[Future[Answer], tuple[int, str]] = {}
    with ThreadPoolExecutor(plan.concurrency, thread_name_prefix="annotate") as pool:
        try:
            while True:
                while len(running) < plan.concurrency and usage.allows(plan, len(running)):
                    item = next(queue, None)
                    if item is None:
                        break
                    place, pair, key = item
                    running[pool.submit(asks.grade, pair.query, pair.text)] = (place, key)
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    place, key = running.pop(future)
                    answer = future.result()
                    usage.calls += answer.calls
                    usage.tokens += answer.tokens
                    yield place, key, answer
        finally:
            for future in running:
                future.cancel()


def _key(plan: LlmPlan, pair: Pair) -> str:
    text = pair.text[: plan.max_document_chars]
    return key_of(PROMPT_VERSION, plan.endpoint, plan.model, plan.instructions, pair.query, text)
