"""`python -m bench.peers`: the same weights and pairs through other rerankers.

Each runs as its own documentation says, on all cores and at its best batch size, in turn with ours.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau  # type: ignore[import-untyped]

from bench.engine_bundles import BenchError, make_model
from bench.engine_runs import Engine
from bench.engine_texts import Question, load_texts
from bench.engine_timing import Spread, Timing, speed_ratio
from bench.peers_players import Answered, Ours, Peer, Player
from bench.peers_servers import KINDS, ServerPeer, find_program
from bench.peers_setup import set_up
from bench.report import Machine, Row, Table, show, wide_console, write
from engine.devices import Device
from export.bars import progress
from schemas.manifests import Precision

OUT = Path("build/bench")
LANES = 2
REFERENCE = "torch"
OURS = "ours, int8"
PEERS = {
    "torch": "sentence-transformers, torch fp32",
    "onnx-int8": "sentence-transformers, ONNX dynamic int8",
    "openvino-int8": "sentence-transformers, OpenVINO static int8",
    "flashrank": "FlashRank, the same ONNX dynamic int8",
}
SERVERS = {
    "tei": "Text Embeddings Inference, the same ONNX dynamic int8",
    "infinity": "Infinity, the same ONNX dynamic int8",
}
# At least this share of a question's pairs must be ordered as by torch in fp32.
TAU_FLOOR = 0.8
MODES = {"all waiting": False, "one at a time": True}
Found = Mapping[tuple[str, str], Sequence[Answered]]


def main(arguments: Sequence[str]) -> int:
    """Compare, print, write; return the exit code."""
    options = _parser().parse_args(arguments)
    questions, candidates, rounds = (4, 50, 2) if options.quick else (20, 100, 4)
    texts = load_texts()
    kinds = {
        "natural": texts.natural(questions, candidates),
        "long": texts.long(max(2, questions // 4), candidates // 5),
    }
    try:
        with ExitStack() as stack:
            programs = {
                name: program
                for name in SERVERS
                if (program := find_program(name, getattr(options, name))) is not None
            }
            players = _players(options.out, kinds["natural"][:2], programs, stack)
            machine = Machine.here()
            tables = [
                table
                for kind, asked in kinds.items()
                # Long ones are few: what the machine does besides decides over a single round.
                for table in _compare(kind, players, asked, rounds * (1 + (kind == "long")))
            ]
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    show(wide_console(), machine, tables)
    write(options.out, "peers", machine, tables)
    return _check_order(tables)


def _players(
    folder: Path, sample: Sequence[Question], programs: Mapping[str, str], stack: ExitStack
) -> dict[str, Player]:
    setting = set_up(folder)
    players: dict[str, Player] = {}
    own: list[tuple[str, Precision, Device]] = [
        (OURS, "int8", "cpu"),
        ("ours, int8 on standard operators", "int8", "cpu-standard"),
        ("ours, fp32", "fp32", "cpu"),
    ]
    if find_spec("openvino") is not None:
        own.append(("ours, int8 on OpenVINO", "int8", "openvino"))
    for name, precision, device in own:
        ours = Ours(Engine.open(make_model(folder, precision), LANES, device))
        stack.callback(ours.close)
        players[name] = ours
    with progress("Starting the others", total=len(PEERS) + len(programs)) as advance:
        for kind in PEERS:
            peer = Peer.start(kind, setting)
            stack.callback(peer.close)
            peer.choose_batch_size(sample)
            players[kind] = peer
            advance(1)
        for kind, program in programs.items():
            server = ServerPeer.start(kind, program, setting)
            stack.callback(server.close)
            server.answer(sample, one_at_a_time=False)  # warms it up
            players[kind] = server
            advance(1)
    return players


def _compare(
    kind: str, players: Mapping[str, Player], questions: Sequence[Question], rounds: int
) -> list[Table]:
    found: dict[tuple[str, str], list[Answered]] = {}
    with progress(f"Others and ours, {kind}", total=rounds * len(players) * len(MODES)) as advance:
        for number in range(rounds):
            salted = [question.salted(f"({number})") for question in questions]
            for mode, one_at_a_time in MODES.items():
                for name, player in players.items():
                    answered = player.answer(salted, one_at_a_time=one_at_a_time)
                    found.setdefault((name, mode), []).append(answered)
                    advance(1)
    pairs = sum(len(question.documents) for question in questions)
    note = (
        f"{len(questions)} questions of {len(questions[0].documents)} candidates, {rounds} rounds; "
        "ratios within a round, median (least-most)"
    )
    return [
        Table(f"peers_{kind}", f"Ours and others, {kind} lengths", _speeds(found, pairs), note),
        Table(f"order_{kind}", f"Order against torch fp32, {kind} lengths", _orders(found)),
    ]


def _speeds(found: Found, pairs: int) -> list[Row]:
    rows: list[Row] = []
    for (name, mode), answers in found.items():
        timings = _timings(answers)
        ours, torch = _timings(found[OURS, mode]), _timings(found[REFERENCE, mode])
        rows.append(
            {
                "reranker": (PEERS | SERVERS).get(name, name),
                "questions": mode,
                "pairs/s": round(pairs / min(timing.wall_s for timing in timings), 1),
                "pairs/CPU s": round(pairs / min(timing.cpu_s for timing in timings), 1),
                ": torch": str(speed_ratio(timings, torch)),
                "ours : it": str(speed_ratio(ours, timings)),
                "ours : it, CPU time": str(speed_ratio(ours, timings, cpu=True)),
            }
        )
    return rows


def _orders(found: Found) -> list[Row]:
    rows: list[Row] = []
    for (name, mode), answers in found.items():
        if mode != "all waiting" or name == REFERENCE:
            continue
        taus, differences = [], []
        for ours, theirs in zip(answers, found[REFERENCE, mode], strict=True):
            for left, right in zip(ours.scores, theirs.scores, strict=True):
                taus.append(float(kendalltau(left, right).statistic))
                differences.append(np.subtract(left, right))
        rms = float(np.sqrt(np.mean(np.square(np.concatenate(differences)))))
        rows.append(
            {
                "reranker": (PEERS | SERVERS).get(name, name),
                "Kendall's tau, each question": str(Spread.of(taus)),
                "rms difference of logits": None if name == "flashrank" else round(rms, 4),
                "least": min(taus),
            }
        )
    return rows


def _timings(answers: Sequence[Answered]) -> list[Timing]:
    return [answer.timing for answer in answers]


def _check_order(tables: Sequence[Table]) -> int:
    """Return 1 where ours orders a question otherwise than quantization explains."""
    for table in tables:
        for row in table.rows:
            least = row.get("least")
            name = str(row["reranker"])
            if name.startswith("ours") and isinstance(least, float) and least < TAU_FLOOR:
                sys.stderr.write(f"bench: {table.title}: {name} has tau {least:.2f}\n")
                return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer questions and rounds")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder (default: {OUT})")
    for name, title in SERVERS.items():
        parser.add_argument(
            f"--{name}",
            metavar="PROGRAM",
            help=f"{title.partition(',')[0]} (default: {KINDS[name].program}, where it is found)",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
