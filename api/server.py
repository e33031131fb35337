"""The HTTP server of an API process."""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

import uvicorn

from api.context import Viewing

TICK_S: Final = 1.0
"""The most that the Date header of a response may be behind."""
SEND_BUFFER: Final = 64 * 1024
"""Bytes of SO_SNDBUF, which connections inherit from the listening socket; Linux doubles it, for its own needs.
Without a limit the buffer grows to megabytes for a viewer that reads nothing. At a round trip of 100 ms it allows
640 kB/s, a hundred times the tokens of a fast stream."""
ACCEPTED: Final = 16
"""Connections that are accepted in one iteration of the event loop. uvloop accepts one for each listener, so each
socket has 16. With one listener, a client behind 400 connections waits for 400 iterations. (16 of them cost a
connection 26 µs of CPU, about a thirtieth of the smallest request.)"""


class ApiServer(uvicorn.Server):
    """uvicorn's server, with four changes. It tells the viewers about the signal at once, because it waits for them
    to leave. It learns of the signal by an event, instead of looking for it ten times a second (2 ms of CPU). Each
    socket has several listeners and a bounded send buffer. A stop on request ends with exit code 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        viewing: Viewing,
        listening: Callable[[Sequence[str]], None] = lambda addresses: None,
    ) -> None:
        """``listening`` is called once, when the server accepts requests, with its addresses."""
        super().__init__(config)
        self._viewing = viewing
        self._listening = listening
        self._signalled = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. If that fails, uvicorn logs the reason and ends the process."""
        await super().startup(sockets)
        mine = [one for server in self.servers for one in server.sockets]
        for listener in mine:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            await self._listen_again(listener, ACCEPTED - 1)
        if self.started:
            self._listening([_address(one) for one in mine])

    async def _listen_again(self, listener: socket.socket, times: int) -> None:
        """Listen on this socket with so many listeners more."""
        loop = asyncio.get_running_loop()
        protocol: Any = self.config.http_protocol_class
        make = functools.partial(
            protocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        for _ in range(times):
            same = socket.socket(fileno=os.dup(listener.fileno()))
            self.servers.append(await loop.create_server(make, sock=same, backlog=self.config.backlog))

    async def main_loop(self) -> None:
        """Run until the signal."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._signalled.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT came; a second one cuts the connections that are still open."""
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)
        # uvicorn would raise the signals again when everything is closed; a stop on request ends with exit code 0.
        self._captured_signals.clear()
        self._viewing.stop()
        self._signalled.set()


def _address(listener: socket.socket) -> str:
    """``host:port``, an IPv6 address in brackets; for a socket file, its path."""
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return str(name)
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
