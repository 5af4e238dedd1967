"""What is taken out of the worker, a line or two at a time, and who must notice."""

from dataclasses import dataclass

WORKER = "tests/unit/worker"
CONTRACT = "tests/contract"


@dataclass(frozen=True)
class Mutation:
    """In `file`, `old` (which is there once) becomes `new`; of `tests` one must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "acknowledgements are not awaited",
        "worker/kafka_broker.py",
        "                future.get(timeout=self._settings.delivery_timeout_ms / 1000)\n",
        "                pass\n",
        (f"{WORKER}/test_kafka_broker.py",),
    ),
    Mutation(
        "a commit of unknown outcome is tried again",
        "worker/kafka_broker.py",
        'raise FencedError(f"kafka: the outcome of a commit is not known: {error}")',
        'raise CommitAbortedError(f"kafka: {error}")',
        (f"{WORKER}/test_kafka_broker.py",),
    ),
    Mutation(
        "offsets go out under the lease of the moment",
        "worker/kafka_broker.py",
        "            group_id=lease.group_id, generation_id=lease.generation, "
        "member_id=lease.member\n",
        "            group_id=lease.group_id\n",
        (f"{CONTRACT}/test_broker.py::test_a_stale_lease_commits_nothing",),
    ),
    Mutation(
        "refused offsets stay for the next transaction",
        "worker/kafka_producer.py",
        "        self._transaction_manager._pending_txn_offset_commits.clear()\n",
        "",
        (f"{CONTRACT}/test_broker.py::test_a_refused_commit_leaves_no_offset_behind",),
    ),
    Mutation(
        "after an abort nothing is read again",
        "worker/loop.py",
        "        self._parts.broker.rewind()\n",
        "",
        (f"{WORKER}/test_loop_back_off.py::test_what_is_away_for_a_while_is_waited_for",),
    ),
    Mutation(
        "what was read of partitions that move is not read again",
        "worker/loop.py",
        "        self._parts.intake.clear()\n        self._must_rewind = True\n",
        "        self._parts.intake.clear()\n",
        (f"{WORKER}/test_loop_moves.py::test_what_moved_away_is_not_committed",),
    ),
    Mutation(
        "the offset of the last record, and not the one after it",
        "worker/records.py",
        "record.offset + 1)\n",
        "record.offset)\n",
        (f"{CONTRACT}/test_broker.py::test_a_commit_makes_records_and_offsets_visible_together",),
    ),
    Mutation(
        "batches are committed as they come",
        "worker/loop.py",
        "        while self._first_is_done():\n",
        "        while self._in_work and self._in_work[-1].done:\n"
        "            self._in_work.rotate(1)\n",
        (f"{WORKER}/test_loop.py::test_what_is_in_work_is_bounded",),
    ),
    Mutation(
        "back-offs have no jitter",
        "worker/loop.py",
        "        delay_s = random.uniform(0, limit)",
        "        delay_s = limit",
        (f"{WORKER}/test_loop_back_off.py",),
    ),
    Mutation(
        "failures at once make the loop spin",
        "worker/loop.py",
        "            self._rest(began_s)\n",
        "",
        (f"{WORKER}/test_loop_back_off.py::test_polls_that_fail_at_once_do_not_spin",),
    ),
    Mutation(
        "a header name that is not UTF-8 is left to the client",
        "worker/kafka_records.py",
        "    memory_records.DefaultRecordBatch = LenientBatch\n",
        "    memory_records.DefaultRecordBatch = DefaultRecordBatch\n",
        (
            f"{CONTRACT}/test_broker.py::test_a_header_name_that_is_not_utf8_does_not_stop_its_partition",
        ),
    ),
    Mutation(
        "a bad pair takes its batch along",
        "engine/lanes.py",
        "        if len(batch) > 1 and len(failed):\n",
        "        if False:\n",
        ("tests/unit/engine/test_lanes.py", f"{WORKER}/test_scoring.py"),
    ),
    Mutation(
        "scoring goes on past the deadline",
        "worker/loop.py",
        "            self.pending.result().stop()\n",
        "            pass\n",
        (f"{WORKER}/test_late.py",),
    ),
    Mutation(
        "a deadline that has passed is scored all the same",
        "worker/admission.py",
        "        return budget_s > self._overhead_s\n",
        "        return True\n",
        (f"{WORKER}/test_admission.py",),
    ),
    Mutation(
        "capacity is planned with in full after a cut",
        "worker/admission.py",
        "        share = STRAINED_SHARE if self._strained else 1.0\n",
        "        share = 1.0\n",
        (f"{WORKER}/test_admission.py",),
    ),
    Mutation(
        "the model's digest is not in the cache's keys",
        "worker/caches.py",
        '        self._prefix = b"kr:" + SCHEMA_VERSION + b":p:" + model_digest.encode() + b":"\n',
        '        self._prefix = b"kr:" + SCHEMA_VERSION + b":p:"\n',
        (f"{WORKER}/test_caches.py", f"{WORKER}/test_overload_small.py"),
    ),
    Mutation(
        "pairs in flight are scored again",
        "worker/scoring.py",
        "        self._flights.update(own)\n",
        "",
        (f"{WORKER}/test_scoring.py",),
    ),
    Mutation(
        "times to live have no jitter",
        "worker/store.py",
        "    return ttl_s * (1 - TTL_JITTER * random.random())",
        "    return ttl_s",
        (f"{CONTRACT}/test_store.py",),
    ),
    Mutation(
        "the breaker never opens",
        "worker/store.py",
        "        fail_max=settings.failures,\n",
        "        fail_max=10**9,\n",
        (f"{CONTRACT}/test_store.py",),
    ),
    Mutation(
        "the first failure opens the breaker",
        "worker/store.py",
        "        fail_max=settings.failures,\n",
        "        fail_max=1,\n",
        (f"{CONTRACT}/test_store.py",),
    ),
    Mutation(
        "the cache in memory has no budget",
        "worker/store.py",
        "            maxsize=budget_bytes,\n",
        "            maxsize=10**12,\n",
        (f"{CONTRACT}/test_store.py",),
    ),
    Mutation(
        "error messages have no bound",
        "worker/publish.py",
        "[:MAX_MESSAGE_BYTES]",
        "",
        (f"{WORKER}/test_publish.py",),
    ),
    Mutation(
        "a replayed letter loses its headers",
        "worker/letters.py",
        "            (*headers, (REPLAYS, replays)),\n",
        "            ((REPLAYS, replays),),\n",
        (f"{WORKER}/test_replay_letters.py",),
    ),
    Mutation(
        "files of a bundle are not checked",
        "engine/bundles.py",
        "        _check_file(path, name, entry)\n",
        "        pass\n",
        ("tests/unit/engine/test_bundles.py",),
    ),
    Mutation(
        "events may be of any size",
        "worker/decode.py",
        "    if len(record.value) > limits.event_bytes:\n",
        "    if False:\n",
        (f"{WORKER}/test_decode.py",),
    ),
    Mutation(
        "secrets are taken as flags",
        "worker/flags.py",
        "    refuse_secret_flags(parsed)\n",
        "",
        (f"{WORKER}/test_secrets.py",),
    ),
    Mutation(
        "time-outs need not fit together",
        "worker/settings.py",
        '        _longer(self, "transaction_timeout_ms", "delivery_timeout_ms")\n',
        "",
        (f"{WORKER}/test_settings.py",),
    ),
    Mutation(
        "the watchdog only watches",
        "worker/watchdog.py",
        '                    end_process(f"{name} did not end in time; the broker is gone or too '
        'slow")\n',
        "                    return\n",
        (f"{WORKER}/test_watchdog.py",),
    ),
)
