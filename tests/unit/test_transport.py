"""The way to a provider: through a proxy or directly, with a certificate that is trusted or not, and what is said
where there is none."""

import asyncio
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import cli.doctor.command
from cli.doctor.command import _provider
from cli.up.sockets import free_port
from shared.config.network import Network, read_network
from shared.config.providers import Provider
from shared.config.settings import BadSettings, Settings
from tests.support.authority import Authority
from tests.support.bytes_server import CLOSE, bytes_server
from tests.support.connect_proxy import connect_proxy
from tests.support.listeners import full_listener, silent_listener
from tests.support.provider_calls import CALM, KEY, ask, at, collect, events_of, text_of, tls
from tests.support.requirements import find_program
from worker.providers.base import ProviderError, ProviderEvent
from worker.providers.client import ProviderClient
from worker.providers.http.transport import trust

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer() -> list[bytes]:
    events = [
        b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ]
    return [HEAD, *(b"%x\r\n%b\r\n" % (len(event), event) for event in events), b"0\r\n\r\n"]


def near(port: int, scheme: str = "https", host: str = "localhost") -> str:
    return f"{scheme}://{host}:{port}/v1"


async def said(base_url: str, env: dict[str, str], *, tries: int = 1, connect_timeout_s: float = 5) -> str:
    """What the provider says; or the code of the error, whether it may pass, and its words."""
    network = read_network(env)
    settings = Settings(**{**CALM, "provider_tries": tries, "connect_timeout_s": connect_timeout_s})
    client = ProviderClient(settings, network, None if network.cert_file or network.cert_dir else tls())
    seen: list[ProviderEvent] = []
    error: ProviderError | None = None
    try:
        async with asyncio.timeout(60):
            await collect(events_of(client, at(base_url), ask("hello")), seen)
    except ProviderError as found:
        error = found
    finally:
        await client.aclose()
    if error is None:
        return text_of(seen)
    assert KEY not in str(error)
    return f"{error.code} {'again' if error.retryable else 'never'}: {error}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


# -- proxies ------------------------------------------------------------------------------------------


async def test_https_goes_by_connect_and_http_by_its_whole_url(authority: Authority) -> None:
    trusted = {"SSL_CERT_FILE": str(authority.certificate)}
    async with connect_proxy() as proxy:
        url = f"http://localhost:{proxy.port}"
        async with bytes_server(lambda n: answer(), authority.server()) as server:
            assert await said(near(server.port), {**trusted, "HTTPS_PROXY": url}) == "Hello"
            assert await said(near(server.port), {**trusted, "ALL_PROXY": url}) == "Hello"
            assert await said(near(server.port), {**trusted, "HTTP_PROXY": url}) == "Hello"
        assert proxy.asked == [f"CONNECT localhost:{server.port} HTTP/1.1"] * 2
        proxy.asked.clear()
        async with bytes_server(lambda n: answer()) as plain:
            assert await said(near(plain.port, "http"), {"http_proxy": url}) == "Hello"
            for exempt in (f"localhost:{plain.port}", "*", "localhost"):
                assert await said(near(plain.port, "http"), {"http_proxy": url, "NO_PROXY": exempt}) == "Hello"
            base_url = near(plain.port, "http", "127.0.0.1")
            assert await said(base_url, {"http_proxy": url, "NO_PROXY": "127.0.0.0/8"}) == "Hello"
        assert proxy.asked == [f"POST http://localhost:{plain.port}/v1/chat/completions HTTP/1.1"]


async def test_a_proxy_may_want_a_login_and_may_stand_behind_tls(authority: Authority) -> None:
    trusted = {"SSL_CERT_FILE": str(authority.certificate)}
    login = "Basic dXNAZXI6cEBzcw=="  # us@er:p@ss
    for tls_, scheme in ((None, "http"), (authority.server(), "https")):
        async with (
            connect_proxy(login, tls_) as proxy,
            bytes_server(lambda n: answer(), authority.server()) as server,
        ):
            url = f"{scheme}://us%40er:p%40ss@localhost:{proxy.port}"
            assert await said(near(server.port), {**trusted, "HTTPS_PROXY": url}) == "Hello"
            assert proxy.asked == [f"CONNECT localhost:{server.port} HTTP/1.1"]
            wrong = await said(near(server.port), {**trusted, "HTTPS_PROXY": url.replace("p%40ss", "s3cret")})
            assert wrong.startswith("provider_unreachable again")
            assert "407" in wrong
            assert f"{scheme}://localhost:{proxy.port} (HTTPS_PROXY)" in wrong
            assert "s3cret" not in wrong


async def test_a_proxy_that_is_not_there_or_is_of_another_kind_is_said_so() -> None:
    port = free_port()
    away = await said("https://localhost:1/v1", {"HTTPS_PROXY": f"http://u:s3cret@127.0.0.1:{port}"})
    assert away.startswith("provider_unreachable again")
    assert f"proxy http://127.0.0.1:{port} (HTTPS_PROXY) can't be reached" in away
    assert "refused" in away
    assert "s3cret" not in away
    other = await said("https://localhost:1/v1", {"HTTPS_PROXY": "socks5://127.0.0.1:1"})
    assert other.startswith("provider_unreachable never")
    assert "socks5" in other


async def test_an_answer_through_a_proxy_is_read_as_any_other() -> None:
    events = [b'data: {"choices":[{"delta":{"content":"%d "}}]}\n\n' % n for n in range(3000)]
    body = b"".join(events)
    pieces = [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", body]
    async with connect_proxy() as proxy:
        env = {"HTTP_PROXY": f"http://localhost:{proxy.port}"}
        async with bytes_server(lambda n: [*pieces, b"data: [DONE]\n\n", CLOSE]) as server:
            assert await said(near(server.port, "http"), env) == "".join(f"{n} " for n in range(3000))
        cut = [pieces[0].replace(b"\r\n\r\n", b"\r\nContent-Length: 999999\r\n\r\n"), body, CLOSE]
        async with bytes_server(lambda n: cut) as server:
            assert (await said(near(server.port, "http"), env)).startswith("upstream_cut again")


async def test_an_unread_answer_holds_the_provider_through_a_proxy_too() -> None:
    big = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * 60_000)
    pieces = [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", *[big] * 1000, CLOSE]
    written = 0

    def counted(n: int) -> Iterator[bytes]:
        nonlocal written
        for piece in pieces:
            written += len(piece)
            yield piece

    async with connect_proxy() as proxy, bytes_server(counted) as server:
        network = read_network({"HTTP_PROXY": f"http://localhost:{proxy.port}"})
        client = ProviderClient(Settings(**CALM), network, tls())
        async with client.answer(at(near(server.port, "http")), ask("hello")) as stream:
            async with asyncio.timeout(60):
                seen = -1
                while written != seen:
                    seen = written
                    await asyncio.sleep(0.3)
            assert written < 30_000_000
            assert len("".join(delta["text"] for delta in stream.read().deltas)) < 1_000_000
        await client.aclose()


async def test_the_doctor_tells_which_way_each_provider_is_asked() -> None:
    models = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]
    async with bytes_server(lambda n: models) as server, connect_proxy() as proxy:
        by_proxy = {"http_proxy": f"http://user:s3cret@localhost:{proxy.port}"}
        provider = Provider("local", "openai", near(server.port, "http"), "")
        for env, way in (({}, "directly"), (by_proxy, f"http://localhost:{proxy.port} (http_proxy)")):
            [finding] = await _provider(provider, read_network(env))
            assert finding.state == "ok"
            assert way in finding.said
            assert "s3cret" not in finding.said


# -- certificates -------------------------------------------------------------------------------------


async def test_a_certificate_is_verified_and_a_refused_one_says_why(authority: Authority, tmp_path: Path) -> None:
    trusted = {"SSL_CERT_FILE": str(authority.certificate)}
    stranger = Authority(tmp_path, "stranger")
    cases = [
        (authority.server(), trusted, "Hello"),
        (stranger.server(), trusted, "SSL_CERT_FILE"),
        (stranger.self_signed(), trusted, "self-signed"),
        (authority.server("elsewhere.example"), trusted, "another name"),
        (authority.server(expired=True), trusted, "expired"),
        (authority.server(), {}, "authority that is not known"),
    ]
    for context, env, words in cases:
        async with bytes_server(lambda n: answer(), context) as server:
            with capture_logs() as lines:
                found = await said(near(server.port), env, tries=4)
            assert words in found
            assert found == "Hello" or found.startswith("provider_tls never")
            assert len(server.connections) <= 1
            if found != "Hello":
                await told_alike(near(server.port), env, words, lines)


async def told_alike(base_url: str, env: dict[str, str], words: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """The worker's log and the doctor say the same as the error."""
    assert [line["event"] for line in lines] == ["provider_not_reached"]
    assert words in lines[0]["why"]
    [finding] = await _provider(Provider("local", "openai", base_url, ""), read_network(env))
    assert finding.state == "mend"
    assert words in finding.said


async def test_a_directory_of_certificates_is_trusted_too(authority: Authority, tmp_path: Path) -> None:
    hashed = subject_hash(authority.certificate)
    (tmp_path / f"{hashed}.0").write_bytes(authority.certificate.read_bytes())
    async with bytes_server(lambda n: answer(), authority.server()) as server:
        assert await said(near(server.port), {"SSL_CERT_DIR": str(tmp_path)}) == "Hello"


def subject_hash(certificate: Path) -> str:
    argv = [find_program("openssl"), "x509", "-hash", "-noout", "-in", str(certificate)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


async def test_a_certificate_is_refused_through_a_proxy_as_well(authority: Authority) -> None:
    async with connect_proxy() as proxy, bytes_server(lambda n: answer(), authority.server()) as server:
        env = {"HTTPS_PROXY": f"http://localhost:{proxy.port}"}
        assert (await said(near(server.port), env)).startswith("provider_tls never")


async def test_plain_http_behind_https_is_said_so() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        found = await said(near(server.sockets[0].getsockname()[1]), {})
    assert found.startswith(("provider_tls never", "provider_unreachable again"))
    assert "TLS" in found


@pytest.mark.parametrize("name", ["/no/such/file.pem", __file__])
def test_certificates_that_cannot_be_read_are_a_setting_to_correct(name: str) -> None:
    with pytest.raises(BadSettings, match="SSL_CERT_FILE"):
        trust(Network(cert_file=name))


# -- no way at all ------------------------------------------------------------------------------------


async def test_a_provider_that_does_not_answer_is_explained_in_words() -> None:
    port = free_port()
    proxied = {"HTTPS_PROXY": f"http://127.0.0.1:{port}"}
    for base_url, env, words in (
        (near(port, "http"), {}, "connection refused"),
        ("http://no-such-host.invalid/v1", {}, "DNS"),
        ("https://localhost:1/v1", proxied, f"proxy http://127.0.0.1:{port} (HTTPS_PROXY) can't be reached"),
    ):
        with capture_logs() as lines:
            found = await said(base_url, env, tries=2)
        assert found.startswith("provider_unreachable again")
        assert words in found
        await told_alike(base_url, env, words, lines)
    async with connect_proxy("Basic other") as proxy:
        env = {"HTTPS_PROXY": f"http://us:s3cret@127.0.0.1:{proxy.port}"}
        with capture_logs() as lines:
            await said("https://localhost:1/v1", env)
        await told_alike("https://localhost:1/v1", env, "refused: 407", lines)
        assert "s3cret" not in str(lines)


async def test_a_connect_timeout_says_what_took_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.doctor.command, "ASK_WITHIN_S", 1.5)
    with full_listener() as port, silent_listener() as mute:
        for base_url, words in ((near(port, "http"), "connecting took"), (near(mute), "the TLS handshake took")):
            with capture_logs() as lines:
                found = await said(base_url, {}, connect_timeout_s=0.5)
            assert found.startswith("provider_connect_timeout again")
            assert words in found
            await told_alike(base_url, {}, words, lines)


async def test_a_kept_connection_that_was_stale_is_no_try(authority: Authority) -> None:
    """Each connection serves one request, and is closed under the next one."""

    def pieces(n: int) -> list[bytes]:
        return [CLOSE] if n % 2 == 0 else answer()

    for by_proxy in (False, True):
        async with connect_proxy() as proxy, bytes_server(pieces, authority.server()) as server:
            env = {"SSL_CERT_FILE": str(authority.certificate)}
            if by_proxy:
                env["HTTPS_PROXY"] = f"http://localhost:{proxy.port}"
            client = ProviderClient(Settings(**{**CALM, "provider_tries": 1}), read_network(env))
            for _ in range(3):
                seen: list[ProviderEvent] = []
                await collect(events_of(client, at(near(server.port)), ask("hello")), seen)
                assert text_of(seen) == "Hello"
                await asyncio.sleep(0.05)
            await client.aclose()
            assert [len(heads) for heads in server.connections] == [2, 2, 1]


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://elsewhere.example:8443/v2/chat?key=s3cret", " to https://elsewhere.example:8443 "),
        ("/v2", " to http://localhost:"),
        ("//us:s3cret@other.example/", " to http://other.example "),
        ("", ""),
    ],
)
async def test_a_redirect_is_refused_and_says_where_it_points(location: str, named: str) -> None:
    head = b"HTTP/1.1 308 Permanent Redirect\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location.encode()
    async with bytes_server(lambda n: [head]) as server:
        found = await said(near(server.port, "http"), {}, tries=4)
        assert len(server.connections) == 1
    assert found.startswith("provider_refused never")
    assert named in found
    assert "s3cret" not in found
