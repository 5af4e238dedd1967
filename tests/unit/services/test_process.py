"""Child processes end with the program, whatever thread started them."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.services.process import ServiceFailed, ServiceProcess, await_condition, free_ports

REPOSITORY = Path(__file__).resolve().parents[3]
SLEEP = ["sleep", "600"]


def test_ports_differ_and_are_below_the_range_of_source_ports() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < 32_768


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    process = ServiceProcess("sleeper", SLEEP, tmp_path)
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()
    assert process.alive
    process.kill()
    assert not process.alive


def test_terminate_ends_even_a_paused_child(tmp_path: Path) -> None:
    process = ServiceProcess("sleeper", SLEEP, tmp_path)
    process.start()
    process.pause()
    process.terminate()
    assert not process.alive


def test_the_log_is_in_the_description(tmp_path: Path) -> None:
    process = ServiceProcess("talker", ["sh", "-c", "echo no more disk; exit 3"], tmp_path)
    process.start()
    await_condition(lambda: not process.alive, 120, lambda: "sh does not end")
    assert process.describe("ended") == "talker ended; its log ends with:\nno more disk"


def test_a_condition_that_never_holds_is_told() -> None:
    with pytest.raises(ServiceFailed, match="the sky is up"):
        await_condition(lambda: False, 0.1, lambda: "the sky is up")


@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="needs util-linux")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_end_with_a_program_that_is_killed(tmp_path: Path, ending: signal.Signals) -> None:
    program = (
        "import signal, sys, time; from pathlib import Path\n"
        # Whoever runs the tests in the background may have had it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tests.services.process import ServiceProcess\n"
        f"child = ServiceProcess('sleeper', {SLEEP!r}, Path({str(tmp_path)!r}))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        # Until then the child has not yet asked the kernel to be told of the parent's death.
        await_condition(
            lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n", 120, lambda: "no sleep"
        )
        parent.send_signal(ending)
    await_condition(lambda: _gone(child), 120, lambda: f"process {child} is still there")


def test_a_missing_service_is_a_skip_here_and_a_failure_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no broker"):
        missing("no broker")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no broker"):
        missing("no broker")


def _gone(pid: int) -> bool:
    """True also for a zombie that nobody has waited for yet."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
