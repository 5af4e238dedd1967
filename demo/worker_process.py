"""The real worker, in a process of its own, as `python -m worker` starts it."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.bundles import Made
from demo.errors import DemoError
from demo.services import TOPICS, Services

GROUP = "kafka-reranker-demo"
_HOST = "127.0.0.1"
_START_TIMEOUT_S = 180.0
# Above the worker's own drain_timeout_ms.
_STOP_TIMEOUT_S = 25.0
_CHECK_EVERY_S = 0.1
_TAIL_LINES = 12


@dataclass(frozen=True)
class WorkerProcess:
    """A running worker."""

    process: "subprocess.Popen[bytes]"
    log: Path
    port: int

    def check(self) -> None:
        """Raise DemoError, with the end of the log, when the worker has ended."""
        if (code := self.process.poll()) is not None:
            raise DemoError(f"the worker ended with exit code {code}; its log:\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([*lines, f"(from {self.log})"])


@contextmanager
def running_worker(made: Made, services: Services, log: Path) -> Iterator[WorkerProcess]:
    """Start a worker, wait until it is ready, and stop it afterwards; raises DemoError."""
    port = _free_port()
    environment = {**_without_settings(), **settings(made, services, port)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C reaches this process only, which stops that one
        )
    worker = WorkerProcess(process, log, port)
    try:
        _wait_until_ready(worker)
        yield worker
    finally:
        _stop(process)


def settings(made: Made, services: Services, port: int) -> dict[str, str]:
    """Return the environment variables that a user would set for this worker."""
    variables = {
        "MODEL_BUNDLE": str(made.model),
        "INDEX_BUNDLE": str(made.index),
        "KAFKA__BOOTSTRAP_SERVERS": services.kafka,
        "KAFKA__GROUP_ID": GROUP,
        "KAFKA__EMBEDDED": str(services.embedded_kafka).lower(),
        "KAFKA__TOPICS__QUERIES": TOPICS.queries,
        "KAFKA__TOPICS__RESULTS": TOPICS.results,
        "KAFKA__TOPICS__FEEDBACK": TOPICS.feedback,
        "KAFKA__TOPICS__DEAD_LETTERS": TOPICS.dead_letters,
        "REDIS__URL": services.redis,
        "HTTP__HOST": _HOST,
        "HTTP__PORT": str(port),
    }
    return {f"RERANKER_{name}": value for name, value in variables.items()}


def _without_settings() -> dict[str, str]:
    """Return the environment without settings for another worker, which would mix with ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RERANKER_")}


def _wait_until_ready(worker: WorkerProcess) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not _is_ready(worker.port):
        worker.check()
        if time.monotonic() > deadline_s:
            raise DemoError(
                f"the worker was not ready after {_START_TIMEOUT_S:.0f} s; its log:\n"
                + worker.tail()
            )
        time.sleep(_CHECK_EVERY_S)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{_HOST}:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the worker to drain and leave; after that long, end it."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
