"""The article's endpoints: its events to the letter, its client's lines unchanged, and nothing told twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from shared.protocol.sse import ServerSentEvent, SseParser
from tests.support.requirements import find_program
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = {"tokens": 40, "interval_ms": 5, "seed": 3}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("article"), workers=1, LOCAL_CONTINUES="prefill") as made:
        yield made


def parsed(raw: bytes) -> list[ServerSentEvent]:
    return list(SseParser().feed(raw))


def texts(events: list[ServerSentEvent]) -> str:
    return "".join(event.data for event in events if event.event == "message")


async def ask(stack: Stack, script: dict[str, Any], **params: Any) -> httpx.Response:
    return await stack.client.get("/chat/stream", params={"prompt": json.dumps(script), **params}, timeout=60)


async def test_the_answer_comes_as_raw_text_and_ends_with_an_empty_done(stack: Stack) -> None:
    answer = await ask(stack, SCRIPT)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parsed(answer.content)
    assert texts(events) == script_text(SCRIPT)
    assert [(event.event, event.data) for event in events if event.event != "message"] == [("done", "")]
    assert len(events) > 5
    assert answer.content.count(b"event: message\ndata: ") == len(events) - 1
    assert answer.content.startswith(b"retry: 1000\nid: ")
    assert answer.content.count(b"retry:") == 1


async def test_a_post_streams_the_same(stack: Stack) -> None:
    body = {"prompt": json.dumps(SCRIPT), "model": "local/smollm2"}
    answer = await stack.client.post("/chat/stream", json=body, timeout=60)
    assert texts(parsed(answer.content)) == script_text(SCRIPT)


async def test_the_articles_client_of_httpx_reads_it_unchanged(stack: Stack) -> None:
    script = {"text": "The tide comes in twice a day.", "interval_ms": 20}
    async with (
        httpx.AsyncClient(base_url=stack.apis[0].url, timeout=60) as client,
        client.stream("POST", "/chat/stream", json={"prompt": json.dumps(script)}) as response,
    ):
        said = [line[6:] async for line in response.aiter_lines() if line.startswith("data: ")]
    assert "".join(said) == script["text"]


async def test_curl_reads_it(stack: Stack) -> None:
    url = f"{stack.apis[0].url}/chat/stream?prompt=%7B%22tokens%22%3A5%7D"
    curl = await asyncio.create_subprocess_exec(
        find_program("curl"), "-sN", "--max-time", "30", url, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await curl.communicate()
    assert curl.returncode == 0
    assert texts(parsed(out)) == script_text({"tokens": 5})


async def pieces_of(stack: Stack, events: list[ServerSentEvent]) -> list[str]:
    """What the stream's worker wrote, piece by piece: one that was held up writes two tokens as one."""
    stream_id = events[-1].id.partition("/")[0]
    answer = await stack.client.get(f"/v1/streams/{stream_id}/events")
    return [
        json.loads(event.data)["text"] for event in SseParser().feed(answer.content) if event.event == "message"
    ]


def in_fours(pieces: list[str]) -> list[str]:
    assert len(pieces) > 4
    return ["".join(pieces[start : start + 4]) for start in range(0, len(pieces), 4)]


async def test_batches_hold_everything_and_the_rest_is_final(stack: Stack) -> None:
    script = {"tokens": 60, "interval_ms": 10, "seed": 5}
    events = parsed((await ask(stack, script, mode="batch", max_size=10, flush_interval=5)).content)
    assert {event.event for event in events} == {"batch", "final"}
    assert events[-1].event == "final"
    assert "".join(json.loads(event.data)["content"] for event in events) == script_text(script)
    pieces = await pieces_of(stack, events)
    assert len(pieces) > 10
    assert [json.loads(event.data)["content"] for event in events if event.event == "batch"] == [
        "".join(pieces[start : start + 10]) for start in range(0, len(pieces) - len(pieces) % 10, 10)
    ]


async def test_the_first_batch_is_as_large_as_the_others(stack: Stack) -> None:
    script = {"text": " ".join(f"tide-{n}" for n in range(10)), "interval_ms": 100}
    params = {"mode": "batch", "max_size": 4, "flush_interval": 30}
    events = parsed((await ask(stack, script, **params)).content)
    assert [json.loads(event.data)["content"] for event in events] == in_fours(await pieces_of(stack, events))


@pytest.mark.parametrize("method", ["GET", "POST", "AWARE"])
async def test_raw_text_comes_in_batches_too(stack: Stack, method: str) -> None:
    script = {"text": " ".join(f"tide-{n}" for n in range(10)), "interval_ms": 50}
    asked = {"prompt": json.dumps(script), "batch_size": 4, "batch_ms": 30_000}
    path = "/stream/aware" if method == "AWARE" else "/chat/stream"
    how = {"params": asked} if method == "GET" else {"json": asked}
    answer = await stack.client.request("GET" if method == "GET" else "POST", path, timeout=60, **how)
    messages = [event for event in parsed(answer.content) if event.event == "message"]
    assert [event.data for event in messages] == in_fours(await pieces_of(stack, messages))
    assert texts(parsed(answer.content)) == script["text"]


@pytest.mark.parametrize("path", ["/chat/stream", "/stream/aware"])
async def test_a_field_in_the_url_of_a_post_is_refused_and_not_ignored(stack: Stack, path: str) -> None:
    answer = await stack.client.post(path, params={"batch_ms": 200}, json={"prompt": "x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")
    assert "batch_ms: send it in the body" in answer.json()["detail"]


async def test_a_batch_is_sent_by_its_age_when_no_further_token_comes(stack: Stack) -> None:
    script = {"tokens": 6, "interval_ms": 1, "linger_ms": 4000, "seed": 2}
    came: list[float] = []
    loop = asyncio.get_running_loop()
    params = {"prompt": json.dumps(script), "mode": "batch", "max_size": 1000, "flush_interval": 0.2}
    async with stack.client.stream("GET", "/chat/stream", params=params, timeout=60) as response:
        parser = SseParser()
        async for chunk in response.aiter_bytes():
            came += [loop.time() for event in parser.feed(chunk) if event.event in ("batch", "final")]
    assert len(came) >= 2, "the article holds it until the next token, or the end"


async def test_an_event_source_that_comes_back_goes_on_with_the_same_answer(stack: Stack) -> None:
    script = {"tokens": 80, "interval_ms": 20, "name": "back", "seed": 8}
    got: list[ServerSentEvent] = []
    last = ""
    while not got or got[-1].event != "done":
        headers = {"Last-Event-ID": last} if last else {}
        params = {"prompt": json.dumps(script)}
        async with stack.client.stream(
            "GET", "/chat/stream", params=params, headers=headers, timeout=60
        ) as response:
            assert response.status_code == 200
            parser, count = SseParser(), 0
            async for chunk in response.aiter_bytes():
                new = list(parser.feed(chunk))
                got += new
                count += len(new)
                last = parser.last_id or last
                if count >= 15:
                    break
    assert texts(got) == script_text(script)
    assert len(stack.calls("back")) == 1, "one generation, however often it came back"
    again = await stack.client.get("/chat/stream", params={"prompt": "x"}, headers={"Last-Event-ID": last})
    assert again.status_code == 204
    in_the_url = await stack.client.get("/chat/stream", params={"prompt": "x", "last_event_id": last})
    assert in_the_url.status_code == 204


async def test_a_connection_lost_before_the_first_token_starts_no_second_generation(stack: Stack) -> None:
    script = {"tokens": 3, "hang_before_first": True, "name": "early", "seed": 8}
    params = {"prompt": json.dumps(script)}
    parser = SseParser()
    async with stack.client.stream("GET", "/chat/stream", params=params) as response:
        async for chunk in response.aiter_bytes():
            assert list(parser.feed(chunk)) == []
            if parser.last_id:
                break
    headers = {"Last-Event-ID": parser.last_id}
    coming = asyncio.create_task(stack.client.get("/chat/stream", params=params, headers=headers, timeout=60))
    await stack.until_called("early")
    stack.provider.release("early")
    assert texts(parsed((await coming).content)) == script_text(script)
    assert len(stack.calls("early")) == 1


async def test_the_models_error_is_an_event(stack: Stack) -> None:
    answer = await ask(stack, {"tokens": 5, "status": 400})
    (event,) = parsed(answer.content)
    assert answer.status_code == 200
    assert event.event == "error"
    assert json.loads(event.data)["code"] == "provider_refused"


@pytest.mark.parametrize(
    ("method", "params", "status", "code"),
    [
        ("GET", {}, 422, "invalid_request"),
        ("GET", {"prompt": "x", "model": "nobody/none"}, 422, "unknown_provider"),
        ("GET", {"prompt": "x", "mode": "other"}, 422, "invalid_request"),
        ("GET", {"prompt": "x", "max_size": 0}, 422, "invalid_request"),
        ("GET", {"prompt": "x", "batch_ms": 0}, 422, "invalid_request"),
        ("GET", {"prompt": "x", "mdoe": "batch"}, 422, "unknown_field"),
    ],
)
async def test_bad_asks_are_clear(stack: Stack, method: str, params: dict, status: int, code: str) -> None:
    answer = await stack.client.request(method, "/chat/stream", params=params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_last_event_id_that_is_none_is_a_400_and_an_unknown_stream_a_404(stack: Stack) -> None:
    for last, status in (("A" * 24 + "/x", 400), ("A" * 24 + "/1-1", 404), ("nonsense", 404)):
        answer = await stack.client.get("/chat/stream", params={"prompt": "x"}, headers={"Last-Event-ID": last})
        assert answer.status_code == status, last
        if status == 400:
            assert "/1795341803123-7," in answer.json()["detail"], "as ids are here: the stream, and the cursor"


async def test_the_aware_stream_names_itself_first_and_takes_heartbeats(stack: Stack) -> None:
    script = {"tokens": 10, "interval_ms": 20, "seed": 4}
    async with stack.client.stream(
        "POST", "/stream/aware", json={"prompt": json.dumps(script)}, timeout=60
    ) as response:
        parser = SseParser()
        events: list[ServerSentEvent] = []
        async for chunk in response.aiter_bytes():
            events += parser.feed(chunk)
            if events and len(events) < 3:
                beat = await stack.client.post("/stream/heartbeat", params={"stream_id": events[0].data})
                assert (beat.status_code, beat.json()) == (200, {"status": "ok"})
    assert events[0].event == "stream_id"
    assert texts(events) == script_text(script)
    assert events[-1].event == "done"
    assert (await stack.record(events[0].data))["text"] == script_text(script)


async def test_a_killed_worker_doubles_no_text_here(stack: Stack) -> None:
    script = {"tokens": 60, "interval_ms": 5, "hang_after": 30, "name": "kill", "numbered": True}
    reading = asyncio.create_task(ask(stack, script))
    await stack.until_sent("kill", 10)
    stack.workers[-1].kill()
    stack.provider.release("kill")
    await stack.add_worker()
    events = parsed((await asyncio.wait_for(reading, 90)).content)
    assert texts(events) == script_text(script, call=1)
    assert events[-1].event == "done"


async def test_an_answer_that_can_not_be_carried_on_ends_with_an_error_and_no_text_twice(
    tmp_path: Path,
) -> None:
    async with running_stack(tmp_path, workers=1) as stack:
        script = {"tokens": 60, "interval_ms": 20, "name": "cut", "numbered": True, "cut_after": 20}
        events = parsed((await ask(stack, script)).content)
        assert events[-1].event == "error"
        assert script_text(script, call=1).startswith(texts(events))
        assert len(stack.calls("cut")) == 1
