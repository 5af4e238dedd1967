"""Each promise and the tests that can break it: the table of `docs/guarantees.md`."""

from collections.abc import Sequence
from dataclasses import dataclass

E2E = "tests/e2e"
UNIT = "tests/unit/worker"


@dataclass(frozen=True)
class Promise:
    """What a worker promises.

    `tests` are ids of pytest, `scenarios` names of the long form and of `other_reports`.
    """

    number: int
    text: str
    tests: Sequence[str]
    scenarios: Sequence[str] = ()


STEPS = f"{E2E}/test_guarantees_steps.py"
FENCING = f"{E2E}/test_guarantees_fencing.py"
STOPPED = f"{E2E}/test_guarantees_stopped.py"
GONE = f"{E2E}/test_guarantees_broker_gone.py"
KILLS = f"{E2E}/test_guarantees_kills.py"
STREAMING = f"{E2E}/test_streaming.py"
REDIS = f"{E2E}/test_redis_faults.py"
STREAM = f"{E2E}/test_guarantees_stream.py"
BROKER = "tests/contract/test_broker.py"
CLIENT = "tests/unit/worker/test_kafka_broker.py"
STORE = "tests/contract/test_store.py"
OVERLOAD = f"{E2E}/test_overload.py"
REPLAY = f"{E2E}/test_replay.py"
SECURITY = f"{E2E}/test_security.py"
POLICIES = "tests/unit/k8s/test_policies.py"

PROMISES = (
    Promise(
        1,
        "Workers killed at random: each query has its answer exactly once.",
        [f"{KILLS}::test_killed_workers"],
        ["kills"],
    ),
    Promise(
        2,
        "The same while the broker restarts, or a node of three is lost.",
        [
            f"{KILLS}::test_killed_workers_and_a_killed_broker",
            f"{KILLS}::test_three_nodes_lose_one",
        ],
        ["broker", "leader"],
    ),
    Promise(
        3,
        "The same while workers go from one to three and back.",
        [f"{KILLS}::test_one_worker_three_and_one_again"],
        ["scaling"],
    ),
    Promise(
        4,
        "Result, impression, dead letter and offset appear together or not at all.",
        [f"{STEPS}::test_result_impression_dead_letter_and_offset_are_one"],
    ),
    Promise(
        5,
        "A record that times out, or an epoch that ends within a commit, moves no offset.",
        [
            f"{FENCING}::test_a_result_that_times_out_takes_its_offset_along",
            f"{FENCING}::test_results_that_a_stalled_network_holds_back_are_not_written_twice",
            f"{FENCING}::test_the_witness_sees_what_the_client_would_lose",
            f"{FENCING}::test_a_transaction_that_the_broker_gave_up_is_not_committed",
            f"{UNIT}/test_kafka_broker.py::test_after_a_record_that_was_not_written_no_offset_moves",
        ],
    ),
    Promise(
        6,
        "A worker that is stopped past its session and goes on repeats nothing.",
        [
            f"{STOPPED}::test_who_was_stopped_past_its_session_repeats_nothing",
            f"{STREAM}::test_one_of_two_that_stops_is_replaced",
            f"{FENCING}::test_of_two_producers_with_one_id_the_older_one_ends",
        ],
    ),
    Promise(
        7,
        "Without a broker, a commit ends the process: it may take its time-out and 3 s.",
        [
            f"{GONE}::test_without_a_broker_a_commit_ends_the_process",
            f"{CLIENT}::test_a_commit_may_take_as_long_as_its_transaction_and_little_more",
        ],
    ),
    Promise(
        8,
        "After an abort, the position is the committed offset.",
        [f"{FENCING}::test_after_an_abort_the_position_is_the_committed_offset"],
    ),
    Promise(
        9,
        "Start refuses auto-commit, `latest`, uncommitted reads, and time-outs that do not fit.",
        [f"{STREAM}::test_start_refuses_what_would_lose_exactly_once"],
    ),
    Promise(
        10,
        "Order within a partition holds; no commit passes a gap.",
        [
            f"{UNIT}/test_loop_exactly_once.py::test_each_event_is_answered_once_and_in_order",
            f"{STREAM}::test_partitions_move_while_batches_are_scored",
        ],
        ["kills", "broker", "leader", "scaling"],
    ),
    Promise(
        11,
        "A poison record becomes a dead letter once, bytes intact, and fails alone.",
        [
            f"{STREAMING}::test_bad_records_become_dead_letters_and_neighbours_are_answered",
            f"{STEPS}::test_result_impression_dead_letter_and_offset_are_one",
        ],
    ),
    Promise(
        12,
        "What is away for a while is tried again after a random time, without a rebalance.",
        [
            f"{FENCING}::test_a_result_that_times_out_takes_its_offset_along",
            f"{STREAM}::test_networks_that_fail",
        ],
    ),
    Promise(
        13,
        "Dead letters can be replayed.",
        [
            f"{E2E}/test_replay.py::test_letters_come_back_as_they_were_and_only_once",
            f"{E2E}/test_replay.py::test_the_whole_circle_with_a_worker",
        ],
    ),
    Promise(
        14,
        "Under overload fewer candidates, a smaller model, retrieval order; each list says which.",
        [f"{E2E}/test_overload.py::test_tiers_give_way_under_ten_times_the_load_and_come_back"],
    ),
    Promise(
        15,
        "A deadline never ends in silence.",
        [f"{STREAM}::test_deadlines_that_have_passed_are_answered_too"],
    ),
    Promise(
        16,
        "Queues are bounded: ten times the backlog takes no more memory.",
        [f"{STREAM}::test_ten_times_the_backlog_takes_no_more_memory"],
    ),
    Promise(
        17,
        "SIGTERM drains and leaves the group.",
        [f"{STREAM}::test_sigterm_drains_and_leaves"],
    ),
    Promise(
        18,
        "Redis down, black-holed or full of rubbish: the same ranking, with a breaker.",
        [
            f"{REDIS}::test_every_fault_gives_the_same_rankings_and_the_breaker_closes_again",
            f"{REDIS}::test_garbage_and_a_flush",
        ],
    ),
    Promise(
        19,
        "Cached equals computed; under a new digest nothing old is found.",
        [
            f"{STREAMING}::test_the_same_question_gets_the_same_list",
            f"{UNIT}/test_caches.py::test_another_models_score_is_never_seen",
        ],
    ),
    Promise(
        20,
        "The trace goes from the query event to its list, impression, dead letter and log.",
        [f"{STREAM}::test_the_trace_goes_from_end_to_end"],
    ),
    Promise(
        21,
        "The eight hazards of the client are handled, each by itself.",
        [
            f"{UNIT}/test_kafka_broker.py::test_records_are_awaited_before_offsets_are_sent",
            f"{UNIT}/test_kafka_broker.py::test_a_commit_of_unknown_outcome_is_the_end",
            f"{UNIT}/test_kafka_broker.py::test_offsets_that_are_refused_are_not_committed",
            f"{UNIT}/test_watchdog.py::test_a_step_that_hangs_ends_the_process",
            f"{UNIT}/test_kafka_client.py::test_consumers_are_as_exactly_once_needs_them",
            f"{UNIT}/test_kafka_client.py::test_each_producer_has_an_id_of_its_own",
            f"{UNIT}/test_kafka_broker.py::test_moves_are_noted_without_a_call_to_the_client",
            f"{BROKER}::test_a_refused_commit_leaves_no_offset_behind",
        ],
    ),
    Promise(
        22,
        "A process that has ended by itself is gone soon, whatever hangs in it.",
        [
            f"{UNIT}/test_watchdog.py::test_a_thread_that_hangs_does_not_keep_a_process_that_has_ended",
            f"{UNIT}/test_kafka_broker.py::test_after_a_fatal_error_the_end_is_quick",
        ],
    ),
    Promise(
        23,
        "Ten times the sustainable load for ten minutes: answers in time, and memory flat.",
        [f"{OVERLOAD}::test_tiers_give_way_under_ten_times_the_load_and_come_back"],
        ["overload"],
    ),
    Promise(
        24,
        "Scoring ends at the deadline, however slow the machine has become.",
        [
            f"{UNIT}/test_late.py::test_the_loop_stops_what_is_late",
            f"{UNIT}/test_late.py::test_what_is_not_scored_in_time_is_answered_in_retrieval_order",
            f"{UNIT}/test_routing_late.py::"
            "test_the_loop_answers_what_the_smaller_model_had_no_time_for",
            f"{UNIT}/test_build.py::"
            "test_a_cascade_s_smaller_model_is_told_to_end_when_the_model_must",
        ],
    ),
    Promise(
        25,
        "One enormous event does not hold up the others.",
        [
            f"{OVERLOAD}::test_one_enormous_event_does_not_hold_the_others_up",
            f"{UNIT}/test_overload_small.py::test_an_enormous_event_leaves_time_to_those_behind_it",
        ],
    ),
    Promise(
        26,
        "A pair is scored once, however often it is asked for at a time.",
        [
            f"{UNIT}/test_scoring.py::test_a_pair_in_flight_is_not_scored_again",
            f"{UNIT}/test_scoring.py::test_identical_pairs_of_a_batch_are_scored_once",
        ],
    ),
    Promise(
        27,
        "The cache: jittered times to live, a byte budget in memory, a breaker that tries again.",
        [
            f"{STORE}::test_times_to_live_have_jitter_within_bounds",
            f"{STORE}::test_memory_has_a_bound_however_much_is_stored",
            f"{STORE}::test_a_half_open_breaker_that_fails_opens_again",
            f"{STORE}::test_one_slow_answer_does_not_cost_the_cache",
            f"{REDIS}::test_an_open_breaker_leaves_redis_alone",
        ],
    ),
    Promise(
        28,
        "A sick Redis costs a bounded time, and wrong answers of it cost no ranking.",
        [
            f"{STORE}::test_a_failure_takes_no_longer_than_the_time_out_allows",
            f"{STORE}::test_answers_never_belong_to_another_question",
            f"{REDIS}::test_something_that_answers_wrongly",
        ],
        ["redis"],
    ),
    Promise(
        29,
        "Poison in any field, header or bundle of bytes stops neither its neighbours nor a worker.",
        [
            f"{BROKER}::test_a_header_name_that_is_not_utf8_does_not_stop_its_partition",
            f"{BROKER}::test_bytes_come_through_untouched",
            f"{UNIT}/test_decode.py::test_nothing_but_a_bad_record_is_ever_raised",
            "tests/fuzz/test_decoding.py::test_events_with_anything_in_any_field",
        ],
        ["fuzz"],
    ),
    Promise(
        30,
        "A pair that can't be scored fails alone; a model that scores NaN is refused at start.",
        [
            "tests/unit/engine/test_lanes.py::test_two_bad_pairs_beside_each_other",
            "tests/unit/engine/test_lanes.py::test_a_graph_that_spoils_all_that_goes_with_a_bad_pair",
            f"{UNIT}/test_scoring.py::test_a_bad_pair_fails_alone",
            f"{UNIT}/test_start.py::test_a_model_that_scores_nan_ends_the_worker",
        ],
    ),
    Promise(
        31,
        "Replay: filters, dry run and rate; key, headers, value and query id are the original.",
        [
            f"{REPLAY}::test_a_filter_leaves_the_others_for_later",
            f"{REPLAY}::test_a_dry_run_says_what_would_happen_and_does_nothing",
            f"{REPLAY}::test_another_topic_and_a_rate",
            f"{UNIT}/test_replay_letters.py::test_a_record_comes_back_byte_for_byte",
        ],
    ),
    Promise(
        32,
        "TLS, SCRAM and OAUTHBEARER with a real broker; wrong credentials are one line.",
        [
            f"{SECURITY}::test_a_worker_comes_in",
            f"{SECURITY}::test_wrong_credentials_are_one_line_without_the_secret",
            f"{E2E}/test_kafka_acls.py::test_the_workers_rights_are_enough",
        ],
    ),
    Promise(
        33,
        "Redis with TLS and an ACL.",
        [f"{SECURITY}::test_redis_with_tls_and_a_user_of_few_rights"],
    ),
    Promise(
        34,
        "Secrets come from files or the environment, and are in no log, metric, error or letter.",
        [
            f"{SECURITY}::test_a_worker_comes_in",
            f"{UNIT}/test_secrets.py::test_a_secret_is_no_flag",
            f"{UNIT}/test_secrets.py::test_files_are_named_like_variables",
            f"{UNIT}/test_settings.py::test_a_refusal_never_holds_a_secret",
        ],
    ),
    Promise(
        35,
        "Bundles are verified by digest; no pickle, and no code from a bundle.",
        [
            "tests/unit/engine/test_bundles.py::test_every_file_is_checked",
            "tests/unit/engine/test_bundles.py::test_a_manifest_never_names_a_file_outside_its_folder",
            "tests/unit/engine/test_no_pickle.py::test_nothing_that_runs_what_it_reads",
            "tests/unit/export/test_checkpoint.py::test_pickled_weights_are_refused",
        ],
    ),
    Promise(
        36,
        "Whatever comes from outside has a largest size.",
        [
            f"{UNIT}/test_decode.py::test_a_value_over_its_limit",
            f"{UNIT}/test_decode.py::test_a_text_over_its_limit",
            f"{UNIT}/test_decode.py::test_what_can_never_be_answered",
            f"{UNIT}/test_publish.py::test_a_dead_letter_always_fits",
            "tests/unit/engine/test_bundles.py::test_an_enormous_manifest_is_not_read",
        ],
    ),
    Promise(
        37,
        "The HTTP port serves its three paths and no more.",
        [
            f"{SECURITY}::test_the_port_serves_its_three_paths_and_no_more",
            f"{UNIT}/test_http.py::test_a_silent_client_does_not_hold_up_others",
        ],
    ),
    Promise(
        38,
        "Dependencies are asked for known weaknesses.",
        ["tests/unit/chaos/test_audit.py::test_what_was_not_audited_is_no_pass"],
        ["audit"],
    ),
    Promise(
        39,
        "Every metric is explained, and dashboards and alerts use only metrics that exist.",
        [
            f"{UNIT}/test_operations_page.py::test_every_metric_is_explained_and_no_other",
            f"{POLICIES}::test_everything_that_is_rendered_is_right",
            f"{POLICIES}::test_promtool_finds_an_alert_that_does_not_fire",
        ],
    ),
    Promise(
        40,
        "The tests notice when a promise is taken out of the code.",
        [
            "tests/unit/chaos/test_mutations.py::test_a_mutation_changes_what_is_there",
            f"{FENCING}::test_the_witness_sees_what_the_client_would_lose",
        ],
        ["mutations"],
    ),
)
