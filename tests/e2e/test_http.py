"""HTTP as it is spoken by clients nobody here wrote: old ones, half-closed ones, HEAD, and those that only listen
when they have said everything. On real sockets, for a library would hide what is sent."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio

from shared.protocol.sse import SseParser
from tests.support.processes import Child
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHIN_S: Final = 60.0
SCRIPT: Final = {"tokens": 30, "interval_ms": 10, "seed": 7}
LARGE: Final = 20 * 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("http")) as made:
        yield made


def connect(api: Child) -> socket.socket:
    parts = urlsplit(api.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=WITHIN_S)


def exchange(api: Child, request: bytes, *, half_close: bool = False) -> tuple[str, list[tuple[str, str]], bytes]:
    """Send this, and read until the server closes. Out: the status line, the headers, the body."""
    with closing(connect(api)) as sock:
        sock.sendall(request)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    return status, [(name.lower(), value.strip()) for name, _, value in pairs], body


def said(body: bytes) -> str:
    events = SseParser().feed(body)
    return "".join(json.loads(event.data).get("text", "") for event in events if event.event == "message")


async def ask(stack: Stack, request: str, *, half_close: bool = False) -> tuple[str, dict[str, str], bytes]:
    """One request; each header of the answer must be there once."""
    status, headers, body = await asyncio.to_thread(
        exchange, stack.apis[0], request.encode(), half_close=half_close
    )
    assert len(headers) == len(dict(headers)), headers
    return status, dict(headers), body


@pytest.mark.parametrize("connection", ["", "Connection: keep-alive\r\n"])
async def test_http_1_0_gets_an_event_stream_without_chunks(stack: Stack, connection: str) -> None:
    made = await stack.create(SCRIPT)
    status, headers, body = await ask(stack, f"GET {made['events_url']} HTTP/1.0\r\n{connection}\r\n")
    assert status.endswith("200 OK")
    assert "transfer-encoding" not in headers
    assert headers["connection"] == "close"
    assert body.startswith(b"retry: ")
    assert said(body) == script_text(SCRIPT)
    assert b"event: done" in body


async def test_http_1_0_gets_a_record_without_chunks(stack: Stack) -> None:
    _, headers, body = await ask(stack, "GET /v1/models HTTP/1.0\r\n\r\n")
    assert int(headers["content-length"]) == len(body)
    assert headers["connection"] == "close"


async def test_an_event_stream_tells_proxies_to_leave_it_alone(stack: Stack) -> None:
    made = await stack.create(SCRIPT)
    for connection in ("", "Connection: close\r\n"):
        request = f"GET {made['events_url']} HTTP/1.1\r\nHost: localhost\r\n{connection}\r\n"
        _, headers, body = await ask(stack, request, half_close=True)
        assert headers["cache-control"] == "no-store, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert headers["transfer-encoding"] == "chunked"
        assert headers.get("connection", "") == ("close" if connection else "")
        assert body.endswith(b"\r\n0\r\n\r\n")


# -- HEAD ---------------------------------------------------------------------------------------------


async def test_head_answers_as_get_does_on_every_path_that_has_one(stack: Stack) -> None:
    made = await stack.create(SCRIPT)
    await stack.until_status(made["id"], "done")
    schema = (await stack.client.get("/openapi.json")).json()["paths"]
    paths = [path for path in schema if "get" in schema[path]]
    assert len(paths) > 5
    for path in ["/", "/docs", "/static/app.js", "/metrics", "/openapi.json", *paths]:
        url = path.replace("{stream_id}", made["id"])
        if path == "/chat/stream":
            continue
        status, headers, body = await ask(
            stack, f"HEAD {url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        async with stack.client.stream("GET", url) as got:
            assert int(status.split()[1]) == got.status_code, url
            assert got.status_code == 200 or "{" in url or url == "/ag-ui", (
                url
            )  # those need a run, chat or response
            assert headers.get("content-type") == got.headers.get("content-type")
            if url != "/metrics":  # which counts
                assert headers.get("content-length") == got.headers.get("content-length"), url
        assert body == b"", url


async def test_head_of_what_would_make_a_stream_makes_none(stack: Stack) -> None:
    before = len(stack.provider.calls)
    url = f"/chat/stream?prompt={quote(json.dumps(SCRIPT))}"
    status, headers, body = await ask(stack, f"HEAD {url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status.endswith("200 OK")
    assert headers["content-type"].startswith("text/event-stream")
    assert body == b""
    await asyncio.sleep(0.3)
    assert len(stack.provider.calls) == before


async def test_head_is_refused_where_there_is_no_get(stack: Stack) -> None:
    status, _, body = await ask(stack, "HEAD /v1/streams HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status.split()[1] == "405"
    assert body == b""


# -- half-closed connections --------------------------------------------------------------------------


async def test_a_client_that_closes_its_sending_side_is_answered(stack: Stack) -> None:
    made = await stack.create(SCRIPT)
    for version in ("1.0", "1.1"):
        for url in ("/v1/models", made["events_url"]):
            request = f"GET {url} HTTP/{version}\r\nHost: localhost\r\n\r\n"
            status, _, body = await ask(stack, request, half_close=True)
            assert status.split()[1] == "200"
            assert (b"event: done" in body) == (url == made["events_url"])


async def test_pipelined_requests_are_all_answered_to_who_closed_the_sending_side(stack: Stack) -> None:
    request = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3
    status, _, body = await asyncio.to_thread(exchange, stack.apis[0], request.encode(), half_close=True)
    assert status.split()[1] == "200"
    assert body.count(b"HTTP/1.1 200 OK") == 2


async def until_viewers(stack: Stack, count: int, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while await stack.viewers() != count:
            await asyncio.sleep(0.05)


async def test_a_viewer_that_left_is_not_taken_for_a_half_closed_one(stack: Stack) -> None:
    """Nothing is said in the stream meanwhile: only a sign of life can tell that nobody is there."""
    made = await stack.create({"tokens": 2, "interval_ms": 20_000})
    request = f"GET {made['events_url']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    socks = [connect(stack.apis[0]) for _ in range(20)]
    for sock in socks:
        sock.sendall(request)
    await until_viewers(stack, 20, WITHIN_S)
    for sock in socks:
        await asyncio.to_thread(sock.recv, 65536)
    socks[0].shutdown(socket.SHUT_WR)
    for sock in socks[1:]:
        sock.close()
    await until_viewers(stack, 1, 5.0)
    await asyncio.sleep(1.0)
    assert await stack.viewers() == 1
    socks[0].close()
    await until_viewers(stack, 0, 5.0)
    await stack.client.delete(made["url"])


# -- paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/streams/", "/docs/", "/healthz/", "/chat/stream/", "/static"])
async def test_a_slash_too_many_is_no_redirect(stack: Stack, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status, headers, body = await ask(stack, request)
    assert status.split()[1] == "404"
    assert "location" not in headers
    assert json.loads(body)["code"] == "not_found"


# -- bodies that are too large ------------------------------------------------------------------------


def post(api: Child, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    """As a program without care does it: everything is written before anything is read."""
    with closing(http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=WITHIN_S)) as connection:
        connection.request("POST", "/v1/streams", body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def pieces(count: int, size: int, pause_s: float = 0.0) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * size
        time.sleep(pause_s)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("how", ["at once", "in pieces", "in chunks", "slowly", "slowly in chunks"])
async def test_a_client_that_writes_everything_first_reads_the_refusal(
    stack: Stack, how: str, connection: str
) -> None:
    api = stack.apis[0]
    body = b"x" * LARGE if how == "at once" else pieces(20, LARGE // 20)
    if how.startswith("slowly"):
        body = pieces(40, 64 * 1024, 0.05)
    size = 40 * 64 * 1024 if how.startswith("slowly") else LARGE
    headers = (
        {"Connection": connection}
        if how.endswith("chunks")
        else {"Connection": connection, "Content-Length": str(size)}
    )
    status, told = await asyncio.to_thread(post, api, body, **headers)
    assert (status, told["code"]) == (413, "body_too_large")


# -- proxies in front ---------------------------------------------------------------------------------


async def create_as(api: Child, told: str) -> int:
    request = f"POST /v1/models HTTP/1.1\r\n{told}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    status, _, _ = await asyncio.to_thread(exchange, api, request.encode())
    return int(status.split()[1])


async def test_a_proxy_s_headers_are_believed_only_from_trusted_addresses(tmp_path: Path) -> None:
    """Without keys: the name that was asked for, and the page that asks, must be this server's own."""
    ours = "Host: 127.0.0.1\r\nX-Forwarded-Host: chat.example\r\nOrigin: https://chat.example"
    rebound = "Host: evil.example\r\nX-Forwarded-Host: localhost"
    names = {"HEADRACE_ALLOWED_HOSTS": "chat.example"}
    async with running_stack(tmp_path, workers=0, **names) as stack:
        assert await create_as(stack.apis[0], ours) == 403
        assert await create_as(stack.apis[0], rebound) == 403

        stack.settings["HEADRACE_TRUSTED_PROXIES"] = "10.0.0.0/8, 127.0.0.1"
        trusting = await stack.add_api()
        assert await create_as(trusting, ours) == 405
        assert await create_as(trusting, rebound) == 405
        assert await create_as(trusting, "Host: 127.0.0.1\r\nX-Forwarded-Host: evil.example") == 403
