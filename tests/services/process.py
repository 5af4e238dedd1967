"""A service as a child process that never outlives the program that started it."""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Below the range from which Linux takes source ports: while a service is down, no client's
# outgoing connection can sit on its port.
_FIRST_PORT, _LAST_PORT = 15_000, 30_000
# A process that was sent SIGKILL is gone at once, but for a machine that is out of breath.
_KILL_TIMEOUT_S = 120.0
_POLL_S = 0.05


class ServiceMissing(Exception):  # noqa: N818 - it says what is missing, not what went wrong
    """The machine lacks what the service needs. The message says how to install it."""


class ServiceFailed(Exception):  # noqa: N818 - likewise
    """The service did not do what it was asked. The message ends with the tail of its log."""


# The kernel's parent-death signal follows the *thread* that forked, so one thread that lives as
# long as the program starts all children. Otherwise a broker that a test restarts from a thread
# would die with that thread.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="service-spawner")
_running: "weakref.WeakSet[ServiceProcess]" = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    for process in list(_running):
        process.kill()


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """`count` different loopback ports on which nobody listens now.

    A service takes seconds until it listens on its port. Until then nobody else of this test run
    may be given the same one: none is given twice, and each pytest-xdist worker has its own.
    """
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            port = random.SystemRandom().choice(_own_ports())
            if port in _given:
                continue
            candidate = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                ports.append(port)
                _given.add(port)
    return ports


def _own_ports() -> range:
    """Every n-th port, where n processes run tests."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(_FIRST_PORT + number % count, _LAST_PORT, count)


def await_condition(
    condition: Callable[[], bool],
    timeout_s: float,
    describe: Callable[[], str],
) -> None:
    """Returns once `condition` holds.

    Raises:
        ServiceFailed: with what `describe` says, when it does not hold within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceFailed(f"{describe()} (waited {timeout_s:.0f} s)")
        time.sleep(_POLL_S)


class ServiceProcess:
    """One child process with its log file. Signals go to its pid, never to a name."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.log_path = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The child's process id. It must have been started."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True from start until the process ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What the process ended with; negative for a signal, None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Starts the process, its output appended to the log file."""
        assert not self.alive, f"{self.name} is running"
        self._process = _spawner.submit(self._spawn).result()
        _running.add(self)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [*guard, *self.command],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C ends the tests, which then end the service.
            )

    def terminate(self, timeout_s: float = 120.0) -> None:
        """Asks the process to end, and kills it when it has not within `timeout_s`."""
        if not self.alive:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self._wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self.alive:
            self._signal(signal.SIGKILL)
            self._wait(_KILL_TIMEOUT_S)

    def pause(self) -> None:
        """SIGSTOP: the process keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def log_tail(self, lines: int = 30) -> str:
        """The last lines that the process wrote."""
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def describe(self, problem: str) -> str:
        """`problem` with the process's name and the tail of its log, for an exception."""
        return f"{self.name} {problem}; its log ends with:\n{self.log_tail()}"

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _wait(self, timeout_s: float) -> None:
        assert self._process is not None
        self._process.wait(timeout_s)
