"""The API's edge under callers that mean no good, on real sockets: nobody beside them waits, and they are told."""

import asyncio
import contextlib
import json
import random
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from api.http.connections import MAX_PIPELINED
from shared.config.api_keys import new_api_key
from shared.process.files import find_room
from tests.support.bystander import beside
from tests.support.proc import peak
from tests.support.processes import Child
from tests.support.sse_socket import SseSocket
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROWTH_MIB: Final = 60
PIECE: Final = b"a" * 65_536
HEAD: Final = b"Host: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack without keys, as it is shipped."""
    async with running_stack(tmp_path_factory.mktemp("edge")) as stack:
        yield stack


def address(api: Child) -> tuple[str, int]:
    parts = urlsplit(api.url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


async def say(api: Child, pieces: Iterable[bytes], within_s: float = 20.0) -> bytes:
    """Send all of this over one connection, or as much as is taken. Out: what was answered until the end."""
    reader, writer = await asyncio.open_connection(*address(api))
    answer = b""

    async def listen() -> None:
        nonlocal answer
        with contextlib.suppress(OSError):
            while piece := await reader.read(65_536):
                answer += piece

    listening = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(within_s):
            with contextlib.suppress(OSError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            await listening
            return answer
    finally:
        listening.cancel()
        writer.transport.abort()


def problem(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer[:300]
    assert b"connection: close" in head
    return int(head.split(b" ")[1]), json.loads(body)["code"]


def endless(before: bytes, mib: int = 30) -> Iterator[bytes]:
    yield before
    for _ in range(mib * 16):
        yield PIECE


POST = b"POST /v1/streams HTTP/1.1\r\n" + HEAD
TRAILERS = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (b"GET /", (414, "url_too_long")),
        (b"GET / HTTP/1.1\r\nX: ", (431, "head_too_large")),
        (b"GET / HTTP/1.1\r\n", (431, "head_too_large")),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2;", (431, "head_too_large")),
    ],
    ids=["url", "header", "header name", "chunk extension"],
)
async def test_an_endless_head_is_refused_where_it_arrives(
    open_stack: Stack, sent: bytes, wanted: tuple[int, str]
) -> None:
    api = open_stack.apis[0]
    before = peak(api.pid)
    async with beside(open_stack) as bystander:
        assert problem(await say(api, endless(sent))) == wanted
        await asyncio.sleep(0.5)
    assert bystander.longest_gap_s < bystander.allowed_s
    assert peak(api.pid) < before + GROWTH_MIB


async def test_endless_trailers_cost_nobody_anything(open_stack: Stack) -> None:
    api = open_stack.apis[0]
    before = peak(api.pid)
    async with beside(open_stack) as bystander:
        answer = await say(api, endless(TRAILERS + b"X: "))
        await asyncio.sleep(0.5)
    assert answer.split(b" ")[1] in (b"431", b"422")
    assert bystander.longest_gap_s < bystander.allowed_s
    assert peak(api.pid) < before + GROWTH_MIB


async def test_a_hundred_headers_are_taken_and_no_more(open_stack: Stack) -> None:
    api = open_stack.apis[0]
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    more = [b"X-%d: y\r\n" % n for n in range(99)]
    assert (await say(api, [head, *more[:98], b"\r\n"])).startswith(b"HTTP/1.1 200")
    assert problem(await say(api, [head, *more, b"\r\n"])) == (431, "head_too_large")
    long = b"X: " + b"y" * 60_000 + b"\r\n\r\n"
    assert (await say(api, [head, long])).startswith(b"HTTP/1.1 200")


async def test_bytes_that_are_no_http_get_a_problem_document(open_stack: Stack) -> None:
    assert problem(await say(open_stack.apis[0], [b"\x16\x03\x01 hello\r\n\r\n"])) == (400, "bad_http")


async def test_a_thousand_requests_at_once_on_one_connection_are_not_all_kept(open_stack: Stack) -> None:
    many = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 5000
    async with beside(open_stack) as bystander:
        answer = await say(open_stack.apis[0], [many])
    assert answer.count(b"200 OK") == MAX_PIPELINED + 1
    assert problem(answer[answer.rindex(b"HTTP/1.1 ") :]) == (400, "bad_http")
    assert bystander.longest_gap_s < bystander.allowed_s


async def test_a_refusal_never_stands_within_another_response(open_stack: Stack) -> None:
    """A viewer whose connection then brings garbage: its stream goes on to its end, and the refusal follows."""
    made = await open_stack.create({"tokens": 50, "interval_ms": 20, "name": "viewed"})
    reader, writer = await asyncio.open_connection(*address(open_stack.apis[0]))
    writer.write(f"GET {made['events_url']} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await reader.readuntil(b"started")
    writer.write(b"no http at all\r\n\r\n")
    async with asyncio.timeout(60):
        rest = await reader.read(-1)
    response, end, refusal = rest.partition(b"0\r\n\r\n")
    assert b"event: done" in response
    assert end
    assert b"HTTP/1.1" not in response
    assert refusal.startswith(b"HTTP/1.1 400")
    writer.close()
    await open_stack.client.delete(f"/v1/streams/{made['id']}")


# -- pages of other sites ---------------------------------------------------------------------------

FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_page_of_another_site_changes_nothing(open_stack: Stack, headers: dict[str, str]) -> None:
    made = await open_stack.create({"tokens": 1000, "interval_ms": 50, "name": f"spared {headers}"})
    await open_stack.until_said(made["id"])
    calls = len(open_stack.provider.calls)
    client = open_stack.client
    for method, path, body in (
        ("GET", "/chat/stream?prompt=x", None),
        ("POST", "/chat/stream", {"prompt": "x"}),
        ("POST", "/stream/aware", {"prompt": "x"}),
        ("POST", "/v1/streams", {"prompt": "x"}),
        ("POST", f"/v1/streams/{made['id']}/cancel", None),
        ("DELETE", f"/v1/streams/{made['id']}", None),
    ):
        answer = await client.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_page"), (method, path)
    assert (await open_stack.record(made["id"]))["status"] == "running"
    assert len(open_stack.provider.calls) == calls
    assert (await client.delete(f"/v1/streams/{made['id']}")).status_code == 204


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "{own}"}], ids=str
)
async def test_programs_and_its_own_page_go_on_working(open_stack: Stack, headers: dict[str, str]) -> None:
    headers = {name: value.format(own=open_stack.apis[0].url) for name, value in headers.items()}
    script = json.dumps({"tokens": 3, "name": f"own {headers}"})
    answer = await open_stack.client.get("/chat/stream", params={"prompt": script}, headers=headers)
    assert answer.status_code == 200
    assert "event: done" in answer.text
    made = await open_stack.client.post("/v1/streams", json={"prompt": script}, headers=headers)
    assert made.status_code == 202


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.1.2.3", "x@localhost"]
)
async def test_a_name_that_is_not_the_server_s_reads_nothing(open_stack: Stack, host: str) -> None:
    """A page whose name was given this machine's address is of the same origin for its browser."""
    for path in ("/", "/v1/models", "/chat/stream?prompt=x"):
        answer = await open_stack.client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (403, "host_not_allowed")
    probed = await open_stack.client.get("/healthz", headers={"Host": host})
    assert probed.status_code == 200, "load balancers ask by whatever name they know"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8000", "127.8.8.8"])
async def test_its_own_names_are_taken_with_any_port(open_stack: Stack, host: str) -> None:
    assert (await open_stack.client.get("/v1/models", headers={"Host": host})).status_code == 200


async def test_names_and_pages_that_are_listed_may_call(tmp_path: Path) -> None:
    async with running_stack(
        tmp_path,
        workers=0,
        HEADRACE_ALLOWED_HOSTS="chat.example, other.example",
        HEADRACE_CORS_ORIGINS="https://app.example",
    ) as stack:
        body = {"prompt": "x"}
        page = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
        assert (await stack.client.post("/v1/streams", json=body, headers=page)).status_code == 202
        other = page | {"Origin": "https://b.example"}
        assert (await stack.client.post("/v1/streams", json=body, headers=other)).status_code == 403
        for host, wanted in (("chat.example:8000", 200), ("Other.Example", 200), ("example", 403)):
            assert (await stack.client.get("/v1/models", headers={"Host": host})).status_code == wanted


async def test_a_server_with_keys_takes_any_host_and_page_and_no_key_from_a_trailer(tmp_path: Path) -> None:
    secret, entry = new_api_key("alice")
    async with running_stack(tmp_path, workers=0, HEADRACE_API_KEYS=entry) as stack:
        headers = {"Authorization": f"Bearer {secret}", "Host": "any.example", **FOREIGN[0]}
        assert (await stack.client.post("/v1/streams", json={"prompt": "x"}, headers=headers)).status_code == 202
        trailer = b"Authorization: Bearer " + secret.encode() + b"\r\n\r\n"
        body = b"f\r\n" + b'{"prompt": "x"}' + b"\r\n0\r\n"
        sent = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body + trailer
        assert problem(await say(stack.apis[0], [sent])) == (401, "key_missing")


# -- connections that wait --------------------------------------------------------------------------


def start_api_with_files(limit: str, stack: Stack, directory: Path) -> Child:
    """An API process in a shell whose limit of open files was set so."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        fd = listener.fileno()
        shell = ("sh", "-c", f'ulimit {limit} && exec "$0" "$@"', sys.executable, "-P", "-m", "api")
        child = Child("api-files", (*shell, "--fd", str(fd)), stack.env(), directory, pass_fds=(fd,))
        child.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    child.wait_ready(lambda: "files" in child.output())
    return child


@pytest.mark.parametrize("limit", ["-Sn 1024", "-n 1024"], ids=["soft", "hard"])
async def test_silent_connections_lock_nobody_out(open_stack: Stack, tmp_path: Path, limit: str) -> None:
    with contextlib.ExitStack() as held:
        api = held.enter_context(await asyncio.to_thread(start_api_with_files, limit, open_stack, tmp_path))
        for _ in range(1100):
            held.enter_context(socket.create_connection(address(api), 5))
        async with httpx.AsyncClient(base_url=api.url, timeout=5) as client:
            for _ in range(5):
                assert (await client.get("/healthz", headers={"Connection": "close"})).status_code == 200
                await asyncio.sleep(0.3)
        few = "too_few_files" in api.output()
        assert few == (limit == "-n 1024"), "where the limit can't be raised, it is said"
        if few:
            assert f"viewers={find_room(1024, 10_000).viewers}" in api.output()
            assert "connections_closed" in api.output()


# -- bodies -----------------------------------------------------------------------------------------

WRONG_PARTS = b'{"messages":[{"role":"user","content":[' + b",".join([b'{"type":"x"}'] * 38_000) + b"]}]}"
LISTS = b'{"prompt":"a","provider_options":{"a":[' + b",".join([b"[]"] * 330_000) + b"]}}"
TEXT = json.dumps({"prompt": "[{,'\\\"" * 20_000}).encode()


@pytest.mark.parametrize("body", [WRONG_PARTS, LISTS], ids=["wrong parts", "lists"])
async def test_refused_bodies_hold_up_nobody_and_are_charged(tmp_path: Path, body: bytes) -> None:
    async with running_stack(tmp_path) as stack:
        codes: dict[int, int] = {}
        json_type = {"Content-Type": "application/json"}

        async def hammer() -> None:
            for _ in range(15):
                answer = await stack.client.post("/v1/streams", content=body, headers=json_type, timeout=60)
                codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
                if answer.status_code == 429:
                    assert answer.json()["code"] == "rate_limited"
                    assert int(answer.headers["Retry-After"]) > 0

        async with beside(stack) as bystander:
            await asyncio.gather(*(hammer() for _ in range(20)))
        assert bystander.longest_gap_s < bystander.allowed_s
        # 6,000 creations a minute, and one for each 4 KiB of a refused body.
        units = 1 + len(body) // 4096
        assert 0 < codes[413] < 2 * 6000 / units + 30
        assert codes[429] > codes[413]


async def test_a_long_text_with_the_marks_of_json_in_it_is_no_body_of_many_values(open_stack: Stack) -> None:
    answer = await open_stack.client.post("/v1/streams", content=TEXT, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202, answer.text


# -- reading ----------------------------------------------------------------------------------------


async def test_opens_are_counted_and_who_is_refused_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with running_stack(tmp_path, HEADRACE_OPENS_PER_STREAM="60", HEADRACE_OPENS_PER_KEY="100") as stack:
        one, two, three = [await stack.create({"tokens": 3, "seed": n}) for n in range(3)]
        for made in (one, two, three):
            await stack.until_status(made["id"], "done")
        retries: list[int] = []

        async def opened(made: dict[str, Any]) -> bool:
            answer = await stack.client.get(made["events_url"])
            assert answer.status_code == 200
            if "event: done" in answer.text:
                return True
            assert "opened too often" in answer.text
            retries.append(int(answer.text.partition("retry: ")[2].split()[0]))
            return False

        async def opened_until_refused(made: dict[str, Any], most: int) -> int:
            """How often it opened first. Room for one more comes back each second, and for the key each 0.6 s: on a
            slow machine it is often."""
            for count in range(most):
                if not await opened(made):
                    return count
            raise AssertionError(f"never refused in {most} opens")

        assert await opened_until_refused(one, 200) >= 60
        while len(retries) < 10:
            await opened(one)
        assert all(retry >= 2000 for retry in retries)
        assert retries[9] > retries[0] + 1000, "it grows with those that are refused"
        # Another stream of the same key has its own, until the key's is used up.
        assert await opened_until_refused(two, 200) >= 30
        assert await opened_until_refused(three, 20) < 20, "far from its own 60"


async def test_a_snapshot_is_read_once_for_all_who_want_it(tmp_path: Path) -> None:
    """Viewers with cursors that were never there all need one, at the same time."""
    async with running_stack(tmp_path, HEADRACE_VIEWERS_PER_STREAM="0") as stack:  # whose script reads a hash, too
        made = await stack.create({"tokens": 3000, "times": 20, "name": "long"})
        record = await stack.until_status(made["id"], "done")
        url = stack.apis[0].url + made["events_url"]
        reads = await snapshots_read(stack)

        async def resynced() -> None:
            seen = await SseSocket.open(url, f"{random.randrange(1, 10**13)}-7", within_s=20)
            async with seen:
                body = b""
                async for piece in seen.body():
                    body += piece
                    if b"event: snapshot" in body:
                        return
            raise AssertionError(body[:200])

        async with beside(stack) as bystander:
            await asyncio.gather(*(resynced() for _ in range(200)))
            used = await snapshots_read(stack) - reads
        assert bystander.longest_gap_s < bystander.allowed_s
        assert 0 < used < 50, "one in a second, or two, for 200 viewers"
        assert (await view_to_end(stack.client, made["events_url"])).text == record["text"]


async def snapshots_read(stack: Stack) -> int:
    """How often a whole record was read from Redis, together with its snapshot."""
    async with Redis.from_url(stack.server.url) as redis:
        return int((await redis.info("commandstats")).get("cmdstat_hgetall", {}).get("calls", 0))
