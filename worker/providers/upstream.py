"""One HTTP/1.1 connection to a provider: a request, the head of its response, and the body as it comes.

Theory of operation. What the socket brings of a body is kept as it came; the listener is told that there is
something, and takes it when it is *its* turn, in one call from the bytes to their meaning: no task that wakes up,
no stream between. Who takes at once gets each read alone; who takes by turns (the worker's flushes) gets what
came since the last one, parsed once. A listener that pauses, or that leaves MAX_UNREAD_BYTES lying, stops the
reading, so TCP holds the provider. The response is parsed by llhttp (``httptools``, as the API's server does);
names, TLS and racing addresses are left to libraries as well (see :mod:`worker.providers.upstreams`).

Why not an HTTP client: each puts generators, buffers and a task's wake-up between the socket and the listener.
With 200 streams of 50 tokens/s a token took 65 µs of a worker's CPU over httpx with its aiohttp transport, and 47
with the meaning told in the call that read the bytes; what the event loop and the kernel take for the read is 8.
"""

import asyncio
from typing import Final, NamedTuple, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD_BYTES: Final = 64 * 1024
"""No provider's response head is near that; an endless one must not eat the worker's memory."""
MAX_UNREAD_BYTES: Final = 32 * 1024
"""What may lie here until the listener's turn (and one read more): seconds of most models. When a server comes back
all streams of a worker are read in one flush, 0.7 ms each."""


class UpstreamError(Exception):
    """A request that got no response, or not all of it. Never carries a header."""


class BadAddress(UpstreamError):
    """The URL names no server that could be asked."""


class Unreachable(UpstreamError):
    """No connection, or one that closed before it answered."""


class ConnectTimeout(UpstreamError):
    """The connection did not come about in time."""


class NotHttp(UpstreamError):
    """What came is no HTTP response."""


class Head(NamedTuple):
    """The head of a response; names of headers are in lower case, the last of several of one name counts."""

    status: int
    headers: dict[str, str]


class Listener(Protocol):
    """Who takes a response's body."""

    def ready(self) -> object:
        """There is something to be had by :meth:`Upstream.read`, now or later. It is told again when there is more,
        but not for each read."""
        ...

    def take(self, chunk: bytes) -> None:
        """What came of it, never nothing."""
        ...

    def end(self, *, cut: bool) -> None:
        """Nothing more comes: the body is whole, or was cut off."""
        ...


class Upstream(asyncio.Protocol):
    """A connection that serves one request at a time. Its pool makes it, and gets it back."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport  # from when the connection is made
        self._parser = HttpResponseParser(self)
        self._head: asyncio.Future[Head] | None = None
        self._head_bytes = 0
        self._headers: dict[str, str] = {}
        self._interim = False
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._parts: list[bytes] = []
        self._ended: bool | None = None
        self._listener: Listener | None = None
        self._hears: Listener | None = None
        self._keeps = False
        self._lost = False

    @property
    def is_reusable(self) -> bool:
        """Whether another request may go over it: it is open, and the last response was read to its end."""
        return self._keeps and not self._lost and not self._unread

    @property
    def has_unread(self) -> bool:
        """Whether something waits for :meth:`read`."""
        return bool(self._unread or self._parts or self._ended is not None)

    async def ask(self, request: bytes) -> Head:
        """Send a whole request, and wait for the head of its response; its body then waits for :meth:`listen`.

        Raises :class:`Unreachable` and :class:`NotHttp`. Whoever gives up waiting must :meth:`abort`.
        """
        self._ended, self._head_bytes, self._keeps = None, 0, False
        self._head = asyncio.get_running_loop().create_future()
        if self._lost:
            raise Unreachable
        self._transport.write(request)
        return await self._head

    def listen(self, listener: Listener) -> None:
        """Hand the body to this listener from now on, beginning with what is there already."""
        self._listener = listener
        self.resume()

    def pause(self) -> None:
        """Read nothing more until :meth:`resume`."""
        self._hears = None
        if not self._lost:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on with what is there already, then with the socket."""
        self._hears = self._listener
        if self.has_unread:
            self._announce()
        if self._hears is not None and not self._lost:
            self._transport.resume_reading()

    def read(self) -> bool:
        """Hand the listener what came, until it pauses. Out: whether so much lay here that it was held."""
        held = False
        if self._unread:
            held, self._unread_bytes = self._unread_bytes > MAX_UNREAD_BYTES, 0
            if held and not self._lost:
                self._transport.resume_reading()
            self._parse_unread()
        hears, parts = self._hears, self._parts
        if parts and hears is not None:
            self._parts = []
            hears.take(b"".join(parts))
        if self._ended is not None and self._hears is not None:
            hears, self._listener, self._hears = self._hears, None, None
            hears.end(cut=self._ended)
        return held

    def abort(self) -> None:
        """Close at once; nobody is told."""
        self._listener = self._hears = None
        self._transport.abort()

    def release(self) -> None:
        """The listener leaves, and the body was read to its end. A connection shows that it closes only while it is
        read, also an idle one."""
        self._listener = self._hears = None
        self._parts.clear()
        if not self._lost:
            self._transport.resume_reading()

    # -- from the event loop ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of a class of their own

    def data_received(self, data: bytes) -> None:
        hears = self._hears
        if hears is None:
            self._head_bytes += len(data)
            self._parse(data)
            if self._head is not None and self._head_bytes > MAX_HEAD_BYTES:
                self._fail(NotHttp())
            return
        self._unread.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > MAX_UNREAD_BYTES:
            self._transport.pause_reading()
        if len(self._unread) <= 2:
            hears.ready()

    def _announce(self) -> None:
        if self._hears is not None:
            self._hears.ready()

    def _parse_unread(self) -> None:
        unread = b"".join(self._unread)
        self._unread.clear()
        self._parse(unread)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fail(NotHttp())

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._unread:
            self._parse_unread()
        self._fail(Unreachable())
        del self._parser  # which holds this

    def _fail(self, error: UpstreamError) -> None:
        """No response can come any more, or no more of it."""
        if not self._lost:
            self._lost = True
            self._transport.abort()
        if self._head is not None:
            head, self._head = self._head, None
            if not head.done():
                head.set_exception(error)
        elif self._ended is None:
            # Without a length the end of the connection is the end of the body (RFC 9112, section 6.3).
            has_length = "content-length" in self._headers or "transfer-encoding" in self._headers
            self._ended = has_length or isinstance(error, NotHttp)
            self._announce()

    # -- from the parser ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers = {}
        if self._head is None:
            self._fail(NotHttp())  # it says more than it was asked

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim:
            return
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_result(Head(status, self._headers))
        self._transport.pause_reading()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            return
        self._ended = False
        self._keeps = self._parser.should_keep_alive()
