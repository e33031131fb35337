"""A server that answers each request with bytes that a test wrote down, and notes what it was asked."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

CLOSE = b"<close>"
"""Among the pieces of a response: the connection ends here."""
PAUSE = b"<pause>"
"""Among the pieces of a response: a tenth of a second passes."""


@dataclass
class BytesServer:
    """What came: the head of each request, by connection."""

    port: int = 0
    connections: list[list[str]] = field(default_factory=list)
    open: int = 0

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://localhost:{self.port}/v1/x"


@asynccontextmanager
async def bytes_server(
    response: Callable[[int], Iterable[bytes]], tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[BytesServer]:
    """``response``: the pieces in which the answer to the n-th request (counted from 1) is written."""
    server = BytesServer()
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        mine: list[str] = []
        server.connections.append(mine)
        server.open += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                mine.append(head)
                length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0] or 0)
                await reader.readexactly(length)
                asked += 1
                for piece in response(asked):
                    if piece == CLOSE:
                        return
                    if piece == PAUSE:
                        await asyncio.sleep(0.1)
                        continue
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.005)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # the client has left
        finally:
            server.open -= 1
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async with await asyncio.start_server(serve, host, 0, ssl=tls) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server
        with suppress(TimeoutError):  # its clients have left, or will when their loop ends
            async with asyncio.timeout(1):
                while server.open:
                    await asyncio.sleep(0.005)
