"""One HTTP/1.1 connection to a provider: a request, the head of its response, and the body as it comes.

Theory of operation. What the socket brings of a body is kept as it came. Whoever reads it gets a hint (``ready``)
that there is something, and takes it by :meth:`DirectConnection.read` when its turn comes: no task wakes up, and
no stream stands between. A reader that takes by turns (a worker's flushes) gets all that came since its last turn,
parsed once. Not reading is the backpressure: past MAX_UNREAD_BYTES the socket is paused, so TCP holds the provider.
The response is parsed by llhttp (``httptools``, as the API's server does); names, TLS and racing addresses are left
to libraries as well (see :mod:`worker.providers.http.pool`).

Why not an HTTP client's own connection: each puts generators, buffers and a task's wake-up between the socket and
the reader. With 200 streams of 50 tokens/s a token took 65 µs of a worker's CPU over httpx with its aiohttp
transport, and 47 so; what the event loop and the kernel take for the read is 8.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD_BYTES: Final = 64 * 1024
"""No provider's response head is near that; an endless one must not eat the worker's memory."""
MAX_HEADERS: Final = 256
"""Of one response; more are not looked at."""
MAX_FRAMING_BYTES: Final = 64 * 1024
"""What may come in a second of reads without a byte of the body: chunk extensions and trailers mean nothing
here."""
MAX_UNREAD_BYTES: Final = 32 * 1024
"""What may lie here until the reader's turn (and one read more): seconds of most models. When a server comes back
all streams of a worker are read in one flush, 0.7 ms each."""


class NoResponse(Exception):
    """A request that got no response. Never carries a header; the text says in words what was in the way."""


class BadAddress(NoResponse):
    """The URL names no server that could be asked."""


class Unreachable(NoResponse):
    """No connection, or one that closed before it answered."""


class ConnectTimeout(NoResponse):
    """The connection did not come about in time."""


class BadCertificate(NoResponse):
    """The server's certificate was refused. The text says why; trying again does not help."""


class NotHttp(NoResponse):
    """What came is no HTTP response."""


class Head(NamedTuple):
    """The head of a response; names of headers are in lower case, the last of several of one name counts."""

    status: int
    headers: dict[str, str]


class ProviderConnection(Protocol):
    """What carries one response's body: a :class:`DirectConnection`, or one through a proxy."""

    ready: Callable[[], object]
    """A hint, to be set by whoever reads: there may be something to :meth:`read`. It comes once for the first and
    once for the second piece that lie unread, and once for the end."""
    ended: bool | None
    """None: more may come. Else nothing comes behind what was read: False, the body is whole; True, it was cut."""

    def read(self) -> bytes:
        """What came of the body since the last call."""
        ...

    def close(self, linger_s: float = 0.0) -> None:
        """Let go of it at once. It serves the next request if its response was read to its end; ``linger_s``: the
        end is expected within this time, and is waited for in the background."""
        ...


def nobody() -> None:
    """The hint of a connection that nobody waits for: it does nothing."""


class DirectConnection(asyncio.Protocol):
    """A connection without a proxy, which serves one request at a time. Its pool makes it, and gets it back."""

    def __init__(self, give_back: Callable[["DirectConnection", float], None]) -> None:
        """``give_back`` takes what :meth:`close` lets go of, with its ``linger_s``."""
        self._give_back = give_back
        self.ready: Callable[[], object] = nobody
        self.ended: bool | None = None
        self.answered = False
        """Whether anything came of a response since the request."""
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
        """Whether another request may go over it: it is open, and the last response was read to its end."""
        return self._keeps and not self._lost and not self._unread

    async def ask(self, request: bytes) -> Head:
        """Send a whole request, and wait for the head of its response.

        Raises :class:`Unreachable` and :class:`NotHttp`. Whoever gives up waiting must :meth:`abort`.
        """
        self.ended, self._head_bytes, self._keeps, self.answered = None, 0, False, False
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
                self._bear_framing(len(data))
        body = b"".join(self._parts)
        self._parts.clear()
        return body

    def _bear_framing(self, size: int) -> None:
        now = asyncio.get_running_loop().time()
        if now > self._framing_since + 1.0:
            self._framing_since, self._framing_bytes = now, 0
        self._framing_bytes += size
        if self._framing_bytes > MAX_FRAMING_BYTES and self.ended is None:
            self._fail(NotHttp("its answer is all framing"))

    def _resume(self) -> None:
        self._paused = False
        if not self._lost:
            self._transport.resume_reading()

    def close(self, linger_s: float = 0.0) -> None:
        """See :class:`ProviderConnection`."""
        self.ready = nobody
        self._give_back(self, linger_s)

    def abort(self) -> None:
        """Close at once; nobody is told."""
        self.ready = nobody
        self._transport.abort()

    def release(self) -> None:
        """The response was read to its end. A connection shows that it closes only while it is read, also an idle
        one."""
        self.ready = nobody
        self._in_body = False
        self._parts.clear()
        if self._paused:
            self._resume()

    # -- from the event loop ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of a class of their own

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            if self._head is None:
                self._fail(NotHttp("it says more than it was asked"))
                return
            self.answered = True
            self._head_bytes += len(data)
            self._parse(data)
            if self._head is not None and self._head_bytes > MAX_HEAD_BYTES:
                self._fail(NotHttp("the head of its answer has no end"))
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
            self._fail(NotHttp("what it says is no HTTP"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._unread:
            data = b"".join(self._unread)
            self._unread.clear()
            self._parse(data)
        self._fail(Unreachable("it closed the connection before it answered"))
        del self._parser  # which holds this
        self.ready()

    def _fail(self, error: NoResponse) -> None:
        """No response can come any more, or no more of it."""
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
        if self._head is None:  # behind a whole response, in one read with it
            self._fail(NotHttp("it says more than it was asked"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body and len(self._headers) < MAX_HEADERS:  # trailers are no headers
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
