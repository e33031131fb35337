"""A connection to a provider, and the pool of them, against bytes on real sockets."""

import asyncio
import gzip
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.bytes_server import CLOSE, BytesServer, bytes_server
from tests.support.provider_calls import tls
from worker.providers import upstreams as pool_module
from worker.providers.body import MAX_INFLATED_BYTES, beginning, inflater
from worker.providers.upstream import (
    MAX_HEAD_BYTES,
    BadAddress,
    ConnectTimeout,
    Head,
    NotHttp,
    Unreachable,
    Upstream,
)
from worker.providers.upstreams import Upstreams

LENGTH = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"hello"]
CHUNKED = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nhe\r\n3\r\nl", b"lo\r\n0\r\n\r\n"]
UNTIL_CLOSE = [b"HTTP/1.1 200 OK\r\n\r\n", b"hel", b"lo", CLOSE]


class Body:
    """Listens, and pauses behind each piece if it is told to."""

    def __init__(self, upstream: Upstream, *, pausing: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.cut: bool | None = None
        self.changed = asyncio.Event()
        self._upstream = upstream
        self._pausing = pausing

    def ready(self) -> None:
        self._upstream.read()

    def take(self, chunk: bytes) -> None:
        self.pieces.append(chunk)
        if self._pausing:
            self._upstream.pause()
        self.changed.set()

    def end(self, *, cut: bool) -> None:
        self.cut = cut
        self.changed.set()

    async def to_end(self) -> bytes:
        async with asyncio.timeout(5):
            while self.cut is None:
                await self.changed.wait()
                self.changed.clear()
                if self._pausing and self.cut is None:
                    self._upstream.resume()
        return b"".join(self.pieces)


@asynccontextmanager
async def upstreams(
    connect_timeout_s: float = 5, trusting: ssl.SSLContext | None = None
) -> AsyncIterator[Upstreams]:
    pool = Upstreams(connect_timeout_s, trusting or tls())
    try:
        yield pool
    finally:
        pool.close()


async def fetch(pool: Upstreams, url: str, *, pausing: bool = False) -> tuple[Head, bytes, bool | None]:
    """The head, the body, and whether it was cut off."""
    lent, head = await pool.ask("POST", url, {}, b"{}")
    body = Body(lent.upstream, pausing=pausing)
    lent.upstream.listen(body)
    try:
        return head, await body.to_end(), body.cut
    finally:
        lent.close()


@pytest.mark.parametrize("pausing", [False, True])
@pytest.mark.parametrize("pieces", [LENGTH, CHUNKED, UNTIL_CLOSE])
async def test_a_body_is_whole_however_its_end_is_told(pieces: list[bytes], pausing: bool) -> None:
    async with bytes_server(lambda n: pieces) as server, upstreams() as pool:
        head, body, cut = await fetch(pool, server.url(), pausing=pausing)
    assert (head.status, body, cut) == (200, b"hello", False)


@pytest.mark.parametrize("pieces", [[*LENGTH[:1], b"hell", CLOSE], [*CHUNKED[:2], CLOSE]])
async def test_a_body_that_ends_before_its_end_is_cut(pieces: list[bytes]) -> None:
    async with bytes_server(lambda n: pieces) as server, upstreams() as pool:
        _, body, cut = await fetch(pool, server.url())
    assert (b"hello".startswith(body), cut) == (True, True)


@pytest.mark.parametrize("pieces", [LENGTH, CHUNKED])
async def test_a_connection_whose_response_was_read_to_its_end_serves_the_next_request(pieces: list[bytes]) -> None:
    async with bytes_server(lambda n: pieces) as server, upstreams() as pool:
        for _ in range(3):
            assert (await fetch(pool, server.url()))[1] == b"hello"
        assert [len(heads) for heads in server.connections] == [3]
        pool.close()
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
    async with bytes_server(lambda n: pieces) as server, upstreams() as pool:
        for _ in range(2):
            assert (await fetch(pool, server.url()))[1] == b"hello"
            await asyncio.sleep(0.1)
        assert [len(heads) for heads in server.connections] == [1, 1]


async def test_one_that_is_left_in_mid_body_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bytes_server(lambda n: CHUNKED[:2]) as server, upstreams() as pool:
        lent, _ = await pool.ask("POST", server.url(), {})
        lent.close()
        await all_closed(server)


async def test_an_idle_connection_is_kept_for_its_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "IDLE_S", 0.05)
    async with bytes_server(lambda n: LENGTH) as server, upstreams() as pool:
        await fetch(pool, server.url())
        await asyncio.sleep(0.1)
        await fetch(pool, server.url())
        assert [len(heads) for heads in server.connections] == [1, 1]


async def test_idle_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_IDLE", 2)
    async with bytes_server(lambda n: LENGTH) as server, upstreams() as pool:
        await asyncio.gather(*(fetch(pool, server.url()) for _ in range(5)))
        async with asyncio.timeout(5):
            while server.open != 2:
                await asyncio.sleep(0.01)


async def test_an_interim_response_is_none() -> None:
    pieces = [b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", *LENGTH]
    async with bytes_server(lambda n: pieces) as server, upstreams() as pool:
        head, body, _ = await fetch(pool, server.url())
    assert (head, body) == (Head(200, {"content-length": "5"}), b"hello")


@pytest.mark.parametrize(
    "pieces",
    [
        [b"SSH-2.0-OpenSSH_9\r\n\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbabble"],
        [b"HTTP/1.1 200 OK\r\n" + b"X-Long: %b\r\n" % (b"y" * 1000) * (MAX_HEAD_BYTES // 1000 + 1)],
    ],
)
async def test_what_is_no_response_is_told_so_and_closed(pieces: list[bytes]) -> None:
    async with bytes_server(lambda n: pieces) as server, upstreams() as pool:
        with pytest.raises(NotHttp):
            async with asyncio.timeout(5):
                await pool.ask("POST", server.url(), {})
        await all_closed(server)


async def test_a_body_that_breaks_its_framing_is_cut() -> None:
    async with bytes_server(lambda n: [CHUNKED[0], b"2\r\nhe\r\nnonsense\r\n"]) as server, upstreams() as pool:
        _, body, cut = await fetch(pool, server.url())
    assert (body, cut) == (b"he", True)


async def test_nobody_there_and_a_name_that_is_none_are_unreachable() -> None:
    async with bytes_server(lambda n: []) as server:
        url = server.url()
    async with upstreams() as pool:
        for wrong in (url, "http://no-such-host.invalid/"):
            with pytest.raises(Unreachable):
                await pool.ask("POST", wrong, {})


@pytest.mark.parametrize("url", ["", "x", "ftp://localhost/", "http://[::1/", "http:///v1", f"http://{'x' * 70}/"])
async def test_an_address_that_is_none_is_told_so(url: str) -> None:
    async with upstreams() as pool:
        with pytest.raises(BadAddress):
            await pool.ask("POST", url, {})


@pytest.mark.parametrize("value", ["two\nlines", "two\r\nX-More: 1", "schlüssel", "nul\0"])
async def test_a_header_that_none_can_carry_is_refused_before_anything_is_sent(value: str) -> None:
    async with bytes_server(lambda n: LENGTH) as server, upstreams() as pool:
        with pytest.raises(ValueError, match="X-Key") as caught:
            await pool.ask("POST", server.url(), {"X-Key": value})
        assert value not in str(caught.value)
        assert server.connections == []


async def test_a_request_names_host_length_and_login() -> None:
    async with bytes_server(lambda n: LENGTH) as server, upstreams() as pool:
        url = f"http://us%40er:pass@localhost:{server.port}/a%2Fb?c=d"
        await fetch(pool, url)
    head = server.connections[0][0].split("\r\n")
    assert head[0] == "POST /a%2Fb?c=d HTTP/1.1"
    wanted = {f"Host: localhost:{server.port}", "Content-Length: 2", "Authorization: Basic dXNAZXI6cGFzcw=="}
    assert wanted < set(head)


async def test_tls_is_verified_and_a_connection_over_it_is_as_any_other(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *about]
    subprocess.run([str(word) for word in argv], check=True, capture_output=True, timeout=60)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    async with bytes_server(lambda n: CHUNKED, serving) as server:
        async with upstreams(trusting=ssl.create_default_context(cafile=str(certificate))) as pool:
            for pausing in (True, False):
                assert (await fetch(pool, server.url("https"), pausing=pausing))[1:] == (b"hello", False)
            assert [len(heads) for heads in server.connections] == [2]
        async with upstreams() as pool:
            with pytest.raises(Unreachable):
                await pool.ask("POST", server.url("https"), {})


async def test_a_tls_handshake_that_hangs_is_a_connect_timeout() -> None:
    async with bytes_server(lambda n: []) as server, upstreams(connect_timeout_s=0.2) as pool:
        with pytest.raises(ConnectTimeout):
            await pool.ask("POST", server.url("https"), {})
        await all_closed(server)


async def test_a_packed_error_is_unpacked_within_a_bound() -> None:
    packed = gzip.compress(b'{"error": "no"}')
    head = b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with bytes_server(lambda n: [head, packed[:9], packed[9:]]) as server, upstreams() as pool:
        lent, told = await pool.ask("POST", server.url(), {})
        assert await beginning(lent.upstream, told) == b'{"error": "no"}'
        lent.close()
    inflate = inflater(told)
    assert inflate is not None
    with pytest.raises(Exception, match="more than events"):
        inflate(gzip.compress(bytes(2 * MAX_INFLATED_BYTES)))


async def all_closed(server: BytesServer) -> None:
    async with asyncio.timeout(5):
        while server.open:
            await asyncio.sleep(0.01)
