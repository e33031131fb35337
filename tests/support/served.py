"""An application behind the API's own HTTP, on a real socket, without the rest of the API."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.connections import Connections, HttpConnection
from api.http.sink import Sink
from api.http.sse_response import SendWatch, SseResponse

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
WITHIN_S = 60.0


@asynccontextmanager
async def served(app: ASGIApp, table: Connections | None = None, *, waits: bool = True) -> AsyncIterator[int]:
    """Out: the port. ``waits``: at the end the server waits until its responses have ended."""
    table = table or Connections(1000)
    http: Any = partial(HttpConnection, table=table)
    server = uvicorn.Server(uvicorn.Config(app, http=http, lifespan="off", port=0, log_level="error"))
    running = asyncio.create_task(server._serve())
    sweeping = asyncio.create_task(table.run())
    async with asyncio.timeout(WITHIN_S):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        sweeping.cancel()
        server.should_exit = True
        server.force_exit = not waits
        await asyncio.wait_for(running, WITHIN_S)


class NumberedStreams:
    """An application of which each request gets a stream: its number, and what is put in for it."""

    def __init__(self) -> None:
        self.said: list[asyncio.Queue[bytes]] = []
        self.ended: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = len(self.said)
        self.said.append(asyncio.Queue())
        await SseResponse(self._chunks(number), Sink(), SendWatch(1.0), 15.0)(scope, receive, send)

    async def _chunks(self, number: int) -> AsyncGenerator[bytes, None]:
        try:
            yield b"stream %d" % number
            while chunk := await self.said[number].get():
                yield chunk
        finally:
            self.ended.append(number)
