"""What each step of a query's way costs, and how much of a batch is padding."""

import json
import time
from collections.abc import Callable, Sequence

import numpy as np

from bench.engine_runs import Engine
from bench.engine_texts import Question
from bench.engine_timing import Spread
from bench.report import Row, Table
from engine.batches import plan_batches
from engine.bundles import Bundle
from engine.pairs import EncodedPair
from schemas.events import ModelRef
from schemas.manifests import ModelManifest
from worker.caches import PairCache
from worker.clock import SystemClock
from worker.decode import decode
from worker.publish import Publisher
from worker.records import Partition, Record
from worker.reranker import Outcome, Reranker
from worker.scoring import PairScorer
from worker.settings import LimitSettings, RedisSettings, TopicSettings
from worker.store import MemoryStore

ROWS_OF_OTHERS = 32


def event_bytes(number: int, question: Question) -> bytes:
    """Return a query event that brings its candidates."""
    candidates = [
        {"doc_id": f"d{place}", "text": text} for place, text in enumerate(question.documents)
    ]
    event = {"query_id": f"q{number}", "query": question.query, "candidates": candidates}
    return json.dumps(event).encode()


def stage_costs(
    bundle: Bundle[ModelManifest], questions: Sequence[Question], rounds: int
) -> list[Table]:
    """Measure the steps of one batch, in CPU time."""
    engine = Engine.open(bundle, lanes=1)
    try:
        return [_steps(bundle, engine, questions, rounds), _padding(engine, questions)]
    finally:
        engine.lanes.close()


def _steps(
    bundle: Bundle[ModelManifest], engine: Engine, questions: Sequence[Question], rounds: int
) -> Table:
    manifest, redis = bundle.manifest, RedisSettings()
    cache = PairCache(MemoryStore(redis.memory_bytes, redis.ttl_s), bundle.digest)
    reranker = Reranker(
        scorer=PairScorer(engine.encoder, engine.lanes, cache),
        retriever=None,
        rankings=None,
        model=ModelRef(name=manifest.name, digest=bundle.digest, precision=manifest.precision),
        clock=SystemClock(),
    )
    publisher = Publisher(TopicSettings(), "bench", "inline", SystemClock(), {})
    costs: dict[str, list[float]] = {}

    def step(name: str, work: Callable[[], object]) -> None:
        began = time.process_time()  # The tokenizer has threads of its own.
        work()
        costs.setdefault(name, []).append((time.process_time() - began) / len(questions) * 1000)

    for number in range(rounds):
        salted = [question.salted(f"({number})") for question in questions]
        records = [
            Record(Partition("queries", 0), place, 0, None, event_bytes(place, question))
            for place, question in enumerate(salted)
        ]
        queries = [decode(record, LimitSettings()) for record in records]
        step("decode", lambda: [decode(record, LimitSettings()) for record in records])  # noqa: B023
        step("cache keys", lambda: [cache.keys(each.query, each.documents) for each in salted])  # noqa: B023
        pairs = [pair for each in salted for pair in _encoded(engine, each)]
        step("tokenise", lambda: [_encoded(engine, each) for each in salted])  # noqa: B023
        step("plan", lambda: plan_batches([len(pair.ids) for pair in pairs]))  # noqa: B023
        busy_s = engine.lanes.stats.busy_s
        engine.lanes.submit(pairs).result()
        scored_s = engine.lanes.stats.busy_s - busy_s
        costs.setdefault("score", []).append(scored_s / len(questions) * 1000)
        pending = reranker.begin(queries)
        pending.scores.logits.result()
        answered: list[Outcome] = []
        step("rank and keep scores", lambda: answered.extend(reranker.finish(pending)))  # noqa: B023
        step("publish", lambda: [publisher.publish(each) for each in answered])  # noqa: B023
        step("again, all from the cache", lambda: reranker.finish(reranker.begin(queries)))  # noqa: B023
    return _table(costs, len(questions[0].documents))


def _encoded(engine: Engine, question: Question) -> list[EncodedPair]:
    return engine.encoder.encode(engine.encoder.encode_query(question.query), question.documents)


def _table(costs: dict[str, list[float]], candidates: int) -> Table:
    score = Spread.of(costs["score"]).low
    rows: list[Row] = [
        {
            "step": name,
            "ms/query": round(Spread.of(values).low, 3),
            "median": round(Spread.of(values).middle, 3),
            "of scoring": f"{Spread.of(values).low / score:.2%}",
        }
        for name, values in costs.items()
    ]
    note = (
        f"one query of {candidates} candidates, least of all rounds; scoring by the clock, one "
        "lane, the rest in CPU time"
    )
    return Table("stages", "Cost of each step", rows, note)


def _padding(engine: Engine, questions: Sequence[Question]) -> Table:
    lengths = [len(pair.ids) for each in questions for pair in _encoded(engine, each)]
    ways = {
        "groups of one length (ours)": [list(batch) for batch in plan_batches(lengths)],
        "sorted, by 32": _by_rows(sorted(range(len(lengths)), key=lambda at: -lengths[at])),
        "in order of arrival, by 32": _by_rows(list(range(len(lengths)))),
    }
    real = int(np.sum(lengths))
    rows: list[Row] = []
    for name, batches in ways.items():
        padded = sum(max(lengths[at] for at in batch) * len(batch) for batch in batches)
        rows.append(
            {
                "batches": name,
                "number": len(batches),
                "real tokens": real,
                "padded tokens": padded,
                "computed in vain": f"{1 - real / padded:.1%}",
            }
        )
    return Table("padding", f"Padding, {len(questions)} questions waiting", rows)


def _by_rows(order: Sequence[int]) -> list[list[int]]:
    return [
        list(order[start : start + ROWS_OF_OTHERS])
        for start in range(0, len(order), ROWS_OF_OTHERS)
    ]
