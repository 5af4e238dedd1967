"""The loop: poll, begin, finish, commit.

One thread owns the broker and runs this loop. A second begins batches (cache, retrieval,
tokenising), and the lanes score. So while batch k is scored, k+1 is begun and k-1 committed.

What was read is held by nothing but this process until it is committed: whenever partitions move
or a transaction is given up, everything in work is dropped and read again from the committed
offsets. Scores that were finished are in the cache by then.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import structlog

from schemas.cloudevents import trace_id
from worker.admission import Admission
from worker.broker import Broker
from worker.clock import Clock
from worker.errors import BadRecordError, CommitAbortedError, TransientError
from worker.http import Health
from worker.intake import BadRecord, Batch, Intake
from worker.metrics import Metrics, short_digest
from worker.publish import Publisher
from worker.records import Outgoing, Record, next_offsets
from worker.reranker import Answer, Outcome, Reranker
from worker.settings import BatchSettings
from worker.work import Pending

log = structlog.get_logger(__name__)

IDLE_POLL_S = 0.1
# While a batch is in work, the loop waits for its end, and polls in between. A poll takes a few
# milliseconds from the lanes, so it must not be made too often (docs/performance.md).
BUSY_WAIT_S = 0.1
# So long while a batch is late and can't be stopped yet, because it is still being begun.
LATE_WAIT_S = 0.03
BUSY_POLL_S = 0.001
LAG_INTERVAL_S = 1.0
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 10.0


@dataclass(frozen=True)
class Begun:
    """A batch in work."""

    batch: Batch
    pending: Future[Pending]
    pairs: int
    pairs_before: int
    planned_at_s: float
    stop_at_s: float | None

    @property
    def done(self) -> bool:
        """Whether its end can be had without waiting."""
        if not self.pending.done():
            return False
        return self.pending.exception() is not None or self.pending.result().done

    def stop_if_late(self, now_s: float) -> None:
        """Score no more of it once its time is up."""
        if self.stop_at_s is None or now_s < self.stop_at_s or not self.pending.done():
            return
        if self.pending.exception() is None:
            self.pending.result().stop()

    def wait(self, timeout_s: float) -> None:
        """Return once it is done, or when the time is up."""
        until_s = time.monotonic() + timeout_s
        wait([self.pending], timeout_s)
        if self.pending.done() and self.pending.exception() is None:
            self.pending.result().wait(max(0.0, until_s - time.monotonic()))


@dataclass(frozen=True)
class Parts:
    """What the loop works with."""

    broker: Broker
    reranker: Reranker
    admission: Admission
    publisher: Publisher
    intake: Intake
    metrics: Metrics
    health: Health
    clock: Clock


class Loop:
    """Runs until `stop` is called, then drains."""

    def __init__(self, parts: Parts, batch: BatchSettings, drain_timeout_s: float) -> None:
        self._parts = parts
        self._in_work_limit = batch.prefetch + 2  # one scored, one being committed
        self._max_events = batch.max_events
        self._drain_timeout_s = drain_timeout_s
        self._in_work: deque[Begun] = deque()
        self._beginner = ThreadPoolExecutor(1, thread_name_prefix="begin")
        self._stop = threading.Event()
        self._must_rewind = False
        self._commit_first = False
        self._failures = 0
        self._resume_at_s = 0.0
        self._show_lag_at_s = 0.0

    def stop(self) -> None:
        """Let the loop end after what is in work. Safe from signal handlers and threads."""
        self._stop.set()

    def run(self) -> None:
        """Work until stopped; raises FatalError."""
        try:
            while not self._stop.is_set():
                self.step()
            self._drain()
        finally:
            self._beginner.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Leave the group, so that the partitions move on at once."""
        self._parts.broker.close()

    def step(self) -> None:
        """Do one round: read what there is room for, begin it, commit what is finished."""
        began_s = self._parts.clock.monotonic()
        try:
            if self._must_rewind and not self._backing_off():
                self._rewind()
            self._read()
            self._begin()
            self._stop_late()
            self._commit_finished()
        except TransientError as error:
            self._back_off(error)
            self._rest(began_s)

    def _read(self) -> None:
        """Poll; without room or within a back-off only to stay a member."""
        parts = self._parts
        ready = not self._must_rewind and not self._backing_off()
        wanted = ready and parts.intake.wants_more and self._has_room()
        (parts.broker.resume if wanted else parts.broker.pause)()
        # Noted first: a broker that refuses is no reason to restart this process.
        parts.health.polled()
        parts.metrics.polled.set(parts.clock.now())
        if self._commits_first():
            return
        polled = parts.broker.poll(self._max_events, self._poll_timeout_s())
        if polled.moved:
            parts.metrics.moves.inc()
            parts.metrics.set_lag({})
            assigned = parts.broker.assigned()
            parts.metrics.assigned.set(len(assigned))
            log.info("partitions moved", assigned=[partition.number for partition in assigned])
            self._forget_all()
            return
        parts.intake.add(polled.records, polled.lease)
        parts.metrics.waiting.set(len(parts.intake))
        self._show_lag()

    def _commits_first(self) -> bool:
        """Wait for the first batch in work; whether to commit it before the next poll.

        Its users wait for it, and a poll takes milliseconds. Never twice running: members poll.
        """
        if self._in_work:
            self._in_work[0].wait(self._busy_wait_s())
        self._commit_first = not self._commit_first and self._first_is_done()
        return self._commit_first

    def _first_is_done(self) -> bool:
        return bool(self._in_work) and self._in_work[0].done

    def _show_lag(self) -> None:
        now_s = self._parts.clock.monotonic()
        if now_s >= self._show_lag_at_s:
            self._show_lag_at_s = now_s + LAG_INTERVAL_S
            self._parts.metrics.set_lag(self._parts.broker.lag())

    def _busy_wait_s(self) -> float:
        """Return how long to wait for the first batch: not past the time at which one is late."""
        now_s = self._parts.clock.monotonic()
        stops = [begun.stop_at_s for begun in self._in_work if begun.stop_at_s is not None]
        late_in_s = [max(stop_at_s - now_s, LATE_WAIT_S) for stop_at_s in stops]
        return min([BUSY_WAIT_S, *late_in_s])

    def _poll_timeout_s(self) -> float:
        if self._first_is_done():
            return 0.0
        if self._in_work or (len(self._parts.intake) and self._has_room()):
            return BUSY_POLL_S
        return IDLE_POLL_S

    def _has_room(self) -> bool:
        return len(self._in_work) < self._in_work_limit

    def _backing_off(self) -> bool:
        return self._parts.clock.monotonic() < self._resume_at_s

    def _begin(self) -> None:
        parts = self._parts
        while self._has_room() and (batch := parts.intake.cut()) is not None:
            backlog = sum(begun.pairs for begun in self._in_work)
            queries = batch.queries
            waiting = len(parts.intake)
            plans = parts.admission.plan(queries, backlog, parts.clock.now(), waiting)
            pending = self._beginner.submit(parts.reranker.begin, queries, plans)
            pairs = parts.admission.cost(queries, plans)
            at_s = parts.clock.monotonic()
            time_s = parts.admission.stop_after_s(queries, plans, parts.clock.now())
            stop_at_s = None if time_s is None else at_s + time_s
            self._in_work.append(Begun(batch, pending, pairs, backlog, at_s, stop_at_s))

    def _stop_late(self) -> None:
        now_s = self._parts.clock.monotonic()
        for begun in self._in_work:
            begun.stop_if_late(now_s)

    def _commit_finished(self) -> None:
        """Commit batches in the order in which they were begun, and only whole ones."""
        while self._first_is_done():
            begun = self._in_work[0]
            pending = begun.pending.result()
            outcomes = self._parts.reranker.finish(pending)
            scored_at_s = self._parts.clock.monotonic()
            self._commit(begun.batch, outcomes)
            self._in_work.popleft()
            self._failures = 0
            took_s = self._parts.clock.monotonic() - begun.planned_at_s
            self._parts.admission.finished(begun.pairs_before + begun.pairs, took_s)
            self._measure(pending, outcomes, scored_at_s)

    def _commit(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        parts = self._parts
        published = [parts.publisher.publish(outcome) for outcome in outcomes]
        answered = iter(published)
        records: list[Outgoing] = []
        for item in batch.items:
            if isinstance(item, BadRecord):
                records.append(parts.publisher.dead_letter(item.record, item.error))
            else:
                records.extend(next(answered).records)
        parts.broker.commit(records, next_offsets(batch.records), batch.lease)
        parts.metrics.commits.labels("committed").inc()
        for item in batch.items:
            if isinstance(item, BadRecord):
                self._count_dead_letter("decode", item.record, item.error)
        for each in published:
            self._count(each.outcome)

    def _count(self, outcome: Outcome) -> None:
        metrics, record = self._parts.metrics, outcome.query.record
        if not isinstance(outcome, Answer):
            self._count_dead_letter("rerank", record, outcome.error)
            return
        model = short_digest(outcome.model.digest)
        metrics.answers.labels(model, outcome.tier, outcome.degraded or "").inc()
        metrics.pairs.labels(model, "cache").inc(outcome.hits)
        metrics.pairs.labels(model, "model").inc(outcome.misses)
        if outcome.cut:
            metrics.pairs.labels(model, "cut").inc(outcome.cut)
        if outcome.experiment is not None and outcome.experiment.teams is not None:
            other = short_digest(outcome.experiment.challenger.digest)
            metrics.pairs.labels(other, "cache").inc(outcome.challenger_hits)
            metrics.pairs.labels(other, "model").inc(outcome.challenger_misses)
        metrics.age.observe(max(0.0, self._parts.clock.now() - record.timestamp_ms / 1000))
        log.debug(
            "answered",
            query_id=outcome.query.event.query_id,
            trace_id=trace_id(record.header("traceparent")),
            tier=outcome.tier,
            total_ms=round(outcome.total_s * 1000, 1),
        )

    def _count_dead_letter(self, stage: str, record: Record, error: BadRecordError) -> None:
        self._parts.metrics.dead_letters.labels(self._parts.metrics.model, stage).inc()
        log.warning(
            "dead letter",
            stage=stage,
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            key=None if record.key is None else record.key.decode(errors="replace")[:100],
            trace_id=trace_id(record.header("traceparent")),
            error=str(error),
        )

    def _measure(self, pending: Pending, outcomes: Sequence[Outcome], scored_at_s: float) -> None:
        parts, now = self._parts, self._parts.clock.monotonic()
        stages = parts.metrics.stages
        stages.labels("retrieve").observe(pending.retrieved_at_s - pending.began_at_s)
        stages.labels("tokenise").observe(pending.encoded_at_s - pending.retrieved_at_s)
        stages.labels("score").observe(scored_at_s - pending.encoded_at_s)
        stages.labels("commit").observe(now - scored_at_s)
        parts.metrics.batch_events.observe(len(outcomes))
        parts.metrics.batch_pairs.observe(pending.pairs)
        for digest, tokens in parts.reranker.tokens(pending):
            parts.metrics.tokens.labels(short_digest(digest), "real").inc(tokens)
        parts.metrics.capacity.set(parts.admission.pairs_per_s)

    def _rewind(self) -> None:
        self._parts.broker.rewind()
        self._must_rewind = False

    def _forget_all(self) -> None:
        """Drop everything that was read; it is read again from the committed offsets."""
        for begun in self._in_work:
            begun.pending.cancel()
        for begun in self._in_work:
            if not begun.pending.cancelled() and begun.pending.exception() is None:
                self._parts.reranker.discard(begun.pending.result())
        self._in_work.clear()
        self._parts.intake.clear()
        self._must_rewind = True

    def _back_off(self, error: TransientError) -> None:
        """Wait before the next try, for a random part of a time that doubles (full jitter)."""
        if isinstance(error, CommitAbortedError):
            self._parts.metrics.commits.labels("aborted").inc()
        self._forget_all()
        limit = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**self._failures)
        if limit < BACKOFF_MAX_S:
            self._failures += 1
        delay_s = random.uniform(0, limit)  # noqa: S311 - spreads load, hides nothing
        self._resume_at_s = self._parts.clock.monotonic() + delay_s
        log.warning("trying again", error=str(error), delay_s=round(delay_s, 2))

    def _rest(self, began_s: float) -> None:
        """A poll that fails at once must not make the loop spin: a round lasts as an idle poll."""
        clock = self._parts.clock
        clock.wait(max(0.0, IDLE_POLL_S - (clock.monotonic() - began_s)))

    def _drain(self) -> None:
        """Commit what is in work, under a deadline; what is not will be read by the next owner.

        1. Take nothing new. 2. Finish and commit what was begun. 3. The caller leaves the group.
        """
        parts = self._parts
        parts.health.draining()
        deadline_s = parts.clock.monotonic() + self._drain_timeout_s
        log.info("draining", batches=len(self._in_work), events_left=len(parts.intake))
        parts.intake.clear()
        while self._in_work and parts.clock.monotonic() < deadline_s:
            try:
                parts.broker.pause()
                self._in_work[0].wait(BUSY_WAIT_S)
                if parts.broker.poll(1, BUSY_POLL_S).moved:
                    break
                self._commit_finished()
            except TransientError as error:
                log.warning("what is in work could not be committed", error=str(error))
                break
        self._forget_all()
