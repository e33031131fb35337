"""The doors: keys, whose streams are whose, and read tokens, on a real server."""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.config.api_keys import new_api_key
from shared.protocol.read_token import sign_token
from shared.store.keys import Keys
from tests.support.processes import Child, base_env
from tests.support.routes import ONE_STREAM, ROUTES
from tests.support.stack import Stack, running_stack
from tests.support.viewing import Seen, view, view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALICE, ALICE_ENTRY = new_api_key("alice")
BOB, BOB_ENTRY = new_api_key("bob")
SECRET = "a secret of the server"
NOBODY = "A" * 24
HEALTH = ("/healthz", "/readyz", "/readyz/viewers", "/readyz/creates")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack with two keys; its client is alice."""
    async with running_stack(
        tmp_path_factory.mktemp("doors"),
        HEADRACE_API_KEYS=f"{ALICE_ENTRY},{BOB_ENTRY}",
        HEADRACE_SECRET=SECRET,
        HEADRACE_CORS_ORIGINS="https://app.example",
    ) as stack:
        stack.client.headers.update(bearer(ALICE))
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(closed: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with httpx.AsyncClient(base_url=closed.apis[0].url, timeout=60) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mine(closed: Stack) -> dict[str, Any]:
    """A finished stream of alice's."""
    made = await closed.create({"tokens": 8, "seed": 4})
    await closed.until_status(made["id"], "done")
    return made


async def refusal(answer: httpx.Response) -> tuple[int, str]:
    if answer.request.url.path.startswith("/api/chat"):
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        return answer.status_code, answer.headers["x-headrace-error"]
    if answer.request.url.path.startswith(("/v1/chat/completions", "/v1/responses")):
        assert set(answer.json()) == {"error"}
        return answer.status_code, answer.json()["error"]["code"]
    if answer.request.url.path.startswith("/ag-ui"):
        assert answer.json()["type"] == "RUN_ERROR"
    else:
        assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_the_list_of_routes_is_the_whole_list(closed: Stack) -> None:
    paths = (await closed.client.get("/openapi.json")).json()["paths"]
    named = {path: path.replace("{chat_id}", "a-chat") for path in paths}
    documented = {
        (method.upper(), re.sub(r"{\w+}", "{id}", named[path])) for path in paths for method in paths[path]
    }
    assert documented - set(ROUTES) == {("GET", path) for path in HEALTH}


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_is_closed_without_a_key(
    stranger: httpx.AsyncClient, mine: dict[str, Any], method: str, path: str
) -> None:
    answer = await stranger.request(method, path.format(id=mine["id"]))
    assert await refusal(answer) == (401, "key_missing")
    assert "realm" in answer.headers["www-authenticate"]


@pytest.mark.parametrize("query", ["token=", "token", "a=1&token=&b=2", "tokens=1.2", "a=token=1"])
async def test_a_query_without_a_token_is_no_token(
    stranger: httpx.AsyncClient, mine: dict[str, Any], query: str
) -> None:
    answer = await stranger.get(f"/v1/streams/{mine['id']}/events?{query}")
    assert await refusal(answer) == (401, "key_missing")


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "header",
    ["Bearer hr_wrong", f"Basic {ALICE}", ALICE, "Bearer", f"Bearer {ALICE}x"],
    ids=["unknown", "basic", "bare", "empty", "longer"],
)
async def test_a_wrong_key_opens_nothing(
    stranger: httpx.AsyncClient, mine: dict[str, Any], method: str, path: str, header: str
) -> None:
    answer = await stranger.request(method, path.format(id=mine["id"]), headers={"Authorization": header})
    assert await refusal(answer) == (401, "key_unknown")
    assert ALICE not in answer.text


@pytest.mark.parametrize("path", ["/", *HEALTH, "/static/app.js", "/static/docs.css"])
async def test_health_the_page_and_static_files_need_no_key(stranger: httpx.AsyncClient, path: str) -> None:
    answer = await stranger.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/static/../v1/models", "/static/%2e%2e/v1/models", "//v1/models", "/healthz/"])
async def test_an_open_path_is_no_way_around(closed: Stack, path: str) -> None:
    """As raw bytes: a client would tidy the path."""
    host, port = closed.apis[0].url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.split()[1] in (b"401", b"404")
    assert b"smollm2" not in answer


@pytest.mark.parametrize("path", ["/docs", "/metrics", "/openapi.json"])
async def test_a_page_opened_by_its_address_takes_the_key_as_a_basic_password(
    stranger: httpx.AsyncClient, path: str
) -> None:
    assert (await stranger.get(path)).headers["www-authenticate"].startswith("Basic")
    answer = await stranger.get(path, auth=("anything", ALICE))
    assert answer.status_code == 200
    assert await refusal(await stranger.get(path, auth=("alice", "wrong"))) == (401, "key_unknown")


@pytest.mark.parametrize(("method", "path"), ONE_STREAM)
async def test_another_keys_stream_does_not_exist(
    closed: Stack, stranger: httpx.AsyncClient, mine: dict[str, Any], method: str, path: str
) -> None:
    answers = [
        await stranger.request(method, path.format(id=stream_id), headers=bearer(BOB))
        for stream_id in (mine["id"], NOBODY)
    ]
    assert await refusal(answers[0]) == (404, "stream_not_found")
    # OpenAI's form names the id that was asked for.
    told = [
        one.content.replace(made.encode(), b"") for one, made in zip(answers, (mine["id"], NOBODY), strict=True)
    ]
    assert told[0] == told[1]
    assert answers[0].headers.keys() == answers[1].headers.keys()
    assert (await closed.record(mine["id"]))["status"] == "done", "and nothing happened to it"


async def test_one_idempotency_key_of_two_owners_is_two_streams(closed: Stack, stranger: httpx.AsyncClient) -> None:
    script = {"tokens": 1}
    one = await closed.create(script, headers={"Idempotency-Key": "same"})
    two = await closed.create(script, headers={"Idempotency-Key": "same", **bearer(BOB)})
    assert one["id"] != two["id"]
    assert (await stranger.get(two["url"], headers=bearer(BOB))).status_code == 200


async def test_one_run_id_of_two_owners_is_two_runs(closed: Stack, stranger: httpx.AsyncClient) -> None:
    message = {"id": "1", "role": "user", "content": '{"tokens": 1}'}
    run = {"threadId": "t", "runId": "same", "messages": [message], "forwardedProps": {"model": "local/scripted"}}
    assert (await closed.client.post("/ag-ui", json=run)).status_code == 200
    back = {"Last-Event-ID": "0-0", **bearer(BOB)}
    assert await refusal(await stranger.post("/ag-ui", json=run, headers=back)) == (404, "stream_not_found")
    assert await refusal(await stranger.get("/ag-ui/same", headers=bearer(BOB))) == (404, "stream_not_found")
    other = await stranger.post("/ag-ui", json=run, headers=bearer(BOB))
    assert (
        other.headers["x-headrace-stream"] != (await closed.client.get("/ag-ui/same")).headers["x-headrace-stream"]
    )


# -- read tokens ------------------------------------------------------------------------------------


async def test_events_url_opens_its_stream_without_a_key(stranger: httpx.AsyncClient, closed: Stack) -> None:
    made = await closed.create({"tokens": 30, "interval_ms": 5})
    seen = await view_to_end(stranger, made["events_url"], drop_every=10)
    assert seen.types[-1] == "done"
    assert seen.text == (await closed.record(made["id"]))["text"]


async def test_a_token_reads_events_and_nothing_else(stranger: httpx.AsyncClient, mine: dict[str, Any]) -> None:
    token = mine["events_url"].partition("?")[2]
    for method, path in ROUTES:
        answer = await stranger.request(method, f"{path.format(id=mine['id'])}?{token}")
        expected = 200 if path.endswith("/events") else 401
        assert answer.status_code == expected, path
    assert (await stranger.post(f"{mine['url']}/events?{token}")).status_code == 401


async def test_a_token_of_another_stream_is_invalid(
    stranger: httpx.AsyncClient, closed: Stack, mine: dict[str, Any]
) -> None:
    other = await closed.create({"tokens": 1})
    token = other["events_url"].partition("?")[2]
    answer = await stranger.get(f"{mine['url']}/events?{token}")
    assert await refusal(answer) == (401, "token_invalid")


@pytest.mark.parametrize("tampered", ["", "x", "9999999999.", "1.2.3", "9" * 5000, "%00", "ü"])
async def test_a_tampered_token_is_invalid(
    stranger: httpx.AsyncClient, mine: dict[str, Any], tampered: str
) -> None:
    answer = await stranger.get(f"{mine['url']}/events", params={"token": tampered})
    assert answer.status_code == 401
    head, _, mac = mine["events_url"].partition("token=")[2].partition(".")
    answer = await stranger.get(f"{mine['url']}/events", params={"token": f"{int(head) + 1}.{mac}"})
    assert await refusal(answer) == (401, "token_invalid")


async def test_a_token_of_a_stream_that_is_gone_is_a_404(stranger: httpx.AsyncClient, closed: Stack) -> None:
    made = await closed.create({"tokens": 1})
    await closed.until_status(made["id"], "done")
    assert (await closed.client.delete(made["url"])).status_code == 204
    assert await refusal(await stranger.get(made["events_url"])) == (404, "stream_not_found")


async def test_a_token_does_not_open_the_next_stream_of_the_same_idempotency_key(
    stranger: httpx.AsyncClient, closed: Stack
) -> None:
    headers = {"Idempotency-Key": "again"}
    first = await closed.create({"tokens": 3, "seed": 1}, headers=headers)
    repeated = await closed.create({"tokens": 3, "seed": 1}, headers=headers)
    assert (await stranger.get(repeated["events_url"])).status_code == 200, "a create that met it gives a token too"
    seen = await view_to_end(stranger, first["events_url"])
    assert (await closed.client.delete(first["url"])).status_code == 204
    second = await closed.create({"tokens": 3, "seed": 2}, headers=headers)
    assert second["id"] == first["id"]
    for cursor in ({}, {"Last-Event-ID": seen.ids[0]}):
        answer = await stranger.get(first["events_url"], headers=cursor)
        assert await refusal(answer) == (401, "token_invalid")
    assert (await stranger.get(second["events_url"])).status_code == 200


async def test_an_expired_token_stops_new_viewers_and_not_those_that_come_back(
    stranger: httpx.AsyncClient, closed: Stack
) -> None:
    made = await closed.create({"tokens": 20, "seed": 9})
    seen = await view(stranger, made["events_url"], most=5)
    async with Redis.from_url(closed.server.url) as redis:
        created_ms = int(await redis.hget(Keys("headrace").stream(made["id"]).meta, "created_ms"))
    expired = sign_token(SECRET.encode(), made["id"], created_ms, int(time.time()) - 1)
    url = f"{made['url']}/events?token={expired}"
    for made_up in ("1-0", f"{created_ms + 3_600_000}-0", f"{2**64 - 1}-{2**64 - 1}"):
        answer = await stranger.get(url, headers={"Last-Event-ID": made_up})
        assert await refusal(answer) == (401, "token_expired"), made_up
    assert await refusal(await stranger.get(url)) == (401, "token_expired")
    await view(stranger, url, seen)
    assert seen.ended
    assert seen.text == (await closed.record(made["id"]))["text"]
    ancient = sign_token(SECRET.encode(), made["id"], created_ms, 1000)
    headers = {"Last-Event-ID": seen.ids[3]}
    answer = await stranger.get(f"{made['url']}/events?token={ancient}", headers=headers)
    assert await refusal(answer) == (401, "token_expired")


async def test_the_record_tells_a_request_by_a_hash_that_only_the_secret_can_make(closed: Stack) -> None:
    made = await closed.create({"tokens": 1000, "interval_ms": 50})
    async with Redis.from_url(closed.server.url) as redis:
        meta = Keys("headrace").stream(made["id"]).meta
        request, told = await redis.hmget(meta, "request", "request_hash")
    await closed.client.delete(made["url"])
    assert told.decode() != hashlib.sha256(request).hexdigest()
    assert told.decode() == hmac.new(SECRET.encode(), b"request:" + request, hashlib.sha256).hexdigest()


async def test_a_token_is_renewed_without_losing_the_cursor(stranger: httpx.AsyncClient, closed: Stack) -> None:
    made = await closed.create({"tokens": 40, "interval_ms": 5})
    seen: Seen = await view(stranger, made["events_url"], most=8)
    renewed = await closed.client.post(f"{made['url']}/token")
    assert renewed.status_code == 200
    assert renewed.json()["expires_in_s"] == 900
    url = f"{renewed.json()['events_url']}&last_event_id={seen.last_id}"
    async with stranger.stream("GET", url) as response:
        first = next(line for line in [line async for line in response.aiter_lines()] if line.startswith("id: "))
    assert first == f"id: {seen.last_id.split('-')[0]}-{int(seen.last_id.split('-')[1]) + 1}"


async def test_secrets_and_tokens_stay_out_of_the_logs(closed: Stack, mine: dict[str, Any]) -> None:
    said = "".join(child.output() for child in [*closed.apis, *closed.workers])
    assert ALICE not in said
    assert mine["events_url"].partition("token=")[2] not in said
    assert "token=" not in said


# -- what else stands at the door ---------------------------------------------------------------------


async def test_other_sites_may_call_only_where_they_are_named(stranger: httpx.AsyncClient) -> None:
    sent = "authorization, content-type, idempotency-key, last-event-id, x-run-id"
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": sent}
    named = await stranger.options("/v1/streams", headers={"Origin": "https://app.example", **asks})
    assert (named.status_code, named.headers["access-control-allow-origin"]) == (200, "https://app.example")
    other = await stranger.options("/v1/streams", headers={"Origin": "https://evil.example", **asks})
    assert "access-control-allow-origin" not in other.headers
    refused = await stranger.get("/v1/models", headers={"Origin": "https://app.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    for name in ("Retry-After", "X-Headrace-Stream"):
        assert name in refused.headers["access-control-expose-headers"]


async def test_the_docs_are_whole_under_their_own_policy(closed: Stack) -> None:
    answer = await closed.client.get("/docs")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    for method, path in ROUTES:
        if path.startswith("/v1/"):
            name = "{response}" if path.startswith("/v1/responses") else "{stream_id}"
            assert path.replace("{id}", name) in answer.text, method


async def chunks(count: int, sent: list[int]) -> AsyncIterator[bytes]:
    yield b'{"prompt": "'
    for number in range(count):
        sent.append(number)
        yield b"x" * 65536


@pytest.mark.parametrize("path", ["/v1/streams", f"/v1/streams/{NOBODY}/cancel", "/ag-ui"])
async def test_a_chunked_body_that_is_too_large_gets_its_answer(closed: Stack, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await closed.client.post(path, content=chunks(40, []), headers=headers)
    assert await refusal(answer) == (413, "body_too_large")
    assert (await closed.client.get("/v1/models")).status_code == 200


async def test_a_body_without_an_end_is_cut(closed: Stack) -> None:
    sent: list[int] = []
    async with httpx.AsyncClient(base_url=closed.apis[0].url, headers=bearer(ALICE), timeout=60) as client:
        try:
            answer = await client.post("/v1/streams", content=chunks(1600, sent))
            assert answer.status_code == 413
        except httpx.TransportError:
            pass
    assert 8 * 16 < len(sent) < 800, "100 MB were offered, at most 50 MB taken"


async def test_an_api_without_keys_does_not_listen_for_others(tmp_path: Path) -> None:
    env = base_env(HEADRACE_HOST="0.0.0.0", HEADRACE_PORT="0")
    with Child("open-api", ("api",), env, tmp_path, forked=True) as child:
        assert child.wait(60) == 1
        assert "headrace key new" in child.output()


async def test_up_without_keys_does_not_listen_for_others(tmp_path: Path) -> None:
    argv = ("cli", "up", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path / "d"))
    with Child("open-up", argv, base_env(), tmp_path, forked=True) as child:
        assert child.wait(60) == 2
        assert "headrace key new" in child.output()
    assert not (tmp_path / "d").exists()
