"""A TCP proxy between two parts, which can cut, delay, dribble and swallow: the network on a bad day.

Theory of operation. Every direction of every connection is one task that reads a piece and passes it on, so
that bytes of a direction never overtake each other and TCP's own backpressure reaches through. Faults are
attributes that every task looks at for each piece; they hold for old connections and new ones. ``cut`` counts
bytes of all connections together and breaks each of them in the middle of the piece in which the count ends:
both sides see a reset behind a part of a message, as after a lost cable. Who has no port yet (it will be known when
its process has started) gets one in ``target_port``; until then connections are reset.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Self

PIECE = 64 * 1024
CONNECT_S = 2.0


class TcpProxy:
    """Passes connections on to one loopback port. ``async with TcpProxy(port) as proxy: proxy.port``."""

    def __init__(self, target_port: int = 0) -> None:
        self.port = 0
        self.target_port = target_port
        self.delay_s = 0.0
        self.step_s = 0.0
        self.cuts = 0
        self._budget: int | None = None
        self._open_gate = asyncio.Event()
        self._open_gate.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        return len(self._writers) // 2

    @property
    def is_cut_due(self) -> bool:
        """Whether a cut waits for its bytes."""
        return self._budget is not None

    # -- faults -------------------------------------------------------------------------------------

    def cut(self, after_bytes: int = 0) -> None:
        """Break all connections once this many more bytes have passed; new ones are fine."""
        if after_bytes:
            self._budget = after_bytes
            return
        self._budget = None
        self.cuts += 1
        for writer in list(self._writers):
            _reset(writer)

    def delay(self, seconds: float) -> None:
        """Each piece waits this long (0: none) before it goes on."""
        self.delay_s = seconds

    def dribble(self, step_s: float) -> None:
        """One byte at a time, this far apart (0: whole pieces again)."""
        self.step_s = step_s

    def swallow(self) -> None:
        """Nothing passes, nobody is told."""
        self._open_gate.clear()

    def flow(self) -> None:
        """Let everything pass again, what waited too. Ends delays, dribbling and a cut still to come."""
        self.delay_s = self.step_s = 0.0
        self._budget = None
        self._open_gate.set()

    # -- passing on ---------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
            return
        self._writers |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, far_writer))
                group.create_task(self._pass(far_reader, writer))
        except* (ConnectionError, OSError):
            pass
        finally:
            self._writers -= {writer, far_writer}
            _reset(writer)
            _reset(far_writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE):
            await self._open_gate.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._write(piece, writer)
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _write(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        if self._budget is not None:
            allowed, self._budget = piece[: self._budget], self._budget - len(piece)
            writer.write(allowed)
            if self._budget <= 0:
                await asyncio.sleep(0)
                self.cut()
                raise ConnectionResetError("cut here")
            return
        at = 0
        while self.step_s and at < len(piece):
            writer.write(piece[at : at + 1])
            await writer.drain()
            at += 1
            await asyncio.sleep(self.step_s)
        writer.write(piece[at:])
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once; the other side sees a reset."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
