"""The SSE response: sse-starlette's, without its cost for every viewer and at every send.

sse-starlette keeps four tasks for each response (stream, ping, disconnect, shutdown) and opens a cancel scope for
each send, which fills a core at 1,000 viewers × 50 events/s. This response has none of those. One task streams, and
is cancelled when the connection is lost. One watch for the whole process sends the pings, and closes viewers that
have accepted nothing for the send time-out. It aborts the transport: a clean close would keep all bytes that the
socket holds, and wait for exactly the viewer that reads nothing. At a shutdown the viewer itself ends its stream
cleanly.

The streaming task is not the task of the request, which ends with the response's head: the frameworks hold some
twenty calls, stacks and contexts for a request until its response is over. Without them an idle viewer takes 21
KiB, and 31 with them. (This saves only memory: 1,000 viewers that resume 1,000 entries at once have caught up in
0.43-0.70 s this way, and in 0.50-0.76 s otherwise, medians 0.61 and 0.56 of 16 runs each.) For uvicorn the request
is under way until the task ends: it waits for the task when it stops, and a request that was pipelined behind it
waits for its end.

A peer that closes its sending side may still read (``nc``), or may have left. The two look alike until something is
written to it. So it gets a ping at once and one a moment later, and then one at every look: if nobody is there, the
system refuses the second one.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import structlog
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from api.http.connections import CONNECTION, CYCLE, HttpConnection
from api.http.head_requests import IS_HEAD
from api.http.sink import Sink, frame, framed
from shared.protocol.sse import COMMENT

WATCH_S: Final = 0.5
REFUSED_S: Final = 0.05
"""A peer that has left has replied to a ping with a reset within this time; if not, the next look finds it."""
HEADERS: Final = {"Cache-Control": "no-store, no-transform"}
"""A proxy that compresses would hold events back until they fill a block."""
UNCOPIED: Final = 8 * 1024
"""Larger chunks are handed to the socket uncopied, so that the bytes that wait there are no second copy."""
log = structlog.get_logger("api.responses")


class SendWatch:
    """Closes viewers that accept nothing, and sends pings to the others."""

    def __init__(self, send_timeout_s: float) -> None:
        self._send_timeout_s = send_timeout_s
        self._open: set[SseResponse] = set()

    def add(self, response: "SseResponse") -> None:
        self._open.add(response)

    def remove(self, response: "SseResponse") -> None:
        self._open.discard(response)

    async def run(self) -> None:
        """Look at all of them every WATCH_S, until cancelled."""
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
    """An SSE response of ready bytes, over a connection of :class:`HttpConnection`.

    ``sending_since``: the loop's time at which the socket stopped taking bytes; 0 while it takes all.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        sink: Sink,
        watch: SendWatch,
        keepalive_s: float,
        ping: bytes = COMMENT,
    ) -> None:
        """``ping``: sent every ``keepalive_s``. ``sink``: is open while the chunks are sent."""
        super().__init__(chunks, headers=HEADERS)
        del self.headers["Connection"]  # uvicorn decides whether the connection is kept
        self.sending_since = 0.0
        self._chunks = chunks
        self._sink = sink
        self._watch = watch
        self._keepalive_s = keepalive_s
        self._pinged_at = 0.0
        self._ping_chunk = ping
        self._connection: HttpConnection | None = None

    def abort(self) -> None:
        """Drop the connection, with all bytes that wait in it."""
        if self._connection is not None:
            self._connection.transport.abort()

    def ping(self, now: float) -> None:
        """Send a ping if one is due. ``now``: the loop's time."""
        connection = self._connection
        if connection is None or (now - self._pinged_at < self._keepalive_s and not connection.half_closed):
            return
        if not connection.flow.write_paused and not connection.transport.is_closing():
            connection.transport.write(self._ping_chunk)
            self._pinged_at = now

    def half_closed(self) -> None:
        """The peer has closed its sending side: find out whether it still reads."""
        loop = asyncio.get_running_loop()
        self.ping(loop.time())
        loop.call_later(REFUSED_S, lambda: self.ping(loop.time()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = scope[CYCLE]()
        if cycle is not None and scope["http_version"] == "1.0":
            cycle.chunked_encoding = False  # the end of the connection is the end of the body
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if IS_HEAD in scope:
            await self._chunks.aclose()
            await send({"type": "http.response.body"})
            return
        connection: HttpConnection | None = scope[CONNECTION]()
        if connection is not None:  # None: the connection was lost, and is gone already
            connection.hand_over(cycle, self._stream(connection, chunked=cycle.chunked_encoding), self.half_closed)

    async def _stream(self, connection: HttpConnection, *, chunked: bool) -> None:
        loop = asyncio.get_running_loop()
        flow, transport = connection.flow, connection.transport
        self._connection = connection
        self._pinged_at = loop.time()
        if chunked:
            self._ping_chunk = frame(self._ping_chunk)
            self._sink.open(connection)
        self._watch.add(self)
        try:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    if transport.is_closing():
                        return  # the connection is lost, and the cancellation of this task has not come yet
                    if not chunked:
                        transport.write(chunk)
                    elif len(chunk) > UNCOPIED:
                        transport.writelines(framed(chunk))
                    else:
                        transport.write(frame(chunk))
                    del chunk
                    # Wait now, not before the next chunk is sent: a viewer that reads nothing then holds one chunk.
                    if flow.write_paused:
                        self.sending_since = loop.time()
                        await flow.drain()
                        self.sending_since = 0.0
        finally:
            self._sink.close()
            self._watch.remove(self)
            self._connection = None
