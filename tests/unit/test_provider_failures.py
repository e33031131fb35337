"""Every way in which a provider fails, as its stable code, without the key."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from cli.up.sockets import free_port
from tests.support.listeners import full_listener
from tests.support.provider_calls import KEY, ask, at, calm_client, events_of, refused, text_of
from tests.support.scripted_provider import ScriptedProvider, script_text
from worker.providers.base import ProviderError


@pytest.mark.parametrize(
    ("script", "code", "retryable", "refusal"),
    [
        ({"status": 400}, "provider_refused", False, True),
        ({"status": 401}, "provider_auth", False, True),
        ({"status": 403}, "provider_auth", False, True),
        ({"status": 404}, "provider_unknown_model", False, True),
        ({"status": 422}, "provider_refused", False, True),
        ({"status": 307}, "provider_refused", False, True),
        ({"status": 429}, "provider_rate_limited", True, False),
        ({"status": 408}, "provider_unavailable", True, False),
        ({"status": 409}, "provider_unavailable", True, False),
        ({"status": 500}, "provider_unavailable", True, False),
        ({"status": 529}, "provider_unavailable", True, False),
        ({"status": 201, "body": {"ok": True}}, "provider_garbage", True, False),
        ({"cut_after": 0}, "upstream_cut", True, False),
        ({"cut_after": 5}, "upstream_cut", True, False),
        ({"end_after": 5}, "upstream_cut", True, False),
        ({"raw": "data: [DONE]\n\n"}, "empty_answer", True, True),
        ({"raw": ""}, "upstream_cut", True, False),
        ({"garbage_after": 5}, "provider_garbage", True, False),
        ({"error_after": 5}, "provider_error_event", True, False),
        ({"raw": "hello", "content_type": "text/html"}, "provider_garbage", False, True),
        ({"raw": "{}", "content_type": "application/json"}, "provider_garbage", False, True),
        ({"raw": '{"error": "no"}', "content_type": "application/json"}, "provider_refused", False, True),
        ({"headers": {"Content-Encoding": "gzip"}}, "provider_garbage", True, False),
    ],
)
async def test_each_failure_has_its_code(
    upstream: ScriptedProvider, script: dict[str, Any], code: str, retryable: bool, refusal: bool
) -> None:
    error, seen = await refused(upstream.base_url, script)
    assert (error.code, error.retryable, error.refusal) == (code, retryable, refusal)
    assert len(upstream.calls) == 1
    # Whatever came before the failure was yielded before it was raised.
    said = next((script[key] for key in script if key.endswith("_after")), 0)
    assert text_of(seen) == script_text({"tokens": said})


async def test_a_refused_connection_is_unreachable() -> None:
    error, _ = await refused(f"http://127.0.0.1:{free_port()}/v1", {})
    assert (error.code, error.retryable, error.refusal) == ("provider_unreachable", True, False)
    assert "LOCAL_BASE_URL" in str(error)


async def test_a_connection_that_is_not_taken_in_time_is_a_connect_timeout() -> None:
    with full_listener() as port:
        error, _ = await refused(f"http://127.0.0.1:{port}/v1", {}, connect_timeout_s=0.3)
    assert (error.code, error.retryable) == ("provider_connect_timeout", True)


async def test_a_peer_that_hangs_up_before_answering_is_unreachable_and_not_a_timeout() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error, _ = await refused(f"http://127.0.0.1:{port}/v1", {})
    assert error.code == "provider_unreachable"


async def test_a_peer_that_speaks_no_http_is_garbage() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error, _ = await refused(f"http://127.0.0.1:{port}/v1", {})
    assert error.code == "provider_garbage"


@pytest.mark.parametrize("base_url", ["", "localhost:1/v1", "ftp://127.0.0.1/v1", "http://[::1/v1", "http:///v1"])
async def test_an_address_that_is_none_names_its_variable(base_url: str) -> None:
    error, _ = await refused(base_url, {})
    assert (error.code, error.refusal) == ("provider_unreachable", True)
    assert "LOCAL_BASE_URL" in str(error)


async def test_a_key_that_no_header_can_carry_is_an_auth_error_without_the_key(
    upstream: ScriptedProvider,
) -> None:
    for key in ("schlüssel-geheim", "two\nlines-geheim"):
        async with calm_client() as client:
            with pytest.raises(ProviderError) as caught:
                await anext(events_of(client, at(upstream.base_url, key), ask({})))
        assert caught.value.code == "provider_auth"
        assert "geheim" not in str(caught.value)
        assert "LOCAL_API_KEY" in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_the_providers_own_sentence_is_passed_on_without_the_key(
    upstream: ScriptedProvider, status: int
) -> None:
    body = {"error": {"message": "No good:\n{authorization} " + "x" * 10_000}}
    error, _ = await refused(upstream.base_url, {"status": status, "body": body})
    assert "No good: Bearer [key] x" in str(error)
    assert len(str(error)) <= 500


async def test_an_endless_error_body_is_read_up_to_its_bound_only() -> None:
    async def rant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 No\r\nContent-Type: text/plain\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"busy " * 1000)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(rant, "127.0.0.1", 0)
    async with server, asyncio.timeout(4):
        port = server.sockets[0].getsockname()[1]
        error, _ = await refused(f"http://127.0.0.1:{port}/v1", {})
    assert "busy busy" in str(error)
    assert len(str(error)) <= 500


async def test_a_key_echoed_by_an_error_in_the_stream_is_taken_out(upstream: ScriptedProvider) -> None:
    raw = 'data: {"error": {"message": "who is ' + KEY + '?"}}\n\n'
    error, _ = await refused(upstream.base_url, {"raw": raw})
    assert "who is [key]?" in str(error)


async def test_an_auth_error_names_the_variable_to_set(upstream: ScriptedProvider) -> None:
    error, _ = await refused(upstream.base_url, {"status": 401})
    assert "LOCAL_API_KEY" in str(error)
