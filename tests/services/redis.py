"""A real Redis server on a loopback port."""

import shutil
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.services.process import (
    ServiceFailed,
    ServiceMissing,
    ServiceProcess,
    await_condition,
    free_ports,
)

INSTALL_HINT = "apt-get install redis-server"
_READY_TIMEOUT_S = 120.0


class RedisServer:
    """A `redis-server` without persistence: a restart forgets everything. A context manager.

    Raises:
        ServiceMissing: on entering, when `redis-server` is not installed.
    """

    def __init__(self) -> None:
        self.port = 0
        self._directory: Path | None = None
        self._process: ServiceProcess | None = None

    def __enter__(self) -> Self:
        program = shutil.which("redis-server")
        if program is None:
            raise ServiceMissing(f"redis-server is not here: {INSTALL_HINT}")
        self._directory = Path(tempfile.mkdtemp(prefix="redis-"))
        (self.port,) = free_ports(1)
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._directory)]
        self._process = ServiceProcess("redis-server", command, self._directory)
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The first database's URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def address(self) -> str:
        """Host and port, for a proxy to stand before it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server on its port, and returns when it answers PING."""
        self._running.start()
        await_condition(
            self._answers, _READY_TIMEOUT_S, lambda: self._running.describe("does not answer")
        )

    def stop(self) -> None:
        """An orderly shutdown; `start` brings an empty server back on the same port."""
        self._running.terminate()

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self._running.kill()

    def restart(self) -> None:
        """A kill, if it runs, and an empty server on the same port."""
        self._running.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._running.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._running.resume()

    def close(self) -> None:
        """Ends the server and removes its folder."""
        if self._process is not None:
            self._process.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _running(self) -> ServiceProcess:
        assert self._process is not None, "the server was not entered"
        return self._process

    def _answers(self) -> bool:
        if not self._running.alive:
            raise ServiceFailed(self._running.describe("ended by itself"))
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
