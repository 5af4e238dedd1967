"""Two models compared on live traffic: who answers what, and how two lists become one."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.lanes import Lanes
from schemas.events import Impression, ModelRef, QueryEvent, RankedDocument, RankedList
from tests.fakes.clock import FakeClock
from tests.fakes.encoder import POISON, POISON_ID, tiny_encoder
from tests.fakes.events import event_json, query_of
from tests.fakes.graph import FakeGraph
from tests.fakes.retriever import FakeRetriever
from tests.fakes.store import FakeStore
from tests.fakes.worker import MODEL, TOPICS, Options, new_reranker
from worker.admission import FULL, Plan, pairs_of
from worker.caches import PairCache
from worker.challenger import Challenger, Trial, team_draft
from worker.publish import Publisher
from worker.reranker import Answer, Reranker
from worker.scoring import PairScorer

OTHER = ModelRef(name="challenger", digest="sha256:" + "c4" * 32, precision="int8")
BUCKETS_OF_T = [350, 297, 864, 916, 397, 479]
TEXTS = {f"t{n}": f"text number {n} of a line" for n in range(8)}


class Negated(FakeGraph):
    """The opposite opinion."""

    def __call__(self, *inputs):  # type: ignore[no-untyped-def]
        return -super().__call__(*inputs)


def trial(mode: str = "split", share: float = 0.5, by: str = "query_id", name: str = "t") -> Trial:
    return Trial(name, mode, share, by, MODEL, OTHER)  # type: ignore[arg-type]


def event(query_id: str, **more: Any) -> QueryEvent:
    return QueryEvent(query_id=query_id, query="a line", **more)


@pytest.fixture
def alone() -> Iterator[Reranker]:
    lanes = Lanes(FakeGraph(), 2)
    yield new_reranker(FakeClock(), lanes, Options(retriever=FakeRetriever(TEXTS)))
    lanes.close()


@pytest.fixture
def theirs() -> Iterator[PairScorer]:
    lanes = Lanes(Negated(fails_on={POISON_ID}), 2)
    yield PairScorer(tiny_encoder(), lanes, PairCache(FakeStore(), OTHER.digest))
    lanes.close()


def with_trial(alone: Reranker, theirs: PairScorer, of: Trial) -> Reranker:
    return replace(alone, challenger=Challenger(theirs, OTHER, of))


def answer(reranker: Reranker, value: bytes, plan: Plan = FULL) -> Answer:
    (outcome,) = reranker.finish(reranker.begin([query_of(value)], [plan]))
    assert isinstance(outcome, Answer), outcome
    return outcome


def ids(found: Answer) -> list[str]:
    return [document.doc_id for document in found.ranking]


def arms(of: Trial, count: int = 2000) -> Counter[str | None]:
    found = (of.assign(event(f"q{n}")) for n in range(count))
    return Counter(None if each is None else each.arm for each in found)


def test_the_share_is_what_was_asked_for() -> None:
    assert abs(arms(trial(share=0.2))["challenger"] - 400) < 60
    assert arms(trial(share=0.0)) == {"champion": 2000}
    assert arms(trial(share=1.0)) == {"challenger": 2000}
    some = arms(trial("interleave", share=0.3))
    assert abs(some["interleaved"] - 600) < 70
    assert some.keys() == {"interleaved", None}


def test_an_assignment_follows_from_the_event_alone() -> None:
    """Pinned: another hash would change who sees what in the middle of a comparison."""
    found = [trial().assign(event(f"q{n}")) for n in range(6)]
    assert [each.bucket for each in found if each] == BUCKETS_OF_T
    assert [trial(share=0.9).assign(event(f"q{n}")).bucket for n in range(6)] == BUCKETS_OF_T  # type: ignore[union-attr]
    assert [trial(name="u").assign(event(f"q{n}")).bucket for n in range(6)] != BUCKETS_OF_T  # type: ignore[union-attr]


def test_who_agrees_in_what_is_split_by_sees_one_model() -> None:
    by_user = trial(by="attributes.user")
    for user in ("u1", "u2", "u3"):
        found = {
            by_user.assign(event(f"q{n}", attributes={"user": user}, tenant=f"{n}"))
            for n in range(9)
        }
        assert len({each.arm for each in found if each}) == 1
    assert by_user.assign(event("q", attributes={"other": "u1"})) is None
    assert trial(by="tenant").assign(event("q")) is None
    assert trial(by="tenant").assign(event("q", tenant="shop")) is not None


def listed(*names: str) -> list[RankedDocument]:
    return [
        RankedDocument(
            doc_id=name,
            rank=n,
            score=1.0,
            relevance=0.5,
            retrieval_rank=ord(name[0]),
            retrieval_score=None,
            truncated=False,
        )
        for n, name in enumerate(names, start=1)
    ]


@given(st.permutations("abcdefg"), st.permutations("abcdefg"), st.integers(1, 9), st.data())
def test_each_team_picks_its_best_of_what_is_left(
    one: list[str], two: list[str], top_n: int, data: st.DataObject
) -> None:
    flips = data.draw(st.lists(st.booleans(), min_size=7, max_size=7))
    ranking, teams = team_draft(listed(*one), listed(*two), top_n, iter(flips))
    names = [each.doc_id for each in ranking]
    assert len(names) == len(set(names)) == len(teams) == min(top_n, 7)
    assert [each.rank for each in ranking] == list(range(1, len(names) + 1))
    assert abs(teams.count("champion") - teams.count("challenger")) <= 1
    for place, (name, team) in enumerate(zip(names, teams, strict=True)):
        own = one if team == "champion" else two
        assert name == next(each for each in own if each not in names[:place])


def test_the_coin_says_who_begins_and_is_fair() -> None:
    one, two = listed("a", "b"), listed("b", "a")
    assert [each.doc_id for each in team_draft(one, two, 2, repeat(False))[0]] == ["a", "b"]
    assert [each.doc_id for each in team_draft(one, two, 2, repeat(True))[0]] == ["b", "a"]
    firsts = [next(trial().coins(event(f"q{n}"))) for n in range(2000)]
    assert abs(sum(firsts) - 1000) < 100


def test_split_answers_come_from_one_model_each(alone: Reranker, theirs: PairScorer) -> None:
    reranker = with_trial(alone, theirs, trial())
    seen = Counter[str]()
    for n in range(12):
        for value in (event_json(f"q{n}"), event_json(f"q{n}", texts=["one", "two", "three"])):
            plain, found = answer(alone, value), answer(reranker, value)
            assert found.experiment is not None
            seen[found.experiment.arm] += 1
            if found.experiment.arm == "champion":
                assert (ids(found), found.model) == (ids(plain), MODEL)
            else:
                assert (ids(found), found.model) == (ids(plain)[::-1], OTHER)
    assert min(seen["champion"], seen["challenger"]) >= 4


def test_a_cached_ranking_of_the_champion_is_not_shown_as_the_challengers(
    alone: Reranker, theirs: PairScorer
) -> None:
    value = event_json("q")
    plain = answer(alone, value)
    reranker = with_trial(alone, theirs, trial(share=1.0))
    for hits in (0, len(TEXTS)):
        found = answer(reranker, value)
        assert (ids(found), found.model, found.hits) == (ids(plain)[::-1], OTHER, hits)


def test_interleaved_lists_hold_the_picks_of_both(alone: Reranker, theirs: PairScorer) -> None:
    reranker = with_trial(alone, theirs, trial("interleave", share=1.0))
    value = event_json("q", top_n=6)
    found, again, plain = answer(reranker, value), answer(reranker, value), answer(alone, value)
    assert found.experiment is not None
    teams = found.experiment.teams
    assert teams is not None
    assert found.experiment.arm == "interleaved"
    assert (found.model, len(found.ranking), len(teams)) == (MODEL, 6, 6)
    assert Counter(teams) == {"champion": 3, "challenger": 3}
    by_champion = [d for d, team in zip(ids(found), teams, strict=True) if team == "champion"]
    assert by_champion == [each for each in ids(plain) if each in by_champion]
    assert (found.misses, found.challenger_misses) == (8, 8)
    assert (again.hits, again.challenger_hits) == (8, 8)
    assert (ids(again), again.experiment) == (ids(found), found.experiment)


def test_both_are_only_asked_where_there_is_time_for_both(
    alone: Reranker, theirs: PairScorer
) -> None:
    reranker = with_trial(alone, theirs, trial("interleave", share=1.0))
    cut = answer(reranker, event_json("q"), Plan(3, "deadline"))
    assert (cut.experiment, cut.tier, cut.model) == (None, "reduced", MODEL)
    split = with_trial(alone, theirs, trial(share=1.0))
    cut = answer(split, event_json("q2"), Plan(3, "deadline"))
    assert cut.experiment is not None
    assert (cut.experiment.arm, cut.tier, cut.model) == ("challenger", "reduced", OTHER)
    both = trial("interleave", share=1.0)
    query = query_of(event_json("q", top_k=7))
    assert (pairs_of(query), both.pairs_of(query), trial().pairs_of(query)) == (7, 14, 7)


def test_a_challenger_that_fails_makes_no_dead_letters(alone: Reranker, theirs: PairScorer) -> None:
    """The champion's graph can read the text, the challenger's chokes on it."""
    value = event_json("q", texts=[POISON, "one", "two"])
    split = answer(with_trial(alone, theirs, trial(share=1.0)), value)
    assert (split.tier, split.degraded) == ("retrieval_order", "scorer_unavailable")
    assert ids(split) == ["d1", "d2", "d3"]
    assert split.experiment is not None
    both = answer(with_trial(alone, theirs, trial("interleave", share=1.0)), value)
    assert (both.tier, both.experiment, ids(both)) == ("full", None, ids(answer(alone, value)))


def test_events_say_who_made_the_list(alone: Reranker, theirs: PairScorer) -> None:
    publisher = Publisher(TOPICS, "w", "inline", FakeClock(), {})
    reranker = with_trial(alone, theirs, trial("interleave", share=1.0, by="attributes.user"))
    value = event_json("q", attributes={"user": "u-secret"})
    result, impression = publisher.publish(answer(reranker, value)).records
    listed_event = RankedList.model_validate_json(result.value or b"")
    shown = Impression.model_validate_json(impression.value or b"")
    assert listed_event.experiment == shown.experiment
    assert shown.experiment is not None
    assert len(shown.experiment.teams or ()) == len(shown.shown)
    assert (shown.experiment.champion, shown.experiment.challenger) == (MODEL, OTHER)
    assert b"u-secret" not in (result.value or b"") + (impression.value or b"")
    for record in publisher.publish(answer(alone, value)).records:
        assert "experiment" not in json.loads(record.value or b"")
