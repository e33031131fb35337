"""The API's HTTP connections: uvicorn's, with bounds on everything that can arrive or wait.

Theory of operation. uvicorn's parser keeps the parts of a URL, a header or a trailer until it is whole, and joins
them again at each read: an endless one costs quadratic time, and memory without a bound. So the bytes are counted
where they arrive. *Incomplete* are the bytes that the parser has taken in, but that have completed nothing yet: no
head, no part of a body, no end. This one count bounds endless URLs, headers, trailers, chunk extensions and blank
lines alike. A read brings at most 256 KB, so a bound is exceeded by at most that. Trailers are dropped: they never
become headers.

A connection is in one of five phases. *Idle*: it waits for the next request, or for its peer to take the last
response. *Head* and *body*: a request is coming. *Busy*: the request is whole, and the response is under way.
*Refused*: a response told the reason, and bytes that still arrive are dropped for a moment. (A client that writes
everything before it reads would otherwise lose the response to a reset.) A refusal that comes while responses to
earlier requests are due is sent behind them: the connection is busy until then, and drops what arrives. Connections
that are not busy *wait*. One sweep a second checks the waiting ones and closes those that are late, so a viewer
costs no timer and no place in a table.

When too many connections wait, the one that has waited longest is closed, and not the new one: a client that sends
its request at once is served while others hold silent connections. A connection is safe for its first second and
for two sweeps, so that a storm of viewers does not drive itself out: while the event loop is busy, their requests
may have arrived and not been read yet. Only when no file descriptor is left, the oldest is closed in any case.

Any client can send ``X-Forwarded-*`` headers. They are dropped here unless the peer is a trusted proxy, so that no
later code has to check. A trusted proxy carries the connections of many callers, so they are not counted as those
of one address.
"""

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import islice
from typing import Any, Final

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.http.problems import Problem
from shared.process.files import MAX_WAITING

CONNECTION: Final = "headrace.connection"
CYCLE: Final = "headrace.cycle"
"""In the ASGI scope: weak references to the protocol of this connection, and to uvicorn's cycle of this request.
Weak, because both hold the scope, and a reference cycle is freed late (:mod:`shared.process.gc_tuning`)."""
LAST_CHUNK: Final = b"0\r\n\r\n"

MAX_HEAD_BYTES: Final = 64 * 1024
"""A request's whole head. Browsers and proxies stop between 8 and 256 KiB."""
MAX_URL_BYTES: Final = 16 * 1024
"""A prompt in a URL (``GET /chat/stream``) is a few lines; a longer one belongs into a body."""
MAX_HEADERS: Final = 100
HEADER_BYTES: Final = 4
"""The bytes of a header besides its name and value: the colon, a space and the line's end."""
WRITE_BUFFER: Final = 16 * 1024
"""Bytes that may wait in this process for a slow peer before the writer must wait. The last write comes on top."""
MAX_PIECES: Final = 4096
MIN_PIECE_BYTES: Final = 64
"""The first MAX_PIECES pieces of a body may have any size; with more, the average must be at least MIN_PIECE_BYTES.
A body of 1 MiB in chunks of one byte would block everything else for more than a second."""
MAX_PIPELINED: Final = 16
"""Requests that wait behind the running one. A single read can bring 10,000, and each takes 3 kB here."""
MAX_DRAINED_BYTES: Final = 32 * 1024 * 1024
"""Bytes that are read and dropped after a response (a 413) or a refusal. A peer that sends more is cut off."""

SWEEP_S: Final = 1.0
HEAD_S: Final = 10.0
"""Time for a request's head, from the connection or from the first byte behind the last response."""
BODY_S: Final = 30.0
MIN_BODY_RATE: Final = 1024
"""Bytes a second. A body may take :data:`BODY_S`, and a second more for each MIN_BODY_RATE bytes that came."""
KEEP_ALIVE_S: Final = 5.0
"""An idle connection is closed after this time."""
FLUSH_S: Final = 30.0
"""A peer that takes nothing of its response for this time is cut off."""
LINGER_S: Final = 2.0
"""A refused connection is still read for this time, so that its response arrives."""
SAFE_S: Final = 1.0
"""A connection is not closed to make room for others before it has waited for this time."""

log = structlog.get_logger("api.connections")


class Phase(Enum):
    """The phase of a connection (see the top of this module)."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    BUSY = "busy"
    REFUSED = "refused"


class HttpConnection(HttpToolsProtocol):
    """uvicorn's HTTP protocol with bounds. A request may take over its connection for the rest of its response."""

    # Not in the instance's dictionary: with more than thirty names Python no longer shares its keys (2 kB each).
    __slots__ = (
        "_body_bytes", "_closes", "_drained", "_head_bytes", "_incomplete", "_on_half_close", "_pending_refusal",
        "_phase", "_pieces", "_response", "_since", "_sweep", "_table", "half_closed", "trusted",
    )  # fmt: skip

    def __init__(self, *args: Any, table: "Connections", **more: Any) -> None:
        super().__init__(*args, **more)
        self._table = table
        self._response: asyncio.Task[None] | None = None
        self._on_half_close: Callable[[], None] | None = None
        self._closes = False
        """Whether the connection is to be closed after the body that still comes."""
        self._pending_refusal: Problem | None = None
        """The refusal that is sent behind the responses to earlier requests."""
        self.half_closed = False
        """Whether the peer has closed its sending side."""
        self._phase = Phase.HEAD
        self._since = 0.0
        self._sweep = 0
        self._incomplete = self._head_bytes = self._body_bytes = self._pieces = self._drained = 0

    @property
    def address(self) -> str:
        """The peer's IP address; '' over a Unix socket."""
        return self.client[0] if self.client else ""

    def _wait(self, phase: Phase) -> None:
        """Begin a phase in which the connection waits; its time counts from now on."""
        self._phase = phase
        self._since = self.loop.time()
        self._sweep = self._table.sweeps
        self._table.add(self)

    # -- the transport -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.trusted = self._table.trusts(self.address)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._wait(Phase.HEAD)
        self._table.make_room(self, len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._table.discard(self)
        if self._response is not None:
            self._response.cancel()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The peer has closed its sending side. A whole request gets its response before the connection closes."""
        if self._phase is not Phase.BUSY:
            return False
        self.half_closed = True
        if self._on_half_close is not None:
            self._on_half_close()
        return True

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.REFUSED or self._pending_refusal is not None:
            self._drain(data)
            return
        if self._phase is Phase.IDLE:
            self._wait(Phase.HEAD)
        self._incomplete += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # no other protocol is spoken here: the request is handled as if it did not ask for an upgrade
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.refuse(cause if isinstance(cause, Problem) else _not_http())
            return
        if self._incomplete > MAX_HEAD_BYTES:
            self.refuse(_head_too_large())

    def _drain(self, data: bytes) -> None:
        self._drained += len(data)
        if self._drained > MAX_DRAINED_BYTES:
            self.transport.abort()

    # -- the parser --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._phase is Phase.BUSY:
            self._wait(Phase.HEAD)
        self._phase = Phase.HEAD
        self._head_bytes = self._body_bytes = self._pieces = self._drained = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise _url_too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not Phase.HEAD:
            return  # a trailer
        self._head_bytes += len(name) + len(value) + HEADER_BYTES
        if self._head_bytes + len(self.url) > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            raise _head_too_large()
        if name[:12].lower() != b"x-forwarded-" or self.trusted:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _pipelined()
        self._incomplete = 0
        self._phase = Phase.BODY
        self._since = self.loop.time()
        super().on_headers_complete()
        self.scope[CONNECTION] = weakref.ref(self)  # type: ignore[typeddict-unknown-key]
        self.scope[CYCLE] = weakref.ref(self.cycle)  # type: ignore[typeddict-unknown-key]
        if not self.cycle.keep_alive:
            self.cycle.transport = Closing(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        self._incomplete = 0
        self._body_bytes += len(body)
        self._pieces += 1
        if self._pieces > MAX_PIECES and self._body_bytes < self._pieces * MIN_PIECE_BYTES:
            raise _crumbs()
        if self.cycle.response_complete:
            self._drain(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._incomplete = 0
        if self.cycle.response_complete:
            if self._closes:
                self.transport.close()
            else:
                self._wait(Phase.IDLE)
            return
        self._phase = Phase.BUSY
        self._table.discard(self)
        super().on_message_complete()

    # -- responses ---------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        more = bool(self.pipeline)
        super().on_response_complete()
        # The sweep closes idle connections; uvicorn's own way is a timer for each connection.
        self._unset_keepalive_if_required()
        if self._pending_refusal is not None and not more and not self.transport.is_closing():
            self._end(self._pending_refusal, linger=not self.half_closed)
            return
        if self.half_closed and not more:
            self.transport.close()
        # A connection that closes is watched until its last response has left.
        open_still = not self.transport.is_closing() or self.transport.get_write_buffer_size()
        if self._phase is Phase.BUSY and not more and open_still:
            self._body_bytes = 0
            self._wait(Phase.IDLE)

    def close_behind_body(self) -> None:
        """Close the connection after the rest of an unwanted body, which is read and dropped within its bounds."""
        if self._phase is Phase.BODY and self.cycle.response_complete:
            self._closes = True
        else:
            self.transport.close()

    def hand_over(
        self, cycle: RequestResponseCycle, response: Coroutine[Any, Any, None], half_closed: Callable[[], None]
    ) -> None:
        """Let ``response`` write the rest of a response to the transport; it is cancelled when the connection is
        lost. ``half_closed`` is called when the peer closes its sending side."""
        cycle.disconnected = True  # the application sends nothing more, and must not wait for more of the request
        if self.transport.is_closing():
            response.close()
            return
        self._on_half_close = half_closed
        self._response = task = self.loop.create_task(self._respond(cycle, response))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _respond(self, cycle: RequestResponseCycle, response: Coroutine[Any, Any, None]) -> None:
        try:
            await response
        except Exception:
            log.exception("response_failed")
            self.transport.close()
            return
        finally:
            self._response = self._on_half_close = None
        if self.transport.is_closing():
            return
        if cycle.chunked_encoding:
            self.transport.write(LAST_CHUNK)
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # -- refusing ----------------------------------------------------------------------------------

    @property
    def _owes(self) -> bool:
        """Whether responses are due to earlier requests than the one that is coming."""
        if self._phase is Phase.BODY:
            return bool(self.pipeline)
        return self.cycle is not None and not self.cycle.response_complete

    def refuse(self, problem: Problem, *, linger: bool = True) -> None:
        """End the connection with this problem as the response, behind the responses that are due. A response that
        began before its request's body was there is cut off: another can't stand within it. ``linger``: the peer
        may still be sending."""
        owes, started = self._owes, False
        if self._phase is Phase.BODY:
            if owes:
                self.pipeline.popleft()  # the request itself: this is its response
            else:
                started = self.cycle.response_started
                self.cycle.disconnected = True
                self.cycle.message_event.set()
        if self.transport.is_closing():
            self._phase = Phase.REFUSED
            self.transport.abort()
        elif started:
            self._phase = Phase.REFUSED
            self.transport.close()
        elif owes:
            self._pending_refusal = problem
            self._phase = Phase.BUSY
            self._table.discard(self)
        else:
            self._end(problem, linger=linger)

    def _end(self, problem: Problem, *, linger: bool) -> None:
        """Say this, and nothing more."""
        self.transport.write(self._refusal(problem))
        if linger:
            self._wait(Phase.REFUSED)
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self._phase = Phase.REFUSED
            self.transport.close()

    def _refusal(self, problem: Problem) -> bytes:
        response = problem.response()
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return STATUS_LINE[problem.status] + lines + b"\r\n" + bytes(response.body)

    # -- the table ---------------------------------------------------------------------------------

    def waited(self, now: float) -> float:
        """For how long the connection has been in its phase (s). ``now``: the loop's time."""
        if self.flow.read_paused and self._phase is not Phase.REFUSED:
            self._since = now  # the peer is not late: reading is paused on this side
        return now - self._since

    def is_silent(self, now: float) -> bool:
        """Whether it may be closed to make room: it has waited for long, and all that it may have sent was read."""
        return self.waited(now) > SAFE_S and self._table.sweeps >= self._sweep + 2

    def close_if_late(self, now: float) -> bool:
        """Close it if its phase has lasted too long. Out: whether a request was late (a mere close: False)."""
        waited = self.waited(now)
        match self._phase:
            case Phase.IDLE:
                self._close_if_idle(now, waited)
            case Phase.REFUSED if waited > LINGER_S:
                self.transport.abort()
            case Phase.HEAD if waited > HEAD_S:
                self.refuse(_late(f"No whole head of a request came within {HEAD_S:.0f} s."))
                return True
            case Phase.BODY if waited > BODY_S + self._body_bytes / MIN_BODY_RATE:
                self.refuse(_late(f"The body came slower than {MIN_BODY_RATE} bytes a second."))
                return True
        return False

    def _close_if_idle(self, now: float, waited: float) -> None:
        left = self.transport.get_write_buffer_size()
        if left and left != self._body_bytes:
            self._body_bytes, self._since = left, now
        elif left and waited > FLUSH_S:
            self.transport.abort()
        elif not left and waited > KEEP_ALIVE_S:
            self.transport.close()

    def crowd_out(self) -> None:
        """Close it to make room for others."""
        if self._phase in (Phase.HEAD, Phase.BODY) and not self._owes:
            self.refuse(_late("Too many connections wait, and this one waited longest."), linger=False)
        else:
            self.transport.close()
        self._table.discard(self)


class Closing:
    """The transport of a request whose connection closes after its response. uvicorn would close at once, and so
    reset a peer that is still sending."""

    __slots__ = ("_close", "is_closing", "write")

    def __init__(self, connection: HttpConnection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self._close = weakref.WeakMethod(connection.close_behind_body)

    def close(self) -> None:
        """uvicorn calls this when the response is complete, and when it failed."""
        if (close := self._close()) is not None:
            close()


class Connections:
    """The waiting connections of this process, oldest first, and the bounds on connections."""

    def __init__(
        self,
        most: int,
        per_address: int = 0,
        *,
        most_waiting: int = MAX_WAITING,
        proxies: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        """``most``: all connections, in any phase. ``most_waiting``: waiting connections. ``per_address``: waiting
        connections of one address (0: no limit). ``proxies``: the trusted proxies."""
        self._most = most
        self._proxies = proxies
        self._most_waiting = most_waiting
        self._per_address = per_address
        self._waiting: dict[HttpConnection, None] = {}
        self._by_address: dict[str, dict[HttpConnection, None]] = {}
        self._late = self._crowded = self._refused = 0
        self.sweeps = 0

    def trusts(self, address: str) -> bool:
        """Whether a peer with this address is a trusted proxy."""
        if not self._proxies or not address:
            return False
        found = ip_address(address.partition("%")[0])
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._proxies)

    def add(self, connection: HttpConnection) -> None:
        """The connection waits."""
        if connection in self._waiting:
            return
        self._waiting[connection] = None
        if self._per_address and not connection.trusted:
            self._by_address.setdefault(connection.address, {})[connection] = None

    def discard(self, connection: HttpConnection) -> None:
        """The connection no longer waits, or is gone."""
        self._waiting.pop(connection, None)
        if self._per_address and (same := self._by_address.get(connection.address)) is not None:
            same.pop(connection, None)
            if not same:
                del self._by_address[connection.address]

    def make_room(self, connection: HttpConnection, count: int) -> None:
        """Keep the bounds after a new connection, which waits already. ``count``: all connections now."""
        if count > self._most:
            oldest = next(iter(self._waiting))
            if oldest is connection:
                self._refused += 1
                self.discard(connection)
                connection.refuse(_too_many(), linger=False)
                return
            self._crowd_out(oldest)
        now = connection.loop.time()
        crowds = [(self._waiting, self._most_waiting)]
        if self._per_address:
            crowds.append((self._by_address.get(connection.address, {}), self._per_address))
        for crowd, most in crowds:
            # Two are closed for each one that comes, so that their number shrinks.
            for oldest in list(islice(crowd, 2)) if len(crowd) > most else ():
                if oldest.is_silent(now):
                    self._crowd_out(oldest)

    def _crowd_out(self, connection: HttpConnection) -> None:
        self._crowded += 1
        connection.crowd_out()

    async def run(self) -> None:
        """Close late connections, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweeps += 1
            now = loop.time()
            self._late += sum(connection.close_if_late(now) for connection in list(self._waiting))
            if self._late or self._crowded or self._refused:
                log.warning(
                    "connections_closed",
                    late=self._late,
                    crowded_out=self._crowded,
                    refused=self._refused,
                    waiting=len(self._waiting),
                )
                self._late = self._crowded = self._refused = 0


def _not_http() -> Problem:
    return Problem(400, "bad_http", "This is no HTTP request that can be read. Send one request after another.")


def _pipelined() -> Problem:
    return Problem(
        400,
        "bad_http",
        f"More than {MAX_PIPELINED} requests wait behind the running one. Send the next when an answer has come.",
    )


def _crumbs() -> Problem:
    return Problem(
        400, "bad_http", f"The body came in chunks of less than {MIN_PIECE_BYTES} bytes. Send it in larger ones."
    )


def _head_too_large() -> Problem:
    return Problem(
        431,
        "head_too_large",
        f"A request's head may have {MAX_HEADERS} headers and {MAX_HEAD_BYTES} bytes; trailers too. Send less.",
    )


def _url_too_long() -> Problem:
    return Problem(
        414,
        "url_too_long",
        f"A URL may have {MAX_URL_BYTES} bytes. Send a long prompt in the body of a POST.",
    )


def _late(detail: str) -> Problem:
    return Problem(408, "request_timeout", f"{detail} Send the request again, on a new connection.")


def _too_many() -> Problem:
    return Problem(
        503,
        "too_many_connections",
        "This process has as many connections as it may have files. Try again in a moment.",
        headers={"Retry-After": "2"},
    )
