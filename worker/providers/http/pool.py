"""The connections to providers of one worker process: opened, kept for the next request, closed.

Theory of operation. A connection carries one request at a time. When its response was read to its end, it is kept
for IDLE_S. The youngest kept connection is used first, so that old ones expire. A connection that its server closes
while idle is not used again. If the server's close and the next request cross, the request is sent again at once on
a new connection, because the server has not read it. Busy connections are bounded by the worker's streams (at most
:data:`worker.places.HELD` times ``max_streams``). There is no other limit, because none may stop a stream here.

Looking up the name and connecting, TLS included, must end within ``connect_timeout_s``. Several addresses are raced
as RFC 8305 says (``aiohappyeyeballs``), so that a broken IPv6 costs a quarter of a second, and not the whole
timeout.
"""

import asyncio
import errno
import socket
import ssl
from functools import partial
from typing import Final, cast

from aiohappyeyeballs import AddrInfoType, start_connection

from shared.process.connecting import is_refused_tls, unreachable
from worker.providers.http.connection import (
    BadAddress,
    BadCertificate,
    ConnectTimeout,
    DirectConnection,
    Head,
    NoResponse,
    Unreachable,
)

IDLE_S: Final = 15.0
"""Shorter than any provider's own idle timeout, so that a request seldom meets a connection that is being
closed."""
MAX_IDLE: Final = 256
"""The most idle connections to one origin: more than a worker's default places (200). Each has a socket and a few
KiB."""
NAME_LIFE_S: Final = 10.0
"""How long a looked-up name is kept, so that a burst of streams looks it up once. Most resolvers keep it for
longer."""
MAX_LINGER_BYTES: Final = 64 * 1024
"""The most bytes that are read while waiting for the end of a body: a provider that sends more has not ended."""
RACE_S: Final = 0.25
"""RFC 8305, section 8: the delay before the next address is tried too."""

Origin = tuple[str, str, int]
"""Scheme, host and port."""


class ConnectionPool:
    """Direct connections by origin."""

    def __init__(self, connect_timeout_s: float, tls: ssl.SSLContext) -> None:
        """``tls``: the certificates to trust."""
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        self._idle: dict[Origin, list[tuple[DirectConnection, float]]] = {}
        self._lingering: set[DirectConnection] = set()
        self._names: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}

    async def ask(self, origin: Origin, request: bytes) -> tuple[DirectConnection, Head]:
        """Send a request. Out: the connection that carries its response, and the response's head.

        Raises an :class:`worker.providers.http.connection.NoResponse`. The caller must close the connection.
        """
        kept = self._take(origin)
        if kept is not None:
            try:
                return kept, await _asked(kept, request)
            except NoResponse:
                if kept.responded:
                    raise
        connection = await self._connect(origin)
        return connection, await _asked(connection, request)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for connection in self._lingering:
            connection.abort()
        self._lingering.clear()
        for kept in self._idle.values():
            for connection, _ in kept:
                connection.abort()
        self._idle.clear()

    def _keep(self, origin: Origin, connection: DirectConnection) -> None:
        now = asyncio.get_running_loop().time()
        kept = self._idle.setdefault(origin, [])
        connection.release()
        kept.append((connection, now))
        while len(kept) > MAX_IDLE or kept[0][1] < now - IDLE_S:
            kept.pop(0)[0].abort()

    def _take(self, origin: Origin) -> DirectConnection | None:
        kept = self._idle.get(origin, [])
        since = asyncio.get_running_loop().time() - IDLE_S
        while kept:
            connection, at = kept.pop()
            if connection.is_reusable and at > since:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin) -> DirectConnection:
        scheme, host, port = origin
        loop = asyncio.get_running_loop()
        tls, name = (self._tls, host) if scheme == "https" else (None, None)

        def give_back(connection: DirectConnection, linger_s: float) -> None:
            self._take_back(origin, connection, linger_s)

        doing = "looking up its name (DNS)"
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                addresses = await self._look_up(host, port)
                doing = "connecting"
                sock = await start_connection(addresses, happy_eyeballs_delay=RACE_S, interleave=1, loop=loop)
                doing = "the TLS handshake"
                try:
                    _, connection = await loop.create_connection(
                        lambda: DirectConnection(give_back), sock=sock, ssl=tls, server_hostname=name
                    )
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError:
            raise ConnectTimeout(f"{doing} took longer than {self._connect_timeout_s:g} s") from None
        except OSError as error:
            raise in_words(error) from None
        return connection

    async def _look_up(self, host: str, port: int) -> list[AddrInfoType]:
        loop = asyncio.get_running_loop()
        until, known = self._names.get((host, port), (0.0, []))
        if loop.time() < until:
            return known
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:  # a label that is too long
            raise BadAddress from None
        addresses = cast(list[AddrInfoType], list(found))
        self._names[host, port] = loop.time() + NAME_LIFE_S, addresses
        return addresses

    def _take_back(self, origin: Origin, connection: DirectConnection, linger_s: float) -> None:
        """Keep a connection whose body was read to its end. Close any other, after ``linger_s`` at the latest."""

        most = MAX_LINGER_BYTES

        def look(*, last: bool = False) -> None:
            nonlocal most
            most -= len(connection.read())  # bytes after an end mark have no meaning
            if connection.ended is None and not last and most > 0:
                return
            if timer is not None:
                timer.cancel()
            self._lingering.discard(connection)
            if connection.is_reusable:
                self._keep(origin, connection)
            else:
                connection.abort()

        timer: asyncio.TimerHandle | None = None
        if linger_s and connection.ended is None:
            timer = asyncio.get_running_loop().call_later(linger_s, partial(look, last=True))
            self._lingering.add(connection)
            connection.ready = look
        look(last=timer is None)


async def _asked(connection: DirectConnection, request: bytes) -> Head:
    try:
        return await connection.ask(request)
    except BaseException:
        connection.abort()
        raise


def in_words(error: OSError) -> NoResponse:
    """Why connecting failed, as an error whose class says whether trying again could help."""
    words = unreachable(error)
    if is_refused_tls(error):
        return BadCertificate(words)
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return ConnectTimeout(words)
    return Unreachable(words)
