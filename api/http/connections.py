"""The API's HTTP connections: uvicorn's, with a bound on all that can arrive and on all that can wait.

Theory of operation. uvicorn's parser keeps what it has read of a URL, a header or a trailer until that is whole,
and joins it anew with each read: an endless one costs quadratic time, and memory without a bound. So the bytes are
counted where they arrive. *Unsettled* are those that the parser took and that made nothing: no head, no part of a
body, no end. One count bounds endless URLs, headers, trailers, chunk extensions and blank lines alike. A read
brings at most 256 KB, so this is also the most by which a bound is passed. Trailers are dropped: they are never
headers.

A connection is in one of five phases. *Idle*: it waits for the next request, or for its peer to take the last
response. *Head* and *body*: a request is coming. *Busy*: the request is whole, and the response is under way.
*Refused*: an answer told why, and what still arrives is dropped for a moment, for a client that writes everything
before it listens would lose the answer to a reset. What is refused while responses to earlier requests are due is
answered behind them: the connection is busy until then, and drops what arrives. Connections that are not busy
*wait*. One sweep a second looks at those that wait, and closes what is late, so a viewer costs no timer and no
place in a table.

Where too many wait, the one that has waited longest is closed, and not the one that comes: whoever sends its
request at once is served while others hold silent connections. A connection is safe for its first second and for
two sweeps, so a storm of viewers does not drive itself out: where the event loop is busy, what they sent was not
read yet. Only where no file descriptor is left the oldest goes in any case.

What another server saw (``X-Forwarded-*``) anybody can write. Such headers are dropped here unless the peer is a
trusted proxy, so that nobody behind this has to ask. The connections of a trusted proxy are those of many callers,
and are not counted as one address's.
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
"""In the ASGI scope: the server's protocol of this connection, and what it holds of this request. Weak, for both
hold the scope, and what goes round in a circle is freed late (:mod:`shared.process.gc_tuning`)."""
LAST_CHUNK: Final = b"0\r\n\r\n"

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request's head in all. Browsers and proxies stop between 8 and 256 KiB."""
MAX_URL_BYTES: Final = 16 * 1024
"""A prompt in a URL (``GET /chat/stream``) is a few lines; a longer one goes into a body."""
MAX_HEADERS: Final = 100
HEADER_BYTES: Final = 4
"""Of a header, beside its name and value: the colon, a space and the line's end."""
WRITE_BUFFER: Final = 16 * 1024
"""Bytes that wait in this process for a peer that reads slowly, before whoever writes has to wait. What one write
hands over comes on top."""
MAX_PIECES: Final = 4096
MIN_PIECE_BYTES: Final = 64
"""So many pieces of a body may be of any size; with more, one has at least this size on average. A body of 1 MiB in
chunks of one byte would hold up everything else for more than a second."""
MAX_PIPELINED: Final = 16
"""Requests that wait behind the running one. A single read can bring 10,000, and each takes 3 kB here."""
MAX_DRAINED_BYTES: Final = 32 * 1024 * 1024
"""Of what arrives behind a response (a 413) or a refusal: taken off the connection and dropped. Whoever sends more
is cut off."""

SWEEP_S: Final = 1.0
HEAD_S: Final = 10.0
"""Time for a request's head, from the connection or from the first byte behind the last response."""
BODY_S: Final = 30.0
MIN_BODY_RATE: Final = 1024
"""Bytes a second. A body has :data:`BODY_S`, and a second more for each of these that came."""
KEEP_ALIVE_S: Final = 5.0
"""An idle connection is closed after this time."""
FLUSH_S: Final = 30.0
"""A peer that takes nothing of its response for this time is cut off."""
LINGER_S: Final = 2.0
"""How long a refused connection is read from, so that its answer arrives."""
SAFE_S: Final = 1.0

log = structlog.get_logger("api.connections")


class Phase(Enum):
    """What a connection is about."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    BUSY = "busy"
    REFUSED = "refused"


class HttpConnection(HttpToolsProtocol):
    """uvicorn's HTTP protocol with bounds, which lets a request take its connection over for the rest of its
    response."""

    # Not in the instance's dictionary: with more than thirty names Python shares its keys no longer (2 kB each).
    __slots__ = (
        "_body_bytes", "_closes", "_drained", "_head_bytes", "_on_half_close", "_phase", "_pieces", "_refusal",
        "_response", "_since", "_sweep", "_table", "_unsettled", "half_closed", "trusted",
    )  # fmt: skip

    def __init__(self, *args: Any, table: "Connections", **more: Any) -> None:
        super().__init__(*args, **more)
        self._table = table
        self._response: asyncio.Task[None] | None = None
        self._on_half_close: Callable[[], None] | None = None
        self._closes = False
        """Whether the connection is closed behind the body that still comes."""
        self._refusal: Problem | None = None
        """The answer to what came behind the requests of the responses that are due."""
        self.half_closed = False
        """Whether the peer sends no more."""
        self._phase = Phase.HEAD
        self._since = 0.0
        self._sweep = 0
        self._unsettled = self._head_bytes = self._body_bytes = self._pieces = self._drained = 0

    @property
    def address(self) -> str:
        """The peer's IP address; '' over a Unix socket."""
        return self.client[0] if self.client else ""

    def _wait(self, phase: Phase) -> None:
        """Be in this phase, of which the time counts from now on."""
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
        """The peer sends no more. What it asked for in full is answered, and then the connection is closed."""
        if self._phase is not Phase.BUSY:
            return False
        self.half_closed = True
        if self._on_half_close is not None:
            self._on_half_close()
        return True

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.REFUSED or self._refusal is not None:
            self._drain(data)
            return
        if self._phase is Phase.IDLE:
            self._wait(Phase.HEAD)
        self._unsettled += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nobody speaks anything else here: the request is answered as if it did not ask for it
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.refuse(cause if isinstance(cause, Problem) else _not_http())
            return
        if self._unsettled > MAX_HEAD_BYTES:
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
        self._unsettled = 0
        self._phase = Phase.BODY
        self._since = self.loop.time()
        super().on_headers_complete()
        self.scope[CONNECTION] = weakref.ref(self)  # type: ignore[typeddict-unknown-key]
        self.scope[CYCLE] = weakref.ref(self.cycle)  # type: ignore[typeddict-unknown-key]
        if not self.cycle.keep_alive:
            self.cycle.transport = Closing(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        self._unsettled = 0
        self._body_bytes += len(body)
        self._pieces += 1
        if self._pieces > MAX_PIECES and self._body_bytes < self._pieces * MIN_PIECE_BYTES:
            raise _crumbs()
        if self.cycle.response_complete:
            self._drain(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._unsettled = 0
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
        # The sweep closes what is idle: uvicorn has a timer for each connection.
        self._unset_keepalive_if_required()
        if self._refusal is not None and not more and not self.transport.is_closing():
            self._end(self._refusal, linger=not self.half_closed)
            return
        if self.half_closed and not more:
            self.transport.close()
        # One that closes is watched until its last response has left.
        open_still = not self.transport.is_closing() or self.transport.get_write_buffer_size()
        if self._phase is Phase.BUSY and not more and open_still:
            self._body_bytes = 0
            self._wait(Phase.IDLE)

    def close_behind_body(self) -> None:
        """Close the connection, behind what its peer still sends of a body that is not wanted: within the bounds of
        a body, it is read and dropped."""
        if self._phase is Phase.BODY and self.cycle.response_complete:
            self._closes = True
        else:
            self.transport.close()

    def hand_over(
        self, cycle: RequestResponseCycle, response: Coroutine[Any, Any, None], half_closed: Callable[[], None]
    ) -> None:
        """Let ``response`` write the rest of a response to the transport; cancel it when the connection is lost.
        ``half_closed`` is called where the peer sends no more."""
        cycle.disconnected = True  # the application has nothing more to send, and no more is to be waited for
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
        """End the connection with this answer, behind the responses that are due. A response that began before its
        request's body was there is cut off: another can't stand within it. ``linger``: the peer may still be
        sending."""
        owes, started = self._owes, False
        if self._phase is Phase.BODY:
            if owes:
                self.pipeline.popleft()  # the request itself: this is its answer
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
            self._refusal = problem
            self._phase = Phase.BUSY
            self._table.discard(self)
        else:
            self._end(problem, linger=linger)

    def _end(self, problem: Problem, *, linger: bool) -> None:
        """Say this, and nothing more."""
        self.transport.write(self._answer(problem))
        if linger:
            self._wait(Phase.REFUSED)
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self._phase = Phase.REFUSED
            self.transport.close()

    def _answer(self, problem: Problem) -> bytes:
        response = problem.response()
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return STATUS_LINE[problem.status] + lines + b"\r\n" + bytes(response.body)

    # -- the table ---------------------------------------------------------------------------------

    def waited(self, now: float) -> float:
        """For how long it has been in its phase, at this time of the loop (s)."""
        if self.flow.read_paused and self._phase is not Phase.REFUSED:
            self._since = now  # what does not come is what nobody reads
        return now - self._since

    def is_silent(self, now: float) -> bool:
        """Whether it may be closed for others: it waited for long, and what it may have sent was looked at."""
        return self.waited(now) > SAFE_S and self._table.sweeps >= self._sweep + 2

    def close_if_late(self, now: float) -> bool:
        """Close it where its phase has lasted too long. Out: whether its peer was told of it."""
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
        """Close it, to make room for others."""
        if self._phase in (Phase.HEAD, Phase.BODY) and not self._owes:
            self.refuse(_late("Too many connections wait, and this one waited longest."), linger=False)
        else:
            self.transport.close()
        self._table.discard(self)


class Closing:
    """The transport of a request whose connection is closed behind its response: the server would reset a peer that
    still sends."""

    __slots__ = ("_close", "is_closing", "write")

    def __init__(self, connection: HttpConnection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self._close = weakref.WeakMethod(connection.close_behind_body)

    def close(self) -> None:
        """The server calls it when the response is complete, and when it failed."""
        if (close := self._close()) is not None:
            close()


class Connections:
    """The connections of this process that wait, oldest first, and how many there may be."""

    def __init__(
        self,
        most: int,
        per_address: int = 0,
        *,
        most_waiting: int = MAX_WAITING,
        proxies: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        """``most``: connections in all, whatever they do. ``per_address``: those of one address that may wait (0:
        any number), of ``most_waiting`` in all. ``proxies``: those that are trusted."""
        self._most = most
        self._proxies = proxies
        self._most_waiting = most_waiting
        self._per_address = per_address
        self._waiting: dict[HttpConnection, None] = {}
        self._by_address: dict[str, dict[HttpConnection, None]] = {}
        self._late = self._crowded = self._refused = 0
        self.sweeps = 0

    def trusts(self, address: str) -> bool:
        """Whether a peer of this address is a trusted proxy."""
        if not self._proxies or not address:
            return False
        found = ip_address(address.partition("%")[0])
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._proxies)

    def add(self, connection: HttpConnection) -> None:
        """It waits."""
        if connection in self._waiting:
            return
        self._waiting[connection] = None
        if self._per_address and not connection.trusted:
            self._by_address.setdefault(connection.address, {})[connection] = None

    def discard(self, connection: HttpConnection) -> None:
        """It waits no longer, or it is gone."""
        self._waiting.pop(connection, None)
        if self._per_address and (same := self._by_address.get(connection.address)) is not None:
            same.pop(connection, None)
            if not same:
                del self._by_address[connection.address]

    def make_room(self, connection: HttpConnection, count: int) -> None:
        """One connection came, which waits already; ``count``: how many there are now."""
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
            # Two at a time, so that there are fewer in the end.
            for oldest in list(islice(crowd, 2)) if len(crowd) > most else ():
                if oldest.is_silent(now):
                    self._crowd_out(oldest)

    def _crowd_out(self, connection: HttpConnection) -> None:
        self._crowded += 1
        connection.crowd_out()

    async def run(self) -> None:
        """Close what is late, until cancelled."""
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
