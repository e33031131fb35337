"""The SSE response: sse-starlette's, without the cost that it has for every viewer and at every send.

sse-starlette keeps four tasks for each response (stream, ping, disconnect, shutdown) and opens a cancel scope for
each send, which fills a core at 1,000 viewers × 50 events/s. Here there is none: the request's own task streams,
and is cancelled when the server tells that the connection is lost; one watch for the whole process sends the pings
and closes what has accepted nothing for the send time-out. It aborts the transport: a polite close would wait, with
all that the socket still holds, for the very viewer that reads nothing. The shutdown is the viewer's own (it ends
its stream cleanly). What is ready for many viewers at once does not even pass here (see :mod:`api.sink`).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import structlog
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.sink import Sink, frame
from shared.sse import COMMENT

CONNECTION: Final = "headrace.connection"
"""In the ASGI scope: the server's protocol of this connection."""
WATCH_S: Final = 0.5

log = structlog.get_logger("api.responses")


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which tells each request the connection it came over, and when that is lost."""

    lost: Callable[[], None] | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.lost is not None:
            self.lost()


class SendWatch:
    """Closes viewers that accept nothing, and sends the others a sign of life."""

    def __init__(self, send_timeout_s: float) -> None:
        self._send_timeout_s = send_timeout_s
        self._open: set[SseResponse] = set()

    def add(self, response: "SseResponse") -> None:
        self._open.add(response)

    def remove(self, response: "SseResponse") -> None:
        self._open.discard(response)

    async def run(self) -> None:
        """Look at all of them now and then, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_S)
            now = loop.time()
            for response in list(self._open):
                if not response.sending_since:
                    response.ping(now)
                elif response.sending_since < now - self._send_timeout_s:
                    log.info("viewer_stalled", timeout_s=self._send_timeout_s)
                    response.abort()


class SseResponse(EventSourceResponse):
    """An SSE response of ready bytes, over a connection of :class:`Protocol`.

    ``sending_since``: the loop's time at which a send began that is not over; 0 without one.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        sink: Sink,
        watch: SendWatch,
        keepalive_s: float,
        ping: bytes = COMMENT,
    ) -> None:
        """``ping`` is sent every ``keepalive_s``; ``sink`` is open while the chunks are sent."""
        super().__init__(chunks)
        self.sending_since = 0.0
        self._chunks = chunks
        self._sink = sink
        self._watch = watch
        self._keepalive_s = keepalive_s
        self._pinged_at = 0.0
        self._ping_chunk = frame(ping)
        self._connection: Protocol | None = None

    def abort(self) -> None:
        """Drop the connection, with all that waits in it."""
        if self._connection is not None:
            self._connection.transport.abort()

    def ping(self, now: float) -> None:
        """Send a sign of life, if one is due at this time of the loop."""
        if now - self._pinged_at >= self._keepalive_s and self._sink.write(self._ping_chunk):
            self._pinged_at = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        connection: Protocol = scope[CONNECTION]
        if connection.transport.is_closing():
            return
        task = asyncio.current_task()
        assert task is not None
        gone = False

        def lost() -> None:
            nonlocal gone
            gone = True
            self._sink.close()
            task.cancel()

        self._connection = connection
        self._pinged_at = asyncio.get_running_loop().time()
        connection.lost = lost
        self._watch.add(self)
        try:
            await self._send_all(send, connection)
        except asyncio.CancelledError:
            if not gone or task.uncancel():
                raise
        finally:
            connection.lost = None
            self._sink.close()
            self._watch.remove(self)

    async def _send_all(self, send: Send, connection: Protocol) -> None:
        loop = asyncio.get_running_loop()
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._sink.open(connection)
        async with aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                self.sending_since = loop.time()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self.sending_since = 0.0
        self._sink.close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
