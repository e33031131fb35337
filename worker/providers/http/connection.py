"""One HTTP/1.1 connection to a provider: a request, the head of its response, and the body as it arrives.

Theory of operation. The bytes of a body are kept as the socket brought them. The reader gets a hint (``ready``)
that there are some, and takes them by :meth:`DirectConnection.read` when its turn comes. No task wakes up, and no
stream object is between. A reader that reads by turns (a worker's flushes) gets everything since its last turn,
parsed once. Not reading is the backpressure: at more than MAX_UNREAD_BYTES the socket is paused, so TCP slows the
provider down. The response is parsed by llhttp (``httptools``, as in the API's server). Names, TLS and racing
addresses are left to libraries too (see :mod:`worker.providers.http.pool`).

Why not an HTTP client's own connection: each one puts generators, buffers and a task's wake-up between the socket
and the reader. With 200 streams of 50 tokens/s a token took 65 µs of a worker's CPU over httpx with its aiohttp
transport, and takes 47 this way; the event loop and the kernel take 8 of these for the read.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD_BYTES: Final = 64 * 1024
"""No provider's response head is near this size. An endless one must not use up the worker's memory."""
MAX_HEADERS: Final = 256
"""Headers of one response that are read; the rest is ignored."""
MAX_FRAMING_BYTES: Final = 64 * 1024
"""The most bytes a second in reads that hold only framing (chunk extensions, trailers), which has no meaning
here."""
MAX_UNREAD_BYTES: Final = 32 * 1024
"""The most bytes that wait for the reader's turn (and one read more): seconds of most models' output. When Redis
comes back, all streams of a worker are read in one flush, 0.7 ms each."""


class NoResponse(Exception):
    """A request that got no response. Never carries a header. The text says why, in words."""


class BadAddress(NoResponse):
    """The URL names no server that a request could be sent to."""


class Unreachable(NoResponse):
    """There is no connection, or it closed before a response."""


class ConnectTimeout(NoResponse):
    """Connecting took too long."""


class BadCertificate(NoResponse):
    """The server's certificate was refused. The text says why; trying again does not help."""


class NotHttp(NoResponse):
    """The bytes that came are no HTTP response."""


class Head(NamedTuple):
    """The head of a response. Names of headers are in lower case; of several headers with one name the last
    counts."""

    status: int
    headers: dict[str, str]


class ProviderConnection(Protocol):
    """The connection that carries one response's body: a :class:`DirectConnection`, or one through a proxy."""

    ready: Callable[[], object]
    """A hint, set by the reader: there may be something to :meth:`read`. It is called for the first and for the
    second unread piece, and for the end."""
    ended: bool | None
    """None: more may come. Otherwise everything was read: False: the body is complete; True: it was cut off."""

    def read(self) -> bytes:
        """The bytes of the body since the last call."""
        ...

    def close(self, linger_s: float = 0.0) -> None:
        """Release the connection at once. It can serve the next request if its response was read to its end.
        ``linger_s``: how long the end may be waited for in the background."""
        ...


def ignore_hint() -> None:
    """The ``ready`` of a connection that nobody reads: it does nothing."""


class DirectConnection(asyncio.Protocol):
    """A connection without a proxy. It serves one request at a time. Its pool makes it, and gets it back."""

    def __init__(self, give_back: Callable[["DirectConnection", float], None]) -> None:
        """:meth:`close` calls ``give_back`` with this connection and its ``linger_s``."""
        self._give_back = give_back
        self.ready: Callable[[], object] = ignore_hint
        self.ended: bool | None = None
        self.responded = False
        """Whether any byte of a response came since the request."""
        self._transport: asyncio.Transport  # from when the connection is made
        self._parser = HttpResponseParser(self)
        self._head: asyncio.Future[Head] | None = None
        self._head_bytes = 0
        self._headers: dict[str, str] = {}
        self._interim = False
        self._in_body = self._paused = False
        self._framing_since, self._framing_bytes = 0.0, 0
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._parts: list[bytes] = []
        self._keeps = False
        self._lost = False

    @property
    def is_reusable(self) -> bool:
        """Whether it can carry another request: it is open, and the last response was read to its end."""
        return self._keeps and not self._lost and not self._unread

    async def ask(self, request: bytes) -> Head:
        """Send a whole request, and wait for the head of its response.

        Raises :class:`Unreachable` and :class:`NotHttp`. A caller that stops waiting must :meth:`abort`.
        """
        self.ended, self._head_bytes, self._keeps, self.responded = None, 0, False, False
        self._head = asyncio.get_running_loop().create_future()
        if self._lost:
            raise Unreachable("its server closed the connection")
        self._transport.write(request)
        return await self._head

    def read(self) -> bytes:
        """See :class:`ProviderConnection`."""
        if unread := self._unread:
            data = b"".join(unread)
            unread.clear()
            self._unread_bytes = 0
            if self._paused:
                self._resume()
            self._parse(data)
            if not self._parts:
                self._count_framing(len(data))
        body = b"".join(self._parts)
        self._parts.clear()
        return body

    def _count_framing(self, size: int) -> None:
        now = asyncio.get_running_loop().time()
        if now > self._framing_since + 1.0:
            self._framing_since, self._framing_bytes = now, 0
        self._framing_bytes += size
        if self._framing_bytes > MAX_FRAMING_BYTES and self.ended is None:
            self._fail(NotHttp("its response is only framing, without content"))

    def _resume(self) -> None:
        self._paused = False
        if not self._lost:
            self._transport.resume_reading()

    def close(self, linger_s: float = 0.0) -> None:
        """See :class:`ProviderConnection`."""
        self.ready = ignore_hint
        self._give_back(self, linger_s)

    def abort(self) -> None:
        """Close at once, without a hint."""
        self.ready = ignore_hint
        self._transport.abort()

    def release(self) -> None:
        """The response was read to its end. Keep reading, otherwise nobody notices that the server closes the idle
        connection."""
        self.ready = ignore_hint
        self._in_body = False
        self._parts.clear()
        if self._paused:
            self._resume()

    # -- from the event loop ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport has another base class

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            if self._head is None:
                self._fail(NotHttp("it sent data without a request"))
                return
            self.responded = True
            self._head_bytes += len(data)
            self._parse(data)
            if self._head is not None and self._head_bytes > MAX_HEAD_BYTES:
                self._fail(NotHttp("the head of its response is too large"))
            return
        unread = self._unread
        unread.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > MAX_UNREAD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if len(unread) <= 2:
            self.ready()

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fail(NotHttp("its response is not HTTP"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._unread:
            data = b"".join(self._unread)
            self._unread.clear()
            self._parse(data)
        self._fail(Unreachable("it closed the connection before it answered"))
        del self._parser  # it refers back to this connection: a reference cycle
        self.ready()

    def _fail(self, error: NoResponse) -> None:
        """End the response: before its head (:meth:`ask` raises this), or in its body."""
        if not self._lost:
            self._lost = True
            self._transport.abort()
        if self._head is not None:
            head, self._head = self._head, None
            if not head.done():
                head.set_exception(error)
        elif self.ended is None:
            # Without a length the end of the connection is the end of the body (RFC 9112, section 6.3).
            has_length = "content-length" in self._headers or "transfer-encoding" in self._headers
            self.ended = has_length or isinstance(error, NotHttp)

    # -- from the parser ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers = {}
        if self._head is None:  # a second response, in one read with the first
            self._fail(NotHttp("it sent a second response to one request"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body and len(self._headers) < MAX_HEADERS:  # ignore trailers
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim:
            return
        self._in_body = True
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_result(Head(status, self._headers))

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            return
        self.ended = False
        self._keeps = self._parser.should_keep_alive()
