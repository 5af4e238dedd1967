"""`python -m training collect`: what is new on the topic and in files, into the run's folder."""

import argparse
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from export.bars import Advance, progress
from training.collect.events import BadEventError, Row, UnknownKindError, decode
from training.collect.judgement_files import read_judgements
from training.collect.store import EventStore, Progress, opened
from training.collect.tally import Tally
from training.collect.topic import TopicReader, TopicRecord
from training.errors import InputError
from training.plan import load_plan
from training.plan_arguments import add_plan
from training.plan_data import CollectPlan, JudgementFile, KafkaPlan
from training.run_folder import RunFolder, digest_of, digest_of_files, write_done

# With --follow, what has come is written after so long, even if it is little.
_FOLLOW_FLUSH_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_plan(parser)
    parser.add_argument(
        "--follow", action="store_true", help="go on at the topic's end, until interrupted"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Collect, and return counts; raises TrainingError."""
    plan = load_plan(args.plan).collect
    return collect(plan, RunFolder(args.run), follow=args.follow)


def collect(plan: CollectPlan, run: RunFolder, *, follow: bool = False) -> dict[str, Any]:
    """Read what is new; raises TrainingError."""
    if plan.kafka is None and not plan.files:
        raise InputError("there is nothing to collect: set collect.kafka, collect.files or both")
    summary: dict[str, Any] = {}
    with opened(run) as store:
        for file in plan.files:
            summary[str(file.path)] = _collect_file(file, plan, store)
        if plan.kafka is not None:
            with _stopping() as stop:
                summary[plan.kafka.topic] = _collect_topic(plan.kafka, plan, store, stop, follow)
        summary["kept"] = store.counts()
        inputs = {"plan": digest_of(plan), "kept": digest_of(summary["kept"])}
        write_done(run.step("collect"), inputs, summary)
    return summary


def _collect_file(file: JudgementFile, plan: CollectPlan, store: EventStore) -> dict[str, Any]:
    """Take in a file, or nothing of it: it is looked through before anything is kept."""
    if not file.path.is_file():
        raise InputError(f"collect.files: {file.path} does not exist")
    digest = digest_of([digest_of(file), digest_of_files([file.path], file.path.parent)])
    if store.has_file(digest):
        return {"read": 0, "unchanged": True}
    tally = Tally(str(file.path), plan.max_bad_share)
    for _ in read_judgements(file, tally):
        pass
    tally.check()
    rows: list[Row] = []
    bytes_read = 0
    with progress(f"reading {file.path.name}", tally.read) as advance:
        for row in read_judgements(file, Tally("", 1.0)):
            rows.append(row)
            bytes_read += row.bytes_read
            advance(1)
            if len(rows) >= plan.flush_rows or bytes_read >= plan.flush_bytes:
                store.write(rows, Progress())
                rows, bytes_read = [], 0
    store.write(rows, Progress(file_digest=digest))
    return tally.summary()


def _collect_topic(
    kafka: KafkaPlan, plan: CollectPlan, store: EventStore, stop: Callable[[], bool], follow: bool
) -> dict[str, Any]:
    tally = Tally(kafka.topic, plan.max_bad_share)
    offsets = store.offsets(kafka.topic)
    reader = TopicReader.open(kafka, offsets, plan.flush_rows, plan.flush_bytes)
    with closing(reader):
        buffer = _Buffer(plan, store, reader, tally)
        total = sum(reader.ends().values()) - sum(reader.positions().values())
        with progress(f"reading {kafka.topic}", None if follow else total) as advance:
            for batch in reader.batches(stop, follow=follow):
                buffer.add(batch, advance)
                if buffer.is_full(_FOLLOW_FLUSH_S if follow else None):
                    buffer.flush(at_end=False)
        buffer.flush(at_end=True)
    lost = {"deleted_before_read": reader.lost} if reader.lost else {}
    return tally.summary() | lost


@dataclass
class _Buffer:
    """Rows that are read and not yet kept."""

    plan: CollectPlan
    store: EventStore
    reader: TopicReader
    tally: Tally
    rows: list[Row] = field(default_factory=list)
    bytes_read: int = 0
    since: float = field(default_factory=time.monotonic)

    def add(self, batch: list[TopicRecord], advance: Advance) -> None:
        for record in batch:
            self.tally.read += 1
            self.bytes_read += len(record.value or b"")
            origin = f"{self.reader.plan.topic}/{record.partition}/{record.offset}"
            try:
                row = decode(
                    record.value,
                    record.event_id,
                    origin,
                    record.time_ms,
                    keep_user=self.plan.keep_user_ids,
                )
                self.rows.append(row)
            except UnknownKindError:
                self.tally.unknown += 1
            except BadEventError as error:
                self.tally.add_bad(origin, str(error), record.value)
        advance(len(batch))

    def is_full(self, after_s: float | None) -> bool:
        waited = after_s is not None and time.monotonic() - self.since > after_s
        large = self.bytes_read >= self.plan.flush_bytes or len(self.rows) >= self.plan.flush_rows
        return large or (waited and self.bytes_read > 0)

    def flush(self, *, at_end: bool) -> None:
        """Keep the rows, then say so to the group. Too many bad ones: keep none of these."""
        self.tally.check(at_end=at_end)
        offsets = self.reader.positions()
        self.store.write(self.rows, Progress(self.reader.plan.topic, offsets))
        self.reader.commit(offsets)
        self.rows, self.bytes_read, self.since = [], 0, time.monotonic()


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Let SIGINT and SIGTERM end the reading in good order: what was read is kept."""
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda given, _: asked.append(given))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
