"""The HTTP server of an API process."""

import asyncio
import contextlib
import socket
from types import FrameType
from typing import Final

import uvicorn

from api.services import Viewing

TICK_S: Final = 1.0
"""How old the Date header of a response may be."""
SEND_BUFFER: Final = 64 * 1024
"""Bytes of SO_SNDBUF, which connections inherit from the listening socket; Linux takes it twice, for its own needs.
Left to itself it grows to megabytes for a viewer that reads nothing. At 100 ms to the viewer it lets 640 kB/s pass,
a hundred times the tokens of a fast stream."""


class Server(uvicorn.Server):
    """uvicorn's server, which tells the viewers about the signal at once: it waits for them to leave. It learns of
    the signal by an event, and does not look for it ten times a second (2 ms of CPU)."""

    def __init__(self, config: uvicorn.Config, viewing: Viewing) -> None:
        super().__init__(config)
        self._viewing = viewing
        self._signalled = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    async def main_loop(self) -> None:
        """Until the signal."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._signalled.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._viewing.stop()
        self._signalled.set()
