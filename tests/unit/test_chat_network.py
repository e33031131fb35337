"""`headrace chat` over TLS, on this machine too: what the environment trusts, and what is said of the rest."""

import json
from pathlib import Path

import pytest

from cli.chat.api_client import ApiClient, open_http
from cli.errors import NoAnswer
from cli.up.sockets import free_port
from tests.support.authority import Authority
from tests.support.bytes_server import BytesServer, bytes_server

MADE = json.dumps({"id": "x" * 24}).encode()
ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(MADE),
    MADE,
)


async def create(url: str, notes: list[str]) -> str:
    async def never(delay_s: float) -> None:
        """Wait for nothing."""

    async with open_http(url, "") as http:
        return await ApiClient(http, notes.append, sleep=never).create({"prompt": "hello"})


def at(server: BytesServer) -> str:
    return f"https://localhost:{server.port}"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names a proxy, which is not for this machine."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")


async def test_loopback_believes_what_the_environment_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    async with bytes_server(lambda n: [ANSWER], authority.server()) as server:
        assert await create(at(server), []) == "x" * 24


async def test_a_certificate_that_is_refused_is_said_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    cases = [
        (authority.server(), False, "authority that is not known"),
        (authority.self_signed(), False, "self-signed"),
        (authority.server("elsewhere.example"), True, "another name"),
        (authority.server(expired=True), True, "expired"),
    ]
    for context, trusted, words in cases:
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        notes: list[str] = []
        async with bytes_server(lambda n: [ANSWER], context) as server:
            with pytest.raises(NoAnswer, match=words):
                await create(at(server), notes)
        assert notes == []


async def test_a_server_that_does_not_answer_is_explained() -> None:
    port = free_port()
    notes: list[str] = []
    with pytest.raises(NoAnswer, match="connection refused"):
        await create(f"https://127.0.0.1:{port}", notes)
    assert len(notes) > 1


async def test_certificates_that_cannot_be_read_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", __file__)
    with pytest.raises(NoAnswer, match="SSL_CERT_FILE"):
        await create("https://localhost:1", [])
