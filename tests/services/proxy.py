"""A TCP proxy that misbehaves on command, to stand between a client and a service."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self

from tests.services.process import free_ports

_CALL_TIMEOUT_S = 60.0
_CHUNK_BYTES = 65_536


class Mode(Enum):
    """What the proxy does with bytes and with new connections."""

    OPEN = auto()
    REFUSE = auto()
    BLACK_HOLE = auto()
    STALL = auto()


class Proxy:
    """Forwards a loopback port to `target` ("host:port"); a context manager.

    - `open()`: forwards. What a stall held back is delivered.
    - `refuse()`: new connections are refused, open ones are cut.
    - `black_hole()`: connections are accepted and stay; all that comes is swallowed for good.
    - `stall()`: connections stay; bytes wait until `open()`. New ones are accepted and wait too.
    - `cut()`: resets the open connections once; the mode stays.
    - `delay(ms)`: bytes are forwarded that much later, in each direction; `delay(0)` ends it.

    Each returns when it has taken effect. A Kafka client follows the addresses that the broker
    advertises and passes a proxy by unless the broker advertises the proxy's (`target` may be
    set after the proxy started, so that a broker can be told the proxy's address first).
    """

    def __init__(self, target: str = "") -> None:
        self.target = target
        self.port = 0
        self._mode = Mode.OPEN
        self._delay_s = 0.0
        self._swallowed = 0
        self._accepted = 0
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        """Where clients connect, as "host:port"."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._handlers)

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return self._accepted

    @property
    def swallowed(self) -> int:
        """How many bytes black holes have taken so far."""
        return self._swallowed

    def open(self) -> None:
        """Forwards, as in the beginning."""
        self._call(self._enter(Mode.OPEN))

    def refuse(self) -> None:
        """As if nobody listened."""
        self._call(self._enter(Mode.REFUSE))

    def black_hole(self) -> None:
        """Accepts, swallows, and never answers."""
        self._call(self._enter(Mode.BLACK_HOLE))

    def stall(self) -> None:
        """Holds all bytes back until `open`."""
        self._call(self._enter(Mode.STALL))

    def cut(self) -> None:
        """Resets all open connections."""
        self._call(self._cut())

    def delay(self, milliseconds: float) -> None:
        """Forwards bytes that much later from now on."""
        self._delay_s = milliseconds / 1000

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CALL_TIMEOUT_S)

    async def _enter(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.STALL:
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode is Mode.REFUSE:
            await self._close_server()
            await self._cut()
        elif self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        # Not one that the kernel chooses: while this one refuses, a client might be given it.
        self.port = self.port or free_ports(1)[0]
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        if self._mode is not Mode.STALL:
            self._flowing.set()

    async def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self) -> None:
        for writer in list(self._writers):
            _reset(writer)
        for handler in list(self._handlers):
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _shut_down(self) -> None:
        await self._close_server()
        await self._cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._accepted += 1
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._connect_through(reader, writer)
        finally:
            self._handlers.discard(task)

    async def _connect_through(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with contextlib.AsyncExitStack() as stack:
            self._own(stack, writer)
            if self._mode is Mode.STALL:
                await self._flowing.wait()
            host, port = self.target.rsplit(":", 1)
            upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
            self._own(stack, upstream_writer)
            # One end gone: the other has nobody to talk to.
            pumps = [
                asyncio.create_task(self._pump(reader, upstream_writer)),
                asyncio.create_task(self._pump(upstream_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)

    def _own(self, stack: contextlib.AsyncExitStack, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)

        async def release() -> None:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        stack.push_async_callback(release)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._flowing.wait()
            if self._mode is Mode.BLACK_HOLE:
                self._swallowed += len(chunk)
                continue
            writer.write(chunk)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with RST, as a crashed machine's router would."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()
