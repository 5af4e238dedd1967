"""A cascade in the worker: what it cuts, and what an answer then says."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.bundles import Bundle, open_model
from engine.lanes import Lanes
from export.seal import seal
from schemas.manifests import Cascade, Cut, Measures, ModelManifest
from tests.fakes.clock import FakeClock
from tests.fakes.encoder import tiny_encoder
from tests.fakes.events import event_json, query_of
from tests.fakes.graph import FakeGraph, logit_of
from tests.fakes.retriever import FakeRetriever
from tests.fakes.store import FakeStore
from tests.fakes.worker import Options, new_reranker
from tests.unit.tiny_retrieval import write_counting_model
from tests.unit.worker.test_challenger import OTHER, trial
from worker.admission import FULL, Plan
from worker.build import open_bundles
from worker.caches import PairCache
from worker.challenger import Challenger
from worker.errors import StartError
from worker.lines import rank_lines
from worker.reranker import Answer
from worker.routing import Routing, SmallStage
from worker.scoring import PairScorer
from worker.settings import CascadeSettings, Settings

QUERY = "read a line"
WORDS = "one two three four five six seven eight nine ten".split()  # noqa: SIM905
TEXTS = {f"t{at}": f"{QUERY.split()[at % 3]} {word}" for at, word in enumerate(WORDS)}
SMALL = Cut(least=2, most=4, margin=100.0)


class Bench:
    """A reranker with a cascade; both models are fakes that agree."""

    def __init__(self, retriever: Cut | None, small: Cut | None) -> None:
        self.graph, self.small_graph = FakeGraph(), FakeGraph()
        self.lanes, self.small_lanes = Lanes(self.graph, 2), Lanes(self.small_graph, 1)
        store = FakeStore()
        options = Options(graph=self.graph, store=store, retriever=FakeRetriever(TEXTS))
        plain = new_reranker(FakeClock(), self.lanes, options)
        scorer = PairScorer(tiny_encoder(), self.small_lanes, PairCache(store, "small"))
        stage = None if small is None else SmallStage(scorer, self.small_lanes, small)
        self.routing = Routing(retriever, stage, self.lanes)
        self.reranker = replace(plain, routing=self.routing)

    def close(self) -> None:
        self.graph.gate.set()
        self.lanes.close()
        self.small_lanes.close()

    def answer(self, event: bytes, plan: Plan = FULL) -> Answer:
        (outcome,) = self.reranker.finish(self.reranker.begin([query_of(event)], [plan]))
        assert isinstance(outcome, Answer), outcome
        return outcome


@pytest.fixture
def made() -> Iterator[list[Bench]]:
    benches: list[Bench] = []
    yield benches
    for bench in benches:
        bench.close()


def start(made: list[Bench], retriever: Cut | None = None, small: Cut | None = SMALL) -> Bench:
    made.append(Bench(retriever, small))
    return made[-1]


def logits(*texts: str) -> list[float]:
    encoder = tiny_encoder()
    return [logit_of(pair.ids) for pair in encoder.encode(encoder.encode_query(QUERY), texts)]


def inline(*texts: str) -> bytes:
    return event_json("q", QUERY, texts, top_n=100)


def test_the_model_scores_what_the_smaller_one_leaves(made: list[Bench]) -> None:
    bench = start(made)
    answer = bench.answer(inline(*WORDS))

    expected = dict(zip((f"d{at + 1}" for at in range(10)), logits(*WORDS), strict=True))
    best = sorted(expected, key=lambda doc_id: -expected[doc_id])[:4]
    assert [each.doc_id for each in answer.ranking[:4]] == best
    assert [each.score for each in answer.ranking[:4]] == [expected[each] for each in best]
    assert len(bench.graph.rows) == 4
    assert len(bench.small_graph.rows) == 10


def test_what_was_cut_follows_in_retrieval_order_and_the_answer_is_whole(
    made: list[Bench],
) -> None:
    answer = start(made).answer(inline(*WORDS))
    tail = answer.ranking[4:]
    places = [each.retrieval_rank for each in tail]
    assert len(answer.ranking) == 10
    assert places == sorted(places)
    assert {each.score for each in tail} == {None}
    assert [each.rank for each in answer.ranking] == list(range(1, 11))
    assert (answer.tier, answer.degraded) == ("full", None)
    assert (answer.misses, answer.cut) == (4, 6)


def test_the_same_question_again_scores_nothing(made: list[Bench]) -> None:
    bench = start(made)
    first = bench.answer(inline(*WORDS))
    again = bench.answer(inline(*WORDS))
    assert again.ranking == first.ranking
    assert (again.hits, again.misses) == (4, 0)
    assert len(bench.small_graph.rows) == 10


def test_by_retrieval_score_only_what_was_retrieved_is_cut(made: list[Bench]) -> None:
    cut = Cut(least=3, most=5, margin=100.0)
    bench = start(made, retriever=cut, small=None)
    own = bench.answer(inline(*WORDS))
    assert own.misses == 10
    retrieved = bench.answer(event_json("q", QUERY, top_k=10, top_n=100))
    assert retrieved.misses == 5
    scored = [each for each in retrieved.ranking if each.score is not None]
    assert sorted(each.retrieval_rank for each in scored) == [1, 2, 3, 4, 5]
    assert retrieved.tier == "full"


def test_both_stages_follow_one_another(made: list[Bench]) -> None:
    bench = start(made, retriever=Cut(least=1, most=6, margin=100.0))
    answer = bench.answer(event_json("q", QUERY, top_k=10, top_n=100))
    assert (len(bench.small_graph.rows), answer.misses) == (6, 4)


def test_under_overload_the_plan_says_how_much_and_the_answer_is_reduced(
    made: list[Bench],
) -> None:
    bench = start(made)
    answer = bench.answer(inline(*WORDS), Plan(6, "deadline"))
    assert (len(bench.small_graph.rows), answer.misses) == (6, 4)
    assert (answer.tier, answer.degraded) == ("reduced", "deadline")
    nothing = bench.answer(inline(*WORDS), Plan(0, "deadline"))
    assert (nothing.tier, nothing.misses) == ("retrieval_order", 0)
    assert [each.retrieval_rank for each in nothing.ranking] == list(range(1, 11))


def test_where_the_smaller_model_fails_the_model_scores_all(made: list[Bench]) -> None:
    bench = start(made)
    bench.small_graph.down = True
    answer = bench.answer(inline(*WORDS))
    assert (answer.tier, answer.misses) == ("full", 10)


def test_where_the_model_fails_the_answer_is_in_retrieval_order(made: list[Bench]) -> None:
    bench = start(made)
    bench.graph.down = True
    answer = bench.answer(inline(*WORDS))
    assert (answer.tier, answer.degraded) == ("retrieval_order", "scorer_unavailable")
    assert answer.cut == 0
    assert [each.retrieval_rank for each in answer.ranking] == list(range(1, 11))


def test_admission_sees_both_models_as_one(made: list[Bench]) -> None:
    bench = start(made, retriever=Cut(least=1, most=6, margin=100.0))
    bench.answer(event_json("q", QUERY, top_k=10, top_n=100))
    bench.close()  # the figures of a batch are added after its result
    assert bench.routing.stats.pairs == 10
    assert bench.routing.count == 2
    busy_s = bench.lanes.stats.busy_s + bench.small_lanes.stats.busy_s
    assert bench.routing.stats.busy_s == busy_s


def test_interleaved_queries_count_with_the_time_that_they_take(made: list[Bench]) -> None:
    """The cascade leaves them alone; the model scores their pairs, and its lanes take the time."""
    bench = start(made)
    other = PairScorer(tiny_encoder(), bench.small_lanes, PairCache(FakeStore(), OTHER.digest))
    challenger = Challenger(other, OTHER, trial("interleave", share=1.0))
    bench.reranker = replace(bench.reranker, challenger=challenger)
    answers = [bench.answer(inline(*WORDS)) for _ in range(2)]
    assert [(each.cut, each.misses) for each in answers] == [(0, 10), (0, 0)]
    bench.close()
    assert bench.lanes.stats.pairs == 10
    # The challenger has borrowed the smaller model's lanes, which count for themselves.
    assert bench.routing.stats.pairs == 10 + bench.small_lanes.stats.pairs


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle whose cascade needs a smaller one, and the smaller one."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("cascade")
    small = open_model(write_counting_model(folder / "small", "dog"))
    large = open_model(write_counting_model(folder / "large", "fox"))
    return _with_cascade(large, small.digest, folder / "cascaded"), small.path


def _with_cascade(bundle: Bundle[ModelManifest], small: str, out: Path) -> Path:
    alone = Measures(collection="dev", queries=1, values={"NDCG@10": 1.0})
    cascade = Cascade(
        small=SMALL,
        small_bundle=small,
        alone=alone,
        cascaded=alone,
        small_share=1,
        model_share=0.5,
        cost=0.6,
    )
    staging = out.with_name("staging")
    staging.mkdir()
    for name in bundle.manifest.files:
        (staging / name).write_bytes(bundle.file(name).read_bytes())
    return seal(staging, bundle.manifest.model_copy(update={"cascade": cascade}), out)


def settings(model: Path, **cascade: object) -> Settings:
    return Settings(model_bundle=model, cascade=CascadeSettings.model_validate(cascade))


def test_the_settings_bring_the_smaller_bundle(bundles: tuple[Path, Path]) -> None:
    model, small = bundles
    assert open_bundles(settings(model)).cascade is None
    opened = open_bundles(settings(model, on=True, model_bundle=small)).cascade
    assert opened is not None
    assert opened.path == small


@pytest.mark.parametrize(
    ("cascade", "plain", "message"),
    [
        ({"on": True}, True, "RERANKER_CASCADE__ON.*has no cascade"),
        ({"on": True}, False, "RERANKER_CASCADE__MODEL_BUNDLE.*must name"),
        ({"model_bundle": "small"}, False, "of use with"),
        ({"on": True, "model_bundle": "large"}, False, "was chosen with"),
    ],
)
def test_what_does_not_fit_is_said_at_the_start(
    bundles: tuple[Path, Path], cascade: dict[str, object], plain: bool, message: str
) -> None:
    model, small = bundles
    places = {"small": small, "large": model}
    named = {key: places.get(str(value), value) for key, value in cascade.items()}
    with pytest.raises(StartError, match=message) as caught:
        open_bundles(settings(small if plain else model, **named))
    assert "\n" not in str(caught.value)


def test_worker_rank_uses_it(bundles: tuple[Path, Path]) -> None:
    model, small = bundles
    texts = ["dog fox", "fox fox", "dog dog fox fox fox", "dog dog dog", "line", "file", "topic"]
    line = event_json("q", "fox", texts, top_n=100).decode()
    out = io.StringIO()

    assert rank_lines(settings(model, on=True, model_bundle=small), [line], out) == 0

    answer = json.loads(out.getvalue())
    # The smaller model counts dogs: it lets the first four through, the model counts foxes.
    ranking = [(each["doc_id"], each.get("score")) for each in answer["ranking"]]
    assert ranking[:4] == [("d3", 3.0), ("d2", 2.0), ("d1", 1.0), ("d4", 0.0)]
    assert ranking[4:] == [("d5", None), ("d6", None), ("d7", None)]
    assert answer["tier"] == "full"
