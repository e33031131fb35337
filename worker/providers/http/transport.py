"""How a request reaches a provider: an ``httpx`` transport, with our own connections if there is no proxy.

Theory of operation. One ``httpx.AsyncClient`` makes every request, so headers, URLs and logins are httpx's. The
transport below it chooses the way. Requests that the environment sends through a proxy
(:mod:`shared.config.network`) use httpx's own transport, which knows CONNECT, credentials and proxies behind TLS.
All others use our pool of connections (:mod:`worker.providers.http.pool`). Both ways the response's body is read
from a :class:`worker.providers.http.connection.ProviderConnection`. A direct one is in the response's extensions,
so its bytes never pass through httpx's generators. A proxied one is a task that reads httpx's response.

Measured on loopback, a request over this client takes 100 to 200 µs of CPU; the pool alone takes 15 to 55, and
httpx with its own transport 650 to 750. The part of httpx's client (at most 150 µs) is 0.8 % of an answer of 400
tokens at 47 µs each.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Final

import httpx

from shared.config.network import Network, Proxy
from shared.config.settings import BadSettings
from shared.process.connecting import cause_of
from worker.providers.http.connection import (
    MAX_UNREAD_BYTES,
    BadAddress,
    BadCertificate,
    ConnectTimeout,
    DirectConnection,
    NoResponse,
    NotHttp,
    ProviderConnection,
    Unreachable,
    ignore_hint,
)
from worker.providers.http.pool import IDLE_S, MAX_IDLE, ConnectionPool, in_words

CONNECTION: Final = "headrace.connection"
"""The extension of a response that holds its direct connection."""
OPENED: Final = "connection.connect_tcp.started"
"""The event in httpx's trace that says that a request opens a connection."""
PORTS: Final = {"http": 80, "https": 443}

_VALUE: Final = re.compile(rb"[\t\x20-\x7e]*")


def trust(network: Network) -> ssl.SSLContext:
    """The trusted certificates: those of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, else certifi's.

    Raises :class:`shared.config.settings.BadSettings` if they can't be read.
    """
    if not network.cert_file and not network.cert_dir:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=network.cert_file or None, capath=network.cert_dir or None)
    except OSError as error:  # ssl.SSLError is one
        raise BadSettings(
            f"SSL_CERT_FILE names {network.cert_file!r}, which can't be read as certificates ({error}). Correct it."
        ) from None


def open_client(network: Network, connect_timeout_s: float, tls: ssl.SSLContext) -> httpx.AsyncClient:
    """The client for all requests of a process. It does not follow redirects, which would carry the key
    elsewhere."""
    return httpx.AsyncClient(
        transport=ProviderTransport(network, connect_timeout_s, tls),
        headers={"User-Agent": "headrace", "Accept-Encoding": "identity"},
        timeout=httpx.Timeout(None, connect=connect_timeout_s),
        follow_redirects=False,
        trust_env=False,  # the transport already uses the environment
    )


def address(url: str) -> httpx.URL:
    """A usable URL. Raises :class:`worker.providers.http.connection.BadAddress`."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        raise BadAddress from None
    if found.scheme not in PORTS or not found.host:
        raise BadAddress
    return found


async def send(client: httpx.AsyncClient, request: httpx.Request) -> tuple[httpx.Response, ProviderConnection]:
    """Send a request. Out: the head of its response, and the connection that carries the body, which must be
    closed.

    Raises :class:`worker.providers.http.connection.NoResponse`, and ``ValueError`` for a header that can't be
    sent.
    """
    response = await client.send(request, stream=True)
    return response, response.extensions.get(CONNECTION) or ProxiedConnection(response)


class ProviderTransport(httpx.AsyncBaseTransport):
    """Sends each request directly or through its proxy (see above)."""

    def __init__(self, network: Network, connect_timeout_s: float, tls: ssl.SSLContext) -> None:
        self._network = network
        self._tls = tls
        self._direct = ConnectionPool(connect_timeout_s, tls)
        self._proxied: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        port = url.port or PORTS[url.scheme]
        for name, value in request.headers.raw:
            if not _VALUE.fullmatch(value):
                raise ValueError(f"the value of {name.decode('latin-1')} has characters that no header can carry")
        proxy = self._network.proxy(url.scheme, url.host, port)
        if proxy is not None:
            return await self._by_proxy(proxy, request)
        header_lines = b"".join(b"%b: %b\r\n" % header for header in request.headers.raw)
        raw = b"%b %b HTTP/1.1\r\n%b\r\n%b" % (request.method.encode(), url.raw_path, header_lines, request.content)
        origin = (url.scheme, url.raw_host.decode("ascii").strip("[]"), port)
        connection, head = await self._direct.ask(origin, raw)
        return httpx.Response(
            head.status, headers=head.headers, stream=_Body(connection), extensions={CONNECTION: connection}
        )

    async def aclose(self) -> None:
        self._direct.close()
        for transport in self._proxied.values():
            await transport.aclose()

    async def _by_proxy(self, proxy: Proxy, request: httpx.Request) -> httpx.Response:
        try:
            return await self._over_proxy(proxy, request)
        except httpx.ProxyError as error:
            raise Unreachable(f"the proxy {proxy.shown} ({proxy.variable}) refused: {error}") from None
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            raise ConnectTimeout(f"connecting through the proxy {proxy.shown} took too long") from None
        except httpx.ConnectError as error:
            raise _through(proxy, error) from None
        except httpx.RemoteProtocolError as error:
            if "disconnected" in str(error):
                raise Unreachable("it closed the connection before it answered") from None
            raise NotHttp("its response is not HTTP") from None
        except httpx.TransportError:
            raise Unreachable("the connection broke before it answered") from None

    async def _over_proxy(self, proxy: Proxy, request: httpx.Request) -> httpx.Response:
        """Send a request, with the rule of :class:`worker.providers.http.pool.ConnectionPool`: if its server closed
        a kept connection while the request was on its way, this is no failure, and the request is sent again at
        once."""
        transport = self._transport(proxy)
        while True:
            seen: set[str] = set()

            async def note(event: str, _: object, seen: set[str] = seen) -> None:
                seen.add(event)

            request.extensions["trace"] = note
            try:
                return await transport.handle_async_request(request)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                responded = isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error)
                if OPENED in seen or responded:
                    raise

    def _transport(self, proxy: Proxy) -> httpx.AsyncHTTPTransport:
        if proxy.url not in self._proxied:
            if proxy.scheme not in PORTS:
                raise BadAddress(
                    f"{proxy.variable} names a proxy of the kind {proxy.scheme}, and only http and https work"
                )
            try:
                by = httpx.Proxy(proxy.url, ssl_context=self._tls if proxy.scheme == "https" else None)
            except (httpx.InvalidURL, ValueError):
                raise BadAddress(f"{proxy.variable} is no URL of a proxy") from None
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=MAX_IDLE, keepalive_expiry=IDLE_S)
            self._proxied[proxy.url] = httpx.AsyncHTTPTransport(
                proxy=by, verify=self._tls, limits=limits, trust_env=False
            )
        return self._proxied[proxy.url]


def _through(proxy: Proxy, error: BaseException) -> NoResponse:
    """Why there is no connection through this proxy."""
    found = in_words(cause_of(error))
    if isinstance(found, BadCertificate):
        # With TLS to the proxy there are two certificates, and nothing says which one was refused.
        return (
            BadCertificate(f"at the proxy {proxy.shown} or behind it: {found}")
            if proxy.scheme == "https"
            else found
        )
    return type(found)(f"the proxy {proxy.shown} ({proxy.variable}) can't be reached: {found}")


class _Body(httpx.AsyncByteStream):
    """A direct connection's body, for a caller that reads it by httpx."""

    def __init__(self, connection: DirectConnection) -> None:
        self._connection = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        came = asyncio.Event()
        self._connection.ready = came.set
        while True:
            came.clear()
            if data := self._connection.read():
                yield data
            elif self._connection.ended:
                raise httpx.RemoteProtocolError("the body was cut off")
            elif self._connection.ended is not None:
                return
            else:
                await came.wait()

    async def aclose(self) -> None:
        self._connection.close()


class ProxiedConnection:
    """A :class:`worker.providers.http.connection.ProviderConnection` over a response of httpx's own transport. A
    task reads it, and stops while MAX_UNREAD_BYTES are unread."""

    def __init__(self, response: httpx.Response) -> None:
        self.ready: Callable[[], object] = ignore_hint
        self.ended: bool | None = None
        self._response = response
        self._unread: list[bytes] = []
        self._room = asyncio.Event()
        self._outcome: bool | None = None
        self._reading = asyncio.create_task(self._read_on())

    def read(self) -> bytes:
        """See :class:`worker.providers.http.connection.ProviderConnection`."""
        data = b"".join(self._unread)
        self._unread.clear()
        self._room.set()
        self.ended = self._outcome
        return data

    def close(self, linger_s: float = 0.0) -> None:
        """See :class:`worker.providers.http.connection.ProviderConnection`."""
        self.ready = self._drop if linger_s else ignore_hint
        self._drop()
        if self._outcome is not None:
            return
        if linger_s:
            timer = asyncio.get_running_loop().call_later(linger_s, self._reading.cancel)
            self._reading.add_done_callback(lambda _: timer.cancel())
        else:
            self._reading.cancel()

    def _drop(self) -> None:
        self._unread.clear()
        self._room.set()

    async def _read_on(self) -> None:
        try:
            async for chunk in self._response.aiter_raw():
                self._unread.append(chunk)
                if len(self._unread) <= 2:
                    self.ready()
                while sum(map(len, self._unread)) > MAX_UNREAD_BYTES:
                    self._room.clear()
                    await self._room.wait()
            self._outcome = False
        except httpx.TransportError:
            self._outcome = True
        finally:
            await self._response.aclose()
        self.ready()
