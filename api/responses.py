"""The SSE response: sse-starlette's, without the cost that it has at every send.

sse-starlette opens a cancel scope for each send, which fills a core at 1,000 viewers × 50 events/s (18-20 µs
an event, 15 without). Here a send only notes when it began; one watch for the whole process closes what has
accepted nothing for the send time-out. It aborts the transport: a polite close would wait, with all that the
socket still holds, for the very viewer that reads nothing. The shutdown is the viewer's own (it ends its
stream cleanly), so the library's process-wide watcher is left out.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import structlog
from sse_starlette import EventSourceResponse
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.sse import COMMENT

TRANSPORT: Final = "headrace.transport"
WATCH_S: Final = 1.0

log = structlog.get_logger("api.responses")


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which tells each request the transport it came over."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[typeddict-unknown-key]


class SendWatch:
    """Closes viewers that accept nothing."""

    def __init__(self, send_timeout_s: float) -> None:
        self._send_timeout_s = send_timeout_s
        self._open: set[SseResponse] = set()

    def add(self, response: "SseResponse") -> None:
        self._open.add(response)

    def remove(self, response: "SseResponse") -> None:
        self._open.discard(response)

    async def run(self) -> None:
        """Look once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_S)
            latest = loop.time() - self._send_timeout_s
            for response in [r for r in self._open if r.sending_since and r.sending_since < latest]:
                log.info("viewer_stalled", timeout_s=self._send_timeout_s)
                response.abort()


class SseResponse(EventSourceResponse):
    """An SSE response of ready bytes."""

    def __init__(
        self, chunks: AsyncIterator[bytes], watch: SendWatch, keepalive_s: float, ping: bytes = COMMENT
    ) -> None:
        """``ping`` is sent every ``keepalive_s``."""
        super().__init__(
            chunks,
            ping=keepalive_s,
            # Ready bytes pass through unchanged; a comment without a blank line is no empty event.
            ping_message_factory=lambda: ping,  # type: ignore[arg-type, return-value]
        )
        self.sending_since = 0.0
        self._watch = watch
        self._scope: Scope = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def abort(self) -> None:
        """Drop the connection, with all that waits in it."""
        transport = self._scope.get(TRANSPORT)
        if transport is not None:
            transport.abort()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._loop = asyncio.get_running_loop()
        self._watch.add(self)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watch.remove(self)

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        assert self._loop is not None
        self.sending_since = self._loop.time()
        await send(message)
        self.sending_since = 0.0

    async def _listen_for_exit_signal_with_grace(self) -> None:
        await asyncio.Event().wait()
