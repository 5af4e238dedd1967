"""The watchdog ends a process that hangs, and no other."""

import subprocess
import sys

from tests.conftest import REPOSITORY
from worker.errors import EXIT_FATAL


def run(code: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a process of its own: what is tested here ends it."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_a_step_that_hangs_ends_the_process() -> None:
    done = run(
        "import threading\n"
        "from worker.watchdog import Watchdog\n"
        "with Watchdog().limit('commit', 0.05):\n"
        "    threading.Event().wait()\n"
    )
    assert done.returncode == EXIT_FATAL == 70
    assert done.stderr.startswith("kafka-reranker: fatal: commit did not end in time")
    assert len(done.stderr.splitlines()) == 1


def test_neither_clean_up_nor_other_threads_hold_it_up() -> None:
    done = run(
        "import atexit, threading\n"
        "from worker.watchdog import Watchdog\n"
        "atexit.register(threading.Event().wait)\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "try:\n"
        "    with Watchdog().limit('commit', 0.05):\n"
        "        threading.Event().wait()\n"
        "finally:\n"
        "    print('cleaned up')\n"
    )
    assert done.returncode == EXIT_FATAL
    assert done.stdout == ""


def test_a_step_that_ends_in_time_is_left_alone() -> None:
    done = run(
        "import threading\n"
        "from worker.watchdog import Watchdog\n"
        "watchdog = Watchdog()\n"
        "for _ in range(1000):\n"
        "    with watchdog.limit('commit', 300):\n"
        "        pass\n"
        "threading.Event().wait(0.2)\n"
        "print('fine')\n"
    )
    assert (done.returncode, done.stdout) == (0, "fine\n")


def test_a_limit_that_has_ended_does_not_come_back() -> None:
    """A short limit is over; a longer step after it has its own."""
    done = run(
        "import threading\n"
        "from worker.watchdog import Watchdog\n"
        "watchdog = Watchdog()\n"
        "with watchdog.limit('first', 2):\n"
        "    pass\n"
        "with watchdog.limit('second', 600):\n"
        "    threading.Event().wait(2.5)\n"
        "print('fine')\n"
    )
    assert (done.returncode, done.stdout) == (0, "fine\n")


def test_an_error_in_a_step_ends_its_limit() -> None:
    done = run(
        "import threading\n"
        "from worker.watchdog import Watchdog\n"
        "watchdog = Watchdog()\n"
        "try:\n"
        "    with watchdog.limit('commit', 2):\n"
        "        raise KeyError\n"
        "except KeyError:\n"
        "    threading.Event().wait(2.5)\n"
        "print('fine')\n"
    )
    assert (done.returncode, done.stdout) == (0, "fine\n")


def test_a_thread_that_hangs_does_not_keep_a_process_that_has_ended() -> None:
    """Python waits for such threads without bound: then nobody would take the partitions over."""
    done = run(
        "import threading\n"
        "import worker.__main__ as command\n"
        "command.END_LIMIT_S = 0.2\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "command.end(70)\n"
    )
    assert done.returncode == EXIT_FATAL
