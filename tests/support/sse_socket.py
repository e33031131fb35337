"""One GET of an events route over a bare socket: for viewers that drop, dawdle, or come by the thousand.

A real HTTP client reads ahead and costs ten times as much; here the reader decides what is read, and when.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import Self
from urllib.parse import urlsplit

OPEN_S = 10.0
PIECE = 64 * 1024


class SseSocket:
    """An open response. A context manager; leaving it drops the connection at once.

    ``status`` and ``headers`` are known when it is open; :meth:`body` gives the de-chunked body.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(
        cls, url: str, last_event_id: str = "", *, receive_buffer: int = 0, within_s: float = OPEN_S
    ) -> Self:
        """Ask, and read the head of the answer. ``receive_buffer``: bytes of SO_RCVBUF (0: the system's).

        Raises ``OSError`` (``TimeoutError`` among it) or ``EOFError`` where no head comes.
        """
        parts = urlsplit(url)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
                reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or PIECE)
        except BaseException:
            sock.close()
            raise
        made = cls(reader, writer)
        try:
            async with asyncio.timeout(within_s):
                await made._ask(
                    parts.netloc, parts.path + ("?" + parts.query if parts.query else ""), last_event_id
                )
        except BaseException:
            made.drop()
            raise
        return made

    async def _ask(self, host: str, path: str, last_event_id: str) -> None:
        cursor = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{cursor}\r\n".encode())
        self.status = int((await self._line()).split(" ")[1])
        while line := await self._line():
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    async def _line(self) -> str:
        line = await self._reader.readuntil(b"\r\n")
        return line[:-2].decode("latin-1")

    async def body(self, most: int = PIECE) -> AsyncGenerator[bytes, None]:
        """The body in pieces of at most ``most`` bytes. Raises ``OSError`` or ``EOFError`` where it breaks off."""
        if self.headers.get("transfer-encoding") != "chunked":
            while piece := await self._reader.read(most):
                yield piece
            return
        while size := int(await self._line(), 16):
            while size:
                piece = await self._reader.read(min(size, most))
                if not piece:
                    raise EOFError("closed in the middle of a chunk")
                size -= len(piece)
                yield piece
            await self._line()

    def drop(self) -> None:
        """Leave without a word."""
        with contextlib.suppress(OSError):
            self._writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drop()
