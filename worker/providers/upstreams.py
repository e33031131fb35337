"""The connections to providers of one worker process: opened, kept for the next request, closed.

Theory of operation. A connection is asked by one request at a time; when its response was read to its end it is
kept for IDLE_S, and the youngest is taken first, so that old ones run out. One that its server closes while it is
idle is not used again. How many there are at once is bounded by ``max_streams``: there is no other limit, and none
may stop a stream here. The environment's proxies are not used.

Names are looked up and connections opened within ``connect_timeout_s``, TLS included. Several addresses are raced
as RFC 8305 says (``aiohappyeyeballs``), so that a broken IPv6 costs a quarter of a second, and not the time-out.
"""

import asyncio
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, cast

import httpx
from aiohappyeyeballs import AddrInfoType, start_connection

from worker.providers.upstream import BadAddress, ConnectTimeout, Head, Unreachable, Upstream

IDLE_S: Final = 15.0
"""Shorter than any provider's own patience, so that a request seldom meets a connection that is being closed."""
MAX_IDLE: Final = 256
"""Of each origin: as many as streams may run by default, each with its socket and a few KiB."""
NAME_LIFE_S: Final = 10.0
"""A burst of streams looks a name up once; who moves a name waits longer for everybody else."""
ADDRESSES: Final = 64
"""That are kept read: more than anybody has providers. Reading one is 3 % of a stream's beginning and end here."""
RACE_S: Final = 0.25
"""RFC 8305, section 8: the delay before the next address is tried too."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*", re.ASCII)

Origin = tuple[str, str, int]


class Upstreams:
    """A pool of connections by origin."""

    def __init__(self, connect_timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: the certificates to trust; None means certifi's, or those of ``SSL_CERT_FILE``."""
        self._connect_timeout_s = connect_timeout_s
        self._tls = httpx.create_ssl_context() if tls is None else tls
        self._idle: dict[Origin, list[tuple[Upstream, float]]] = {}
        self._names: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes = b""
    ) -> tuple["Lent", Head]:
        """Send a request. Out: the connection that carries its response, and the response's head.

        Raises an :class:`worker.providers.upstream.UpstreamError`, or ``ValueError`` for a header that can't be
        sent. Whoever gets a connection must close it.
        """
        address = _address(url)
        request = _request(method, address, headers, content)
        origin = (address.scheme, address.host, address.port or _DEFAULT_PORTS[address.scheme])
        upstream = self._take(origin) or await self._connect(origin)
        try:
            return Lent(self, origin, upstream), await upstream.ask(request)
        except BaseException:
            upstream.abort()
            raise

    def close(self) -> None:
        """Close what is idle."""
        for kept in self._idle.values():
            for upstream, _ in kept:
                upstream.abort()
        self._idle.clear()

    def keep(self, origin: Origin, upstream: Upstream) -> None:
        """Take a connection back that is reusable."""
        now = asyncio.get_running_loop().time()
        kept = self._idle.setdefault(origin, [])
        upstream.release()
        kept.append((upstream, now))
        while len(kept) > MAX_IDLE or kept[0][1] < now - IDLE_S:
            kept.pop(0)[0].abort()

    def _take(self, origin: Origin) -> Upstream | None:
        kept = self._idle.get(origin, [])
        since = asyncio.get_running_loop().time() - IDLE_S
        while kept:
            upstream, at = kept.pop()
            if upstream.is_reusable and at > since:
                return upstream
            upstream.abort()
        return None

    async def _connect(self, origin: Origin) -> Upstream:
        scheme, host, port = origin
        loop = asyncio.get_running_loop()
        tls, name = (self._tls, host) if scheme == "https" else (None, None)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                addresses = await self._look_up(host, port)
                sock = await start_connection(addresses, happy_eyeballs_delay=RACE_S, interleave=1, loop=loop)
                try:
                    _, upstream = await loop.create_connection(Upstream, sock=sock, ssl=tls, server_hostname=name)
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError:
            raise ConnectTimeout from None
        except OSError:
            raise Unreachable from None
        return upstream

    async def _look_up(self, host: str, port: int) -> list[AddrInfoType]:
        loop = asyncio.get_running_loop()
        until, known = self._names.get((host, port), (0.0, []))
        if loop.time() < until:
            return known
        try:
            found = await loop.getaddrinfo(host, port, type=1)
        except UnicodeError:  # a label that is too long
            raise BadAddress from None
        addresses = cast(list[AddrInfoType], list(found))
        self._names[host, port] = loop.time() + NAME_LIFE_S, addresses
        return addresses


class Lent:
    """A connection that carries one response."""

    def __init__(self, pool: Upstreams, origin: Origin, upstream: Upstream) -> None:
        self._pool = pool
        self._origin = origin
        self.upstream = upstream

    def close(self) -> None:
        """Let go of it at once: kept for the next request if its response was read to its end, closed otherwise."""
        if self.upstream.is_reusable:
            self._pool.keep(self._origin, self.upstream)
        else:
            self.upstream.abort()


@lru_cache(ADDRESSES)
def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        raise BadAddress from None
    if address.scheme not in _DEFAULT_PORTS or not address.host:
        raise BadAddress
    return address


def _request(method: str, address: httpx.URL, headers: Mapping[str, str], content: bytes) -> bytes:
    """The bytes of a request. Raises ``ValueError``, without the value, for a header that can't be sent."""
    named = {
        "Host": address.netloc.decode("ascii"),
        "User-Agent": "headrace",
        "Accept-Encoding": "identity",
        **headers,
    }
    if address.userinfo:
        login = f"{address.username}:{address.password}".encode()
        named["Authorization"] = "Basic " + b64encode(login).decode("ascii")
    if content:
        named["Content-Length"] = str(len(content))
    for name, value in named.items():
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} has characters that no header can carry")
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode(), address.raw_path, lines.encode("ascii"), content)
