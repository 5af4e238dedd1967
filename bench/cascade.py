"""`python -m bench.cascade`: the same engine with a bundle's cascade and without, in turn.

Questions are retrieved, cut, scored and ranked as in a worker, without Kafka, over an index of
passages of natural length and over one of about 300 tokens. How well the lists are ranked tells
`python -m export evaluate`, with `--cascade` and without.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.engine_bundles import BenchError
from bench.engine_texts import Texts, load_texts
from bench.engine_timing import in_turn, speed_ratio
from bench.report import Machine, Row, Table, show, wide_console, write
from engine.errors import EngineError
from export.errors import ExportError
from export.index_build import build_index
from worker.build import Engine, build_engine, open_bundles
from worker.decode import Query, decode
from worker.errors import StartError
from worker.records import Partition, Record
from worker.reranker import Answer
from worker.settings import (
    BatchSettings,
    CascadeSettings,
    LimitSettings,
    RedisSettings,
    Settings,
)
from worker.store import open_store

OUT = Path("build/bench")
LANES = 2
QUESTIONS = {"natural": 30, "long": 5}
ROUNDS = 3
QUICK_QUESTIONS = {"natural": 4}
QUICK_ROUNDS = 1
TOP_K = 100


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cascade", description=__doc__)
    parser.add_argument("--model-bundle", type=Path, required=True, help="one with a cascade")
    parser.add_argument("--small-bundle", type=Path, help="the smaller model that it needs")
    parser.add_argument("--quick", action="store_true", help="few questions, no long ones")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    asked, rounds = (QUICK_QUESTIONS, QUICK_ROUNDS) if options.quick else (QUESTIONS, ROUNDS)
    machine, texts = Machine.here(), load_texts()
    cascade = CascadeSettings(on=True, model_bundle=options.small_bundle)
    rows: list[Row] = []
    try:
        for kind, count in asked.items():
            index = _index(options.out, kind, texts)
            engines = {
                name: _engine(options.model_bundle, index, settings)
                for name, settings in (("with", cascade), ("without", CascadeSettings()))
            }
            rows += _compare(kind, engines, texts.queries[:count], rounds)
    except (BenchError, EngineError, ExportError, StartError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    note = f"{TOP_K} candidates a question, {LANES} lanes, {rounds} rounds in turn; {texts.name}"
    tables = [Table("cascade", "The engine with a cascade and without", rows, note)]
    show(wide_console(), machine, tables)
    write(options.out, "cascade", machine, tables)
    return 0


def _index(folder: Path, kind: str, texts: Texts) -> Path:
    """Return an index of the passages, or of longer ones; made once."""
    out = folder / f"index-{kind}"
    if not out.exists():
        passages = texts.passages if kind == "natural" else texts.lengthened()
        folder.mkdir(parents=True, exist_ok=True)
        corpus = folder / f"corpus-{kind}.jsonl"
        lines = [json.dumps({"_id": str(at), "text": text}) for at, text in enumerate(passages)]
        corpus.write_text("\n".join(lines))
        build_index(corpus, out)
    return out


def _engine(model: Path, index: Path, cascade: CascadeSettings) -> Engine:
    settings = Settings(
        model_bundle=model,
        index_bundle=index,
        cascade=cascade,
        batch=BatchSettings(lanes=LANES),
        redis=RedisSettings(memory_bytes=1),  # nothing is to be known from the round before
    )
    return build_engine(settings, open_bundles(settings), open_store(settings.redis, lambda: None))


def _compare(
    kind: str, engines: dict[str, Engine], queries: Sequence[str], rounds: int
) -> list[Row]:
    scored = {name: _answer(engine, queries, -1) for name, engine in engines.items()}
    works: dict[str, Callable[[int], object]] = {
        name: partial(_answer, engine, queries) for name, engine in engines.items()
    }
    timings = in_turn(f"Cascade, {kind} lengths", works, rounds)
    candidates = TOP_K * len(queries)
    for engine in engines.values():
        engine.lanes.close()
    return [
        {
            "texts": kind,
            "cascade": name,
            "candidates/s": round(candidates / min(each.wall_s for each in found), 1),
            "scored by the model": f"{scored[name] / candidates:.1%}",
            ": without": str(speed_ratio(found, timings["without"])),
            ": without, CPU time": str(speed_ratio(found, timings["without"], cpu=True)),
        }
        for name, found in timings.items()
    ]


def _answer(engine: Engine, queries: Sequence[str], number: int) -> int:
    """Answer all questions as one batch; return how many pairs the model scored."""
    outcomes = engine.reranker.finish(
        engine.reranker.begin([_query(at, text, number) for at, text in enumerate(queries)])
    )
    return sum(each.misses for each in outcomes if isinstance(each, Answer))


def _query(place: int, text: str, number: int) -> Query:
    event = {"query_id": f"q{place}", "query": f"{text} ({number})", "top_k": TOP_K}
    record = Record(Partition("bench", 0), place, 0, None, json.dumps(event).encode())
    decoded = decode(record, LimitSettings())
    assert isinstance(decoded, Query)
    return decoded


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
