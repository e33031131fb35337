"""OpenAI's chat completions, asked by the clients that people have."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from shared.protocol.sse import SseParser
from tests.support.clients import run_client
from tests.support.script import TOOL_ARGUMENTS, script_reasoning, script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "local/scripted"
SCRIPT = {"tokens": 12, "seed": 3, "reasoning_tokens": 3, "tool_call": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("openai"), HEADRACE_GRACE_S="2") as made:
        yield made


async def test_openais_library_reads_text_reasoning_tools_and_usage(stack: Stack) -> None:
    told = await run_client("openai_chat", stack.openai_url, MODEL, json.dumps(SCRIPT))
    text = script_text(SCRIPT)
    assert told["streamed"] == text
    assert told["reasoning"] == "".join(script_reasoning(SCRIPT))
    assert (len(told["ids"]), told["created"], told["role"]) == (1, 1, "assistant")
    assert told["ids"][0].startswith("chatcmpl-")
    assert told["finish"] == ["tool_calls"]
    assert told["no usage"]
    assert told["usage"]["total_tokens"] > 0
    for message in (told["accumulated"], told["plain"]):
        assert message["content"] == text
        (call,) = message["tool_calls"]
        assert (call["function"]["name"], call["function"]["arguments"]) == ("look_up", TOOL_ARGUMENTS)
    assert told["plain"]["reasoning_content"] == told["reasoning"]
    assert told["plain usage"] == told["usage"]
    assert MODEL.split("/")[0] in {name.split("/")[0] for name in told["models"]}


async def test_a_failure_in_mid_answer_is_raised_by_openais_library(stack: Stack) -> None:
    script = {"tokens": 9, "garbage_after": 4}
    told = await run_client("openai_chat", stack.openai_url, MODEL, json.dumps(script))
    assert told["error"][:2] == ["APIError", "upstream_cut"] or told["error"][1] == "provider_garbage"


@pytest.mark.parametrize(
    ("model", "raised"),
    [("nowhere/x", ["NotFoundError", 404, "unknown_provider"])],
)
async def test_what_is_refused_is_raised_as_with_openai(stack: Stack, model: str, raised: list) -> None:
    told = await run_client("openai_chat", stack.openai_url, model, "hello")
    assert told["status"][:3] == raised


def chat(**fields: object) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (chat(n=2), 400, "n"),
        (chat(logprobs=True), 400, "logprobs"),
        (chat(messages=[]), 400, "messages"),
        (chat(temperature=9), 400, "temperature"),
        (chat(stream="yes"), 400, "stream"),
        (chat(modalities=["audio"]), 400, "modalities"),
        ({"model": MODEL}, 400, "messages"),
        ([], 400, "body"),
    ],
)
async def test_bad_input_is_told_in_openais_form(stack: Stack, body: object, status: int, param: str) -> None:
    answer = await stack.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status
    told = answer.json()
    assert set(told) == {"error"}
    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert (told["error"]["type"], told["error"]["param"]) == ("invalid_request_error", param)


async def test_what_changes_nothing_is_passed_over(stack: Stack) -> None:
    body = chat(n=1, logprobs=False, store=True, metadata={"a": "b"}, modalities=["text"], stream_options=None)
    body["messages"] = [{"role": "user", "content": json.dumps({"tokens": 2})}]
    answer = await stack.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == script_text({"tokens": 2})


async def test_who_knows_resumes_behind_any_chunk(stack: Stack) -> None:
    script = {"tokens": 8, "reasoning_tokens": 2, "tool_call": True, "seed": 5}
    body = chat(stream=True, messages=[{"role": "user", "content": json.dumps(script)}])
    async with stack.client.stream("POST", "/v1/chat/completions", json=body) as response:
        stream_id = response.headers["x-headrace-stream"]
        whole = await response.aread()
    events = [event for event in SseParser().feed(whole) if event.data]
    assert events[-1].data == "[DONE]"
    url = f"/v1/streams/{stream_id}/events?dialect=openai"
    # An event without an id of its own has that of the one before: the rest of its entry comes again.
    ids = [event.id for event in events[:-1]]
    for place, event in enumerate(events[:-1]):
        if not event.id or ids.index(event.id) != place:
            continue
        answer = await stack.client.get(url, headers={"Last-Event-ID": event.id})
        rest = [found.data for found in SseParser().feed(answer.content) if found.data]
        assert rest == [found.data for found in events[place + 1 :]]
    answer = await stack.client.get(url, headers={"Last-Event-ID": events[-1].id})
    assert answer.status_code == 204


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_leaves_has_a_grace_time(stack: Stack, stream: bool) -> None:
    script = {"tokens": 100_000, "interval_ms": 50, "name": f"grace-{stream}"}
    body = chat(stream=stream, messages=[{"role": "user", "content": json.dumps(script)}])
    headers = {"Idempotency-Key": f"grace-{stream}"}
    async with httpx.AsyncClient(base_url=stack.client.base_url, timeout=60) as client:
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body, headers=headers))
        async with asyncio.timeout(60):
            while (
                not (calls := [call for call in stack.provider.calls if call.name == f"grace-{stream}"])
                or calls[0].sent < 5
            ):
                await asyncio.sleep(0.05)
        asking.cancel()
    (call,) = calls
    sent = call.sent
    await asyncio.sleep(0.5)
    assert call.sent > sent, "the generation goes on for a while"
    async with asyncio.timeout(60):
        while call.closed_by is None:
            await asyncio.sleep(0.1)
    assert call.closed_by == "client"
    again = await stack.client.post("/v1/chat/completions", json=body | {"stream": False}, headers=headers)
    assert (again.status_code, again.json()["error"]["code"]) in ((409, "cancelled"), (400, "idempotency_conflict"))


async def test_a_repeated_request_meets_the_same_answer(stack: Stack) -> None:
    body = chat(messages=[{"role": "user", "content": json.dumps({"tokens": 3, "name": "once", "numbered": True})}])
    answers = [
        await stack.client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "once"})
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert len([call for call in stack.provider.calls if call.name == "once"]) == 1
