"""An application behind the API's own HTTP, on a real socket, without the rest of the API."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from api.http.connections import Connections, HttpConnection

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
WITHIN_S = 5.0


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
