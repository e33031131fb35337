"""A connection to a provider, and the pool of them, against bytes on real sockets."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from shared.config.network import Network
from tests.support.bytes_server import CLOSE, PAUSE, BytesServer, bytes_server
from tests.support.provider_calls import tls
from tests.support.requirements import require_ipv6
from worker.providers.http import pool as pool_module
from worker.providers.http.body import beginning
from worker.providers.http.connection import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    BadAddress,
    ConnectTimeout,
    NotHttp,
    ProviderConnection,
    Unreachable,
)
from worker.providers.http.transport import address, open_client, send

NOTHING = Network()
LENGTH = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"hello"]
CHUNKED = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nhe\r\n3\r\nl", b"lo\r\n0\r\n\r\n"]
UNTIL_CLOSE = [b"HTTP/1.1 200 OK\r\n\r\n", b"hel", b"lo", CLOSE]


@asynccontextmanager
async def client_of(
    connect_timeout_s: float = 5, trusting: ssl.SSLContext | None = None, network: Network = NOTHING
) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(network, connect_timeout_s, trusting or tls()) as client:
        yield client


async def ask(
    client: httpx.AsyncClient, url: str, headers: dict[str, str] | None = None
) -> tuple[httpx.Response, ProviderConnection]:
    async with asyncio.timeout(60):
        return await send(client, client.build_request("POST", address(url), headers=headers, content=b"{}"))


async def fetch(client: httpx.AsyncClient, url: str, *, pausing: bool = False) -> tuple[int, bytes, bool]:
    """The status, the body, and whether it was cut off. ``pausing``: a while passes before each read."""
    response, connection = await ask(client, url)
    body, cut = await read_to_end(connection, pausing=pausing)
    connection.close()
    return response.status_code, body, cut


async def read_to_end(connection: ProviderConnection, *, pausing: bool = False) -> tuple[bytes, bool]:
    came = asyncio.Event()
    connection.ready = came.set
    body = b""
    async with asyncio.timeout(60):
        while True:
            body += connection.read()
            if connection.ended is not None:
                return body, connection.ended
            await came.wait()
            came.clear()
            await asyncio.sleep(0.02 if pausing else 0)


@pytest.mark.parametrize("pausing", [False, True])
@pytest.mark.parametrize("pieces", [LENGTH, CHUNKED, UNTIL_CLOSE])
async def test_a_body_is_whole_however_its_end_is_told(pieces: list[bytes], pausing: bool) -> None:
    async with bytes_server(lambda n: pieces) as server, client_of() as pool:
        assert await fetch(pool, server.url(), pausing=pausing) == (200, b"hello", False)


@pytest.mark.parametrize("pieces", [[*LENGTH[:1], b"hell", CLOSE], [*CHUNKED[:2], CLOSE]])
async def test_a_body_that_ends_before_its_end_is_cut(pieces: list[bytes]) -> None:
    async with bytes_server(lambda n: pieces) as server, client_of() as pool:
        _, body, cut = await fetch(pool, server.url())
    assert (b"hello".startswith(body), cut) == (True, True)


@pytest.mark.parametrize("pieces", [LENGTH, CHUNKED])
async def test_a_connection_whose_response_was_read_to_its_end_serves_the_next_request(pieces: list[bytes]) -> None:
    async with bytes_server(lambda n: pieces) as server, client_of() as pool:
        for _ in range(3):
            assert (await fetch(pool, server.url()))[1] == b"hello"
        assert [len(heads) for heads in server.connections] == [3]
        await pool.aclose()
        await all_closed(server)


@pytest.mark.parametrize(
    "pieces",
    [
        UNTIL_CLOSE,
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"],
        [b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"],
        [*LENGTH, b"HTTP/1.1 200 OK\r\n"],
        [*LENGTH, CLOSE],
    ],
)
async def test_one_that_closes_or_says_more_than_it_was_asked_serves_no_other(pieces: list[bytes]) -> None:
    async with bytes_server(lambda n: pieces) as server, client_of() as pool:
        for _ in range(2):
            assert (await fetch(pool, server.url()))[1] == b"hello"
            await asyncio.sleep(0.1)
        assert [len(heads) for heads in server.connections] == [1, 1]


async def test_one_that_is_left_in_mid_body_is_closed() -> None:
    async with bytes_server(lambda n: CHUNKED[:2]) as server, client_of() as pool:
        _, connection = await ask(pool, server.url())
        connection.close()
        await all_closed(server)


async def test_an_idle_connection_is_kept_for_its_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "IDLE_S", 0.05)
    async with bytes_server(lambda n: LENGTH) as server, client_of() as pool:
        await fetch(pool, server.url())
        await asyncio.sleep(0.1)
        await fetch(pool, server.url())
        assert [len(heads) for heads in server.connections] == [1, 1]


async def test_idle_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_IDLE", 2)
    async with bytes_server(lambda n: LENGTH) as server, client_of() as pool:
        await asyncio.gather(*(fetch(pool, server.url()) for _ in range(5)))
        async with asyncio.timeout(60):
            while server.open != 2:
                await asyncio.sleep(0.01)


async def test_an_interim_response_is_none() -> None:
    pieces = [b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", *LENGTH]
    async with bytes_server(lambda n: pieces) as server, client_of() as pool:
        assert await fetch(pool, server.url()) == (200, b"hello", False)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"SSH-2.0-OpenSSH_9\r\n\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbabble"],
        [b"HTTP/1.1 200 OK\r\n" + b"X-Long: %b\r\n" % (b"y" * 1000) * (MAX_HEAD_BYTES // 1000 + 1)],
    ],
)
async def test_bytes_that_are_no_response_are_told_so_and_closed(pieces: list[bytes]) -> None:
    async with bytes_server(lambda n: pieces) as server, client_of() as pool:
        with pytest.raises(NotHttp):
            await ask(pool, server.url())
        await all_closed(server)


@pytest.mark.parametrize("flood", [b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n", b"HTTP/1.1 103 x\r\nA: b\r\n\r\n"])
async def test_interim_responses_and_blank_lines_without_end_are_no_response(flood: bytes) -> None:
    endless = [flood * 1000] * 1000
    async with bytes_server(lambda n: endless) as server, client_of() as pool:
        with pytest.raises(NotHttp):
            await ask(pool, server.url())
        await all_closed(server)


@pytest.mark.parametrize(
    "flood",
    [
        [b"5;x=" + b"y" * 60_000] + [b"y" * 60_000] * 1000,
        [b"0\r\n"] + [b"X-Trailer: %b\r\n" % (b"y" * 6000) * 10] * 1000,
        [b"0\r\n"] + [b"".join(b"a%d: b\r\n" % n for n in range(5000))] * 1000,
    ],
)
async def test_framing_without_a_body_has_a_bound(flood: list[bytes]) -> None:
    async with bytes_server(lambda n: [CHUNKED[0], b"5\r\nhello\r\n", *flood]) as server, client_of() as pool:
        response, connection = await ask(pool, server.url())
        assert len(response.headers) <= MAX_HEADERS
        body, cut = await read_to_end(connection)
        assert b"hello".startswith(body)
        assert cut
        await all_closed(server)


async def test_trailers_are_no_headers() -> None:
    trailers = [CHUNKED[0], b"5\r\nhello\r\n0\r\nContent-Encoding: gzip\r\n\r\n"]
    async with bytes_server(lambda n: trailers) as server, client_of() as pool:
        for _ in range(2):
            response, connection = await ask(pool, server.url())
            assert await read_to_end(connection) == (b"hello", False)
            connection.close()
            assert "content-encoding" not in response.headers
        assert [len(heads) for heads in server.connections] == [2]


@pytest.mark.parametrize("spewed", [b"\r\n" * 30_000, b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_kept_connection_that_says_anything_is_closed(spewed: bytes) -> None:
    async with bytes_server(lambda n: [*LENGTH, PAUSE, *[spewed] * 1000]) as server, client_of() as pool:
        assert await fetch(pool, server.url()) == (200, b"hello", False)
        await all_closed(server)


async def test_bytes_behind_an_end_mark_are_not_read_for_long() -> None:
    endless = [CHUNKED[0], *[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 10_000]
    async with bytes_server(lambda n: endless) as server, client_of() as pool:
        _, connection = await ask(pool, server.url())
        connection.close(linger_s=60.0)
        await all_closed(server)


async def test_a_body_that_breaks_its_framing_is_cut() -> None:
    async with bytes_server(lambda n: [CHUNKED[0], b"2\r\nhe\r\nnonsense\r\n"]) as server, client_of() as pool:
        _, body, cut = await fetch(pool, server.url())
    assert (body, cut) == (b"he", True)


async def test_a_closed_port_and_an_unknown_name_are_unreachable() -> None:
    async with bytes_server(lambda n: []) as server:
        url = server.url()
    async with client_of() as pool:
        for wrong in (url, "http://no-such-host.invalid/"):
            with pytest.raises(Unreachable):
                await ask(pool, wrong)


@pytest.mark.parametrize("url", ["", "x", "ftp://localhost/", "http://[::1/", "http:///v1", f"http://{'x' * 70}/"])
async def test_an_address_that_is_none_is_told_so(url: str) -> None:
    async with client_of() as pool:
        with pytest.raises(BadAddress):
            await ask(pool, url)


@pytest.mark.parametrize("value", ["two\nlines", "two\r\nX-More: 1", "schlüssel", "nul\0"])
async def test_a_header_that_none_can_carry_is_refused_before_anything_is_sent(value: str) -> None:
    async with bytes_server(lambda n: LENGTH) as server, client_of() as pool:
        with pytest.raises(ValueError, match=r"header can carry|ascii") as caught:
            await ask(pool, server.url(), {"X-Key": value})
        assert value not in str(caught.value)
        assert server.connections == []


async def test_a_request_names_host_length_and_login() -> None:
    async with bytes_server(lambda n: LENGTH) as server, client_of() as pool:
        url = f"http://us%40er:pass@localhost:{server.port}/a%2Fb?c=d"
        await fetch(pool, url)
    head = server.connections[0][0].split("\r\n")
    assert head[0] == "POST /a%2Fb?c=d HTTP/1.1"
    wanted = {f"Host: localhost:{server.port}", "Content-Length: 2", "Authorization: Basic dXNAZXI6cGFzcw=="}
    assert wanted < set(head)


async def test_a_tls_handshake_that_hangs_is_a_connect_timeout() -> None:
    async with bytes_server(lambda n: []) as server, client_of(connect_timeout_s=0.2) as pool:
        with pytest.raises(ConnectTimeout):
            await ask(pool, server.url("https"))
        await all_closed(server)


async def test_a_packed_error_is_unpacked_within_a_bound() -> None:
    packed = gzip.compress(b'{"error": "no"}')
    for body, says in ((packed, b'{"error": "no"}'), (gzip.compress(bytes(50_000_000)), b"")):
        head = b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        pieces = [head, body[:9], body[9:]]
        async with bytes_server(lambda n, pieces=pieces: pieces) as server, client_of() as pool:
            response, connection = await ask(pool, server.url())
            assert await beginning(connection, response.headers["content-encoding"]) == says
            connection.close()


async def test_a_kept_connection_that_its_server_closed_is_made_anew_at_once() -> None:
    # The second request on a connection gets no answer: its server closes, as one does whose patience is over.
    def pieces(n: int) -> list[bytes]:
        return [CLOSE] if n in (2, 4) else LENGTH

    async with bytes_server(pieces) as server, client_of() as pool:
        for _ in range(3):
            assert (await fetch(pool, server.url()))[1] == b"hello"
        assert [len(heads) for heads in server.connections] == [2, 2, 1]


async def test_a_new_connection_that_closes_is_not_tried_again() -> None:
    async with bytes_server(lambda n: [CLOSE]) as server, client_of() as pool:
        with pytest.raises(Unreachable):
            await ask(pool, server.url())
        assert len(server.connections) == 1


@pytest.mark.parametrize(("linger_s", "requests"), [(5.0, [2]), (0.01, [1, 1]), (0.0, [1, 1])])
async def test_a_connection_is_kept_if_its_body_ends_in_the_time_given(
    linger_s: float, requests: list[int]
) -> None:
    pieces = [*CHUNKED[:2], b"lo\r\n", PAUSE, b"0\r\n\r\n"]
    async with bytes_server(lambda n: pieces) as server, client_of() as pool:
        for _ in range(2):
            _, connection = await ask(pool, server.url())
            connection.close(linger_s)
            await asyncio.sleep(0.3)
        assert [len(heads) for heads in server.connections] == requests


async def test_an_ipv6_literal_is_an_address() -> None:
    require_ipv6()
    async with bytes_server(lambda n: LENGTH, host="::1") as server, client_of() as pool:
        assert await fetch(pool, f"http://[::1]:{server.port}/v1/x") == (200, b"hello", False)
    assert f"Host: [::1]:{server.port}" in server.connections[0][0]


async def test_a_fast_connection_can_be_read_by_httpx_too() -> None:
    for pieces, wanted in ((CHUNKED, b"hello"), ([*LENGTH[:1], b"hell", CLOSE], None)):
        async with bytes_server(lambda n, pieces=pieces: pieces) as server, client_of() as client:
            if wanted is None:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post(server.url(), content=b"{}")
            else:
                assert (await client.post(server.url(), content=b"{}")).content == wanted


async def all_closed(server: BytesServer) -> None:
    async with asyncio.timeout(60):
        while server.open:
            await asyncio.sleep(0.01)
