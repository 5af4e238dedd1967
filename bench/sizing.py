"""What a worker needs for a query, in CPU time and memory: `python -m bench.sizing --help`.

Measures CPU time and not the clock, so that other work on the machine hardly matters. Each line is
one `python -m worker rank` with one scoring thread, less one that gets no events.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.load import VOCABULARY, event

SEED = 11
CANDIDATES = (10, 100)
WORDS = (30, 100, 200)
PAIRS_A_LINE = 2_000
RETRIEVALS = 40
MIB = 1024


@dataclass(frozen=True)
class Used:
    """CPU seconds and the largest resident memory of one process."""

    cpu_s: float
    memory_mib: float


@dataclass(frozen=True)
class Line:
    """What one shape of query takes. `pairs_per_s` is of one thread that has a core to itself."""

    candidates: int
    words: int
    pairs_per_s: float
    queries_per_s: float
    memory_mib: float


def measure(bundles: Sequence[str], events: Sequence[bytes]) -> Used:
    """Rank the events in a process of their own; raises CalledProcessError."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", "rank", *bundles],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "RERANKER_BATCH__LANES": "1", "RERANKER_LOG__LEVEL": "error"},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"".join(each + b"\n" for each in events))
    process.stdin.close()
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args, stderr=said)
    return Used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MIB)


def reranking(bundles: Sequence[str], idle: Used, candidates: int, words: int) -> Line:
    """Measure one shape of query that brings its candidates."""
    queries = max(1, PAIRS_A_LINE // candidates)
    used = measure(bundles, [event(n, candidates, words, SEED)[1] for n in range(queries)])
    cpu_s = used.cpu_s - idle.cpu_s
    return Line(
        candidates=candidates,
        words=words,
        pairs_per_s=round(queries * candidates / cpu_s, 1),
        queries_per_s=round(queries / cpu_s, 2),
        memory_mib=round(used.memory_mib),
    )


def retrieval(bundles: Sequence[str], idle: Used, top_k: int) -> Line:
    """Measure queries whose candidates are retrieved: embedding, search and reranking together."""
    vocabulary = VOCABULARY.split()
    events = [
        {"query_id": str(n), "query": " ".join(vocabulary[n % 30 : n % 30 + 6]) + f" {n}"}
        for n in range(RETRIEVALS)
    ]
    used = measure(bundles, [json.dumps({**each, "top_k": top_k}).encode() for each in events])
    cpu_s = used.cpu_s - idle.cpu_s
    return Line(
        candidates=top_k,
        words=0,
        pairs_per_s=round(RETRIEVALS * top_k / cpu_s, 1),
        queries_per_s=round(RETRIEVALS / cpu_s, 2),
        memory_mib=round(used.memory_mib),
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    parser.add_argument("--model-bundle", type=Path, default=Path("build/model"))
    parser.add_argument("--index-bundle", type=Path, help="measure retrieval as well")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    model = [f"--model-bundle={chosen.model_bundle}"]
    idle = measure(model, [])
    sys.stdout.write(f"start: {idle.cpu_s:.1f} CPU s, {idle.memory_mib:.0f} MiB\n")
    sys.stdout.write("candidates  words   pairs/s  queries/s  MiB\n")
    lines = []
    for words in WORDS:
        for candidates in CANDIDATES:
            lines.append(reranking(model, idle, candidates, words))
            _tell(lines[-1])
    if chosen.index_bundle is not None:
        both = [*model, f"--index-bundle={chosen.index_bundle}"]
        idle = measure(both, [])
        sys.stdout.write(f"start with index: {idle.cpu_s:.1f} CPU s, {idle.memory_mib:.0f} MiB\n")
        lines.append(retrieval(both, idle, top_k=50))
        _tell(lines[-1])
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(line) for line in lines], indent=1))
    return 0


def _tell(line: Line) -> None:
    sys.stdout.write(
        f"{line.candidates:10d} {line.words or 'index':>6} {line.pairs_per_s:9.1f} "
        f"{line.queries_per_s:10.2f} {line.memory_mib:4.0f}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
