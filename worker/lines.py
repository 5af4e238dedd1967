"""`python -m worker rank`: query events as JSON lines in, ranked lists as JSON lines out.

The same engine as the worker's, without Kafka. A line that can't be answered gives a line on
standard error, and exit code 1 at the end; its neighbours are answered.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TextIO

from worker.broker import Lease
from worker.build import Engine, build_engine, open_bundles
from worker.errors import BadRecordError, FatalError, TransientError
from worker.intake import BadRecord, Batch, Intake
from worker.publish import ranked_list
from worker.records import Partition, Record
from worker.reranker import Answer, Outcome
from worker.settings import Settings
from worker.store import open_store

STDIN = Partition("standard input", 0)
NO_LEASE = Lease("", 0, "")


def rank_lines(settings: Settings, lines: Iterable[str], out: TextIO) -> int:
    """Answer every line; return the exit code. Raises FatalError."""
    store = open_store(settings.redis, lambda: None)
    engine = build_engine(settings, open_bundles(settings), store)
    failed = 0
    for records in _chunks(_records(lines), settings.batch.max_events):
        intake = Intake(settings.batch, settings.limits)
        intake.add(records, NO_LEASE)
        while (batch := intake.cut()) is not None:
            answers = iter(_answers(engine, batch))
            for item in batch.items:
                outcome = item if isinstance(item, BadRecord) else next(answers)
                if isinstance(outcome, Answer):
                    out.write(ranked_list(outcome).model_dump_json() + "\n")
                else:
                    failed += 1
                    _complain(item.record, outcome.error)
        out.flush()
    engine.lanes.close()
    return 1 if failed else 0


def _answers(engine: Engine, batch: Batch) -> list[Outcome]:
    """Answer a batch; raises FatalError where the index is away: nobody is there to ask again."""
    try:
        pending = engine.reranker.begin(batch.queries)
    except TransientError as error:
        first = batch.records[0].offset
        raise FatalError(
            f"{error}. From line {first} on nothing is answered: check qdrant.url "
            "(RERANKER_QDRANT__URL) and that it runs, and ask these lines again"
        ) from None
    return engine.reranker.finish(pending)


def _records(lines: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            value = line.encode(errors="surrogateescape")
            yield Record(STDIN, number, int(time.time() * 1000), None, value)


def _chunks(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while chunk := list(islice(records, size)):
        yield chunk


def _complain(record: Record, error: BadRecordError) -> None:
    sys.stderr.write(f"line {record.offset}: {error}\n")
