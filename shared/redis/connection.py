"""Connections to Redis with one owner each: only the owner opens them, and they never reconnect silently.

Theory of operation. redis-py's pool reconnects silently, and on a new connection the next append would land behind
a hole. So each part that appends to logs or follows them owns one :class:`OwnedConnection`. It never reconnects by
itself: a failure of any kind closes it for good, and its owner must open a new one, which is the moment to
reconcile. One exchange is in flight at a time. A cancelled or timed-out exchange leaves unread replies behind, so
it closes the connection as well.
"""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterError, ReadOnlyError, RedisClusterException
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis.commands import Command, by_command
from shared.redis.multiplexer import Multiplexer, open_multiplexer
from shared.redis.sentinel import ToMaster
from shared.redis.urls import BadUrl, arguments, read_url

AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    RedisClusterException,
    ClusterError,
    OSError,
    asyncio.TimeoutError,
)
"""The errors of a server that is away, as opposed to one that refused. ``OSError`` is among them because a host
name that no longer resolves (a container that restarts) raises it."""

CONNECT_TIMEOUT_S = 1.0
EXCHANGE_TIMEOUT_S = 5.0
"""A server that does not reply for this long counts as lost. That is longer than a slow fsync, and shorter than the
time that a person waits."""


class _Translating(AbstractConnection):
    """Turns the errors of an already closed connection into a ``ConnectionError``, so that they count as a lost
    server. There are two cases. A connection was reset while it was idle: uvloop has closed its transport, and
    raises a RuntimeError at the next write. Or, on a cluster, another call closed all connections because a node
    had failed: then the reader and the writer are gone (an AttributeError)."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except (RuntimeError, AttributeError) as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"the connection was reset: {error}") from error

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)
        except ReadOnlyError as error:
            # A new connection finds the master: behind Sentinel, behind a host name.
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"the server is a replica, and takes no writes: {error}") from error
        except (RuntimeError, AttributeError) as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"the connection was closed: {error}") from error


class _Tcp(_Translating, Connection):
    pass


class _Tls(_Translating, SSLConnection):
    pass


class _Socket(_Translating, UnixDomainSocketConnection):
    pass


class _TcpToMaster(ToMaster, _Tcp):
    pass


class _TlsToMaster(ToMaster, _Tls):
    pass


_TO_MASTER: dict[type[AbstractConnection], type[AbstractConnection]] = {_Tcp: _TcpToMaster, _Tls: _TlsToMaster}
_KINDS: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Socket,
}


def described(url: str) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """How to connect to the server of a URL (of a cluster: to the first node). Out: the class of the connection,
    and its arguments. Raises :class:`shared.redis.urls.BadUrl`."""
    place = read_url(url)
    settings = arguments(place.server or place.nodes[0])
    kind = _KINDS[settings.pop("connection_class", Connection)]
    settings |= {"socket_connect_timeout": CONNECT_TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
    if place.kind == "sentinel":
        kind = _TO_MASTER[kind]
        settings |= {"sentinels": [partial(unopened, node) for node in place.nodes], "master": place.master}
    return kind, settings


def check_certificates(url: str) -> None:
    """Check that the certificate files in a URL can be used. Raises :class:`shared.redis.urls.BadUrl`, with the
    option and the file."""
    place = read_url(url)
    named = arguments(place.server or place.nodes[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority := named.get("ssl_ca_certs"):
        with _naming("ssl_ca_certs", authority):
            context.load_verify_locations(authority)
    if certificate := named.get("ssl_certfile"):
        with _naming("ssl_certfile, or ssl_keyfile,", certificate):
            context.load_cert_chain(certificate, named.get("ssl_keyfile"))


@contextmanager
def _naming(option: str, file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # an SSLError is an OSError, too
        why = "it holds nothing of that kind" if isinstance(error, ssl.SSLError) else error.strerror
        raise BadUrl(f"its {option} can't be used: {file} ({why})") from None


def unopened(url: str) -> AbstractConnection:
    """A connection of redis-py's for one owner: not opened, and not in a pool."""
    kind, settings = described(url)
    return kind(**settings)


class OwnedConnection:
    """One connection that its owner opens once; it never reconnects by itself."""

    one_log_a_read = False
    """Whether an XREAD may name only one log (on a cluster each log's hash tag decides where it lies)."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._multiplexer: Multiplexer | None = None
        self._closed = False

    async def open(self) -> None:
        """Connect, authenticate and select. Raises one of :data:`AWAY`, or a RedisError."""
        try:
            self._multiplexer = await open_multiplexer(unopened(self._url), EXCHANGE_TIMEOUT_S)
        except BaseException:
            await self.close()
            raise

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands (one at least) in one write and read their replies, in order.

        Out: a reply for each command (see :func:`shared.redis.commands.by_command`); a refused command has a
        ``ResponseError`` in its place.
        Raises one of :data:`AWAY` when the connection is lost. Then it is closed, and it is unknown which of the
        commands were carried out.
        """
        if self._closed or self._multiplexer is None:
            raise RedisConnectionError("this connection is closed")
        try:
            replies = await self._multiplexer.ask(commands)
        except BaseException:
            await self.close()
            raise
        return by_command(commands, replies)

    async def close(self) -> None:
        """Close at once; safe to call again."""
        self._closed = True
        if self._multiplexer is not None:
            self._multiplexer.close()
