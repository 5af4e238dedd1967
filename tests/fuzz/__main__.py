"""Fuzz each target with atheris for a while, and report how many inputs were tried."""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import SEEDS, TARGETS

_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
MODULES = tuple(
    f"worker.{name}" for name in ("decode", "letters", "caches", "publish", "kafka_records")
)
_COVERED = re.compile(r"cov: (\d+)")


def main() -> int:
    """Fuzz, print a table, and return 1 where an input failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--target", choices=TARGETS, help=argparse.SUPPRESS)
    chosen, rest = parser.parse_known_args()
    if chosen.target is not None:
        return _fuzz(chosen.target, rest)
    report = {name: _run(name, chosen.seconds) for name in TARGETS}
    for name, found in report.items():
        sys.stdout.write(f"{name:36} {found['inputs']:>10} inputs  {found['result']}\n")
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(found["result"] == "passed" for found in report.values()) else 1


def _run(name: str, seconds: int) -> dict[str, object]:
    """Fuzz in a process of its own: libFuzzer ends the one that it runs in."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(SEEDS):
            (corpus / str(number)).write_bytes(seed)
        command = [sys.executable, "-m", "tests.fuzz", "--target", name, str(corpus)]
        command += [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10"]
        command += ["-print_final_stats=1", f"-artifact_prefix={folder}/"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        failing = [path.read_bytes() for path in Path(folder).glob("*-*") if path.is_file()]
    inputs = _EXECUTED.search(done.stderr)
    covered = _COVERED.findall(done.stderr)
    passed = done.returncode == 0 and inputs is not None
    if not passed:
        sys.stderr.write("\n".join(done.stderr.splitlines()[-30:]) + f"\ninput: {failing}\n")
    return {
        "inputs": int(inputs[1]) if inputs else 0,
        "edges_covered": int(covered[-1]) if covered else 0,
        "seconds": seconds,
        "result": "passed" if passed else "failed",
    }


def _fuzz(name: str, arguments: list[str]) -> int:
    try:
        import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415
    except ImportError:
        sys.stderr.write("atheris is not here: pip install 'kafka-reranker[dev]'\n")
        return 2
    target = TARGETS[name]
    for module in MODULES:
        for each in vars(sys.modules[module]).values():
            if callable(each) and getattr(each, "__module__", None) == module:
                _instrument(atheris, module, each)
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()
    return 0


def _instrument(atheris: object, module: str, each: object) -> None:
    """Let the fuzzer see which branches an input takes."""
    name = getattr(each, "__name__", "")
    if type(each).__name__ == "function":
        setattr(sys.modules[module], name, atheris.instrument_func(each))  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
