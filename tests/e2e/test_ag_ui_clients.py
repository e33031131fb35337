"""AG-UI, asked by the clients that people have: @ag-ui/client and TanStack's."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.protocol.sse import ServerSentEvent, SseParser
from tests.support.ag_ui import AgUi
from tests.support.script import TOOL_ARGUMENTS, script_reasoning, script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "local/scripted"
SCRIPT = {"tokens": 12, "seed": 3, "reasoning_tokens": 3, "tool_call": True}
LOOP = {**SCRIPT, "after_tool": {"tool_call": False, "reasoning_tokens": 0, "text": "All of it was found."}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("ag-ui")) as made:
        yield made


def base_url(stack: Stack) -> str:
    return str(stack.client.base_url).rstrip("/")


async def live(
    ag_ui: AgUi, stack: Stack, what: str, script: object, *, model: str = MODEL, run_id: str = ""
) -> dict[str, Any]:
    prompt = script if isinstance(script, str) else json.dumps(script)
    given = {"urls": [base_url(stack)], "model": model, "prompt": prompt, "runId": run_id}
    return await ag_ui.run("ag_ui_live.mjs", what, given)


def run_input(script: object, run_id: str, **more: Any) -> dict[str, Any]:
    prompt = script if isinstance(script, str) else json.dumps(script)
    return {
        "threadId": "thread",
        "runId": run_id,
        "state": {},
        "messages": [{"id": "1", "role": "user", "content": prompt}],
        "tools": [],
        "context": [],
        "forwardedProps": {"model": MODEL},
        **more,
    }


def events_of(body: bytes) -> list[ServerSentEvent]:
    return [event for event in SseParser().feed(body) if event.data]


async def test_http_agent_reads_text_reasoning_and_usage_and_runs_a_tool_loop(ag_ui: AgUi, stack: Stack) -> None:
    told = await live(ag_ui, stack, "agent", LOOP)
    assert (told["errors"], told["asked"]) == ([], [json.loads(TOOL_ARGUMENTS)])
    user, reasoning, first, result, last = told["messages"]
    assert [user["role"], reasoning["role"], result["role"]] == ["user", "reasoning", "tool"]
    assert reasoning["content"] == "".join(script_reasoning(SCRIPT))
    assert first["content"] == script_text(SCRIPT)
    assert [call["function"]["name"] for call in first["toolCalls"]] == ["look_up"]
    assert last == {"id": last["id"], "role": "assistant", "content": "All of it was found."}
    assert [outcome for outcome, _ in told["finished"]] == ["success", "success"]
    usage = told["finished"][0][1][0]
    assert (usage["provider"], usage["model"], usage["totalTokens"]) == ("local", "scripted", 19)
    asked = stack.provider.calls[-1].asked["messages"]
    assert [turn["role"] for turn in asked] == ["user", "assistant", "tool"]
    assert asked[1]["tool_calls"][0]["function"]["arguments"] == TOOL_ARGUMENTS


async def test_tanstack_s_client_runs_its_tool_once_and_shows_the_answer(ag_ui: AgUi, stack: Stack) -> None:
    told = await live(ag_ui, stack, "tanstack", LOOP)
    assert (told["errors"], told["asked"]) == ([], [json.loads(TOOL_ARGUMENTS)])
    parts = [part for message in told["messages"][1:] for part in message["parts"]]
    assert "".join(part["content"] for part in parts if part["type"] == "thinking") == "".join(
        script_reasoning(SCRIPT)
    )
    said = [part["content"] for part in parts if part["type"] == "text"]
    assert said == [script_text(SCRIPT), "All of it was found."]


async def test_a_reload_reads_the_run_from_its_start(ag_ui: AgUi, stack: Stack) -> None:
    asked = run_input(SCRIPT, "reload")
    whole = await stack.client.post("/ag-ui", json=asked)
    assert whole.status_code == 200, whole.text
    told = await live(ag_ui, stack, "reload", "", run_id="reload")
    assert (told["errors"], told["finished"][0][0]) == ([], "success")
    assert told["messages"][-1]["content"] == script_text(SCRIPT)
    joined = await live(ag_ui, stack, "join", "", run_id="reload")
    parts = joined["messages"][0]["parts"]
    assert "".join(part["content"] for part in parts if part["type"] == "text") == script_text(SCRIPT)


async def test_a_failure_in_mid_answer_is_an_error_event(ag_ui: AgUi, stack: Stack) -> None:
    script = {"tokens": 9, "garbage_after": 4}
    told = await live(ag_ui, stack, "agent", script)
    assert told["errors"]
    assert told["errors"][0][0] in ("provider_garbage", "upstream_cut")
    assert told["types"][-1] == "RUN_ERROR"
    told = await live(ag_ui, stack, "tanstack", script)
    assert len(told["errors"]) == 1


async def test_what_is_refused_is_raised_with_its_status(ag_ui: AgUi, stack: Stack) -> None:
    told = await live(ag_ui, stack, "agent", "hello", model="nowhere/x")
    refused = told["asked"]
    assert refused["status"] == 422
    assert refused["payload"]["type"] == "RUN_ERROR"
    assert refused["payload"]["code"] == "unknown_provider"
    assert refused["message"].startswith("HTTP 422: ")
    told = await live(ag_ui, stack, "tanstack", "hello", model="nowhere/x")
    assert "422" in told["errors"][0]


@pytest.mark.parametrize("version", ["1.0", None])
async def test_a_cancelled_run_ends_as_cancelled(stack: Stack, version: str | None) -> None:
    body = run_input({"tokens": 10_000, "interval_ms": 20}, f"cancelled-{version}", protocolVersion=version)
    async with stack.client.stream("POST", "/ag-ui", json=body) as response:
        stream_id = response.headers["x-headrace-stream"]
        parser, events = SseParser(), []
        async for data in response.aiter_bytes():
            events += [json.loads(event.data) for event in parser.feed(data) if event.data]
            if len(events) > 3 and events[-1]["type"] == "TEXT_MESSAGE_CONTENT":
                await stack.client.post(f"/v1/streams/{stream_id}/cancel")
    if version is None:
        assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "cancelled")
        return
    assert [event["type"] for event in events[-2:]] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
    assert events[-1]["outcome"] == {"type": "cancelled"}


@pytest.mark.parametrize("by", ["post", "get", "tanstack"])
async def test_a_run_is_resumed_behind_any_id_and_made_once(stack: Stack, by: str) -> None:
    script = {**SCRIPT, "name": f"once-{by}"}
    headers = {"X-Run-Id": "any"} if by == "tanstack" else {}
    asked = run_input(script, f"once-{by}")
    whole = events_of((await stack.client.post("/ag-ui", json=asked, headers=headers)).content)
    again = events_of((await stack.client.post("/ag-ui", json=asked, headers=headers)).content)
    assert again == whole
    ids = [event.id for event in whole]
    for place, event in enumerate(whole[:-1]):
        if ids.index(event.id) != place:
            continue  # it has the id of the one in front of it
        headers = {"Last-Event-ID": event.id}
        if by == "get":
            answer = await stack.client.get(f"/ag-ui/once-{by}", headers=headers)
        elif by == "post":
            answer = await stack.client.post("/ag-ui", json={"runId": f"once-{by}"}, headers=headers)
        else:
            answer = await stack.client.get(f"/ag-ui?offset=-1&runId=once-{by}", headers=headers)
        assert answer.status_code == 200, answer.text
        rest = events_of(answer.content)
        assert json.loads(rest[0].data)["type"] == "RUN_STARTED"
        wanted = whole[place + 1 :]
        assert [one.data for one in rest[len(rest) - len(wanted) :]] == [one.data for one in wanted]
    answer = await stack.client.post("/ag-ui", json={"runId": f"once-{by}"}, headers={"Last-Event-ID": ids[-1]})
    assert (answer.status_code, answer.content) == (200, b"")
    assert len(stack.calls(f"once-{by}")) == 1


async def test_a_run_can_be_read_in_another_dialect_and_another_stream_in_this_one(stack: Stack) -> None:
    answer = await stack.client.post("/ag-ui", json=run_input({"tokens": 3}, "other"))
    stream_id = answer.headers["x-headrace-stream"]
    plain = await stack.client.get(f"/v1/streams/{stream_id}/events?dialect=openai")
    assert plain.content.endswith(b"data: [DONE]\n\n")
    for headers in ({}, {"Last-Event-ID": "0-0"}):
        again = await stack.client.get(f"/v1/streams/{stream_id}/events?dialect=ag-ui", headers=headers)
        assert again.content == answer.content
    made = await stack.create({"tokens": 3})
    events = events_of((await stack.client.get(f"/v1/streams/{made['id']}/events?dialect=ag-ui")).content)
    assert json.loads(events[0].data)["runId"] == made["id"]


async def test_context_images_and_unknown_things_are_read(stack: Stack) -> None:
    script = json.dumps({"tokens": 1, "name": "context"})
    messages = [
        {"id": "0", "role": "system", "content": "Be brief."},
        {"id": "1", "role": "activity", "activityType": "x", "content": {}},
        {"id": "2", "role": "reasoning", "content": "left over"},
        {"id": "3", "role": "assistant", "content": ""},
        {
            "id": "4",
            "role": "user",
            "metadata": {"a": 1},
            "content": [
                {"type": "text", "text": script},
                {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}},
                {"type": "image", "source": {"type": "url", "value": "https://example.com/a.png"}},
            ],
        },
    ]
    context = [{"description": "The page", "value": "about rivers"}]
    props = {"model": MODEL, "temperature": 0.5, "ours": {"anything": True}}
    body = run_input("", "context", messages=messages, context=context, forwardedProps=props, data={}, state=None)
    answer = await stack.client.post("/ag-ui", json=body)
    assert answer.status_code == 200, answer.text
    (call,) = stack.calls("context")
    turns = call.asked["messages"]
    assert [turn["role"] for turn in turns] == ["system", "system", "user"]
    assert turns[1]["content"] == "The page:\nabout rivers"
    assert len([part for part in turns[-1]["content"] if part["type"] == "image_url"]) == 2
    assert call.asked["temperature"] == 0.5


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"id": "1", "role": "fool", "content": "x"}]}, 422, "messages.0.role"),
        (
            {"messages": [{"id": "1", "role": "user", "content": [{"type": "audio"}]}]},
            422,
            "messages.0.content.0.type",
        ),
        (
            {"messages": [{"id": "1", "role": "user", "content": [{"type": "image"}]}]},
            422,
            "messages.0.content.0: an image is sent",
        ),
        ({"messages": [{"id": "1", "role": "tool", "toolCallId": "x", "content": "x"}]}, 422, "tool call"),
        ({"messages": "hello"}, 422, "messages"),
        ({"runId": "x" * 201}, 422, "runId"),
        ({"runId": 7}, 422, "runId"),
        ({"threadId": None}, 422, "threadId"),
        ({"tools": [{"name": "a b", "description": ""}]}, 422, "tools.0.name"),
        ({"forwardedProps": {"temperature": 9}}, 422, "forwardedProps.temperature"),
        ({"forwardedProps": []}, 422, "forwardedProps"),
        ({"resume": [{"interruptId": "x"}]}, 422, "resume"),
    ],
)
async def test_bad_input_is_told_as_a_run_error(stack: Stack, change: dict, status: int, told: str) -> None:
    answer = await stack.client.post("/ag-ui", json={**run_input("hi", "bad"), **change})
    assert answer.status_code == status
    error = answer.json()
    assert (set(error), error["type"]) == ({"type", "message", "code"}, "RUN_ERROR")
    assert told in error["message"]


async def test_what_does_not_exist_or_can_t_be_read_is_told_as_a_run_error(stack: Stack) -> None:
    await stack.client.post("/ag-ui", json=run_input({"tokens": 1}, "mine"))
    for answer, wanted in [
        (await stack.client.get("/ag-ui/nowhere"), (404, "stream_not_found")),
        (await stack.client.get(f"/ag-ui/{'x' * 300}"), (404, "stream_not_found")),
        (await stack.client.get("/ag-ui?runId=nowhere&offset=-1"), (404, "stream_not_found")),
        (await stack.client.get("/ag-ui?threadId=thread"), (422, "invalid_request")),
        (await stack.client.get("/ag-ui/mine", headers={"Last-Event-ID": "x"}), (400, "bad_cursor")),
        (await stack.client.get("/ag-ui/mine", headers={"Last-Event-ID": "1-1.x"}), (400, "bad_cursor")),
        (
            await stack.client.post("/ag-ui", content=b"{", headers={"Content-Type": "application/json"}),
            (400, "bad_json"),
        ),
        (await stack.client.post("/ag-ui", json=run_input("other", "mine")), (422, "idempotency_conflict")),
        (await stack.client.put("/ag-ui"), (405, "method_not_allowed")),
        (
            await stack.client.post("/ag-ui", json={"runId": "nowhere"}, headers={"Last-Event-ID": "1-1"}),
            (404, "stream_not_found"),
        ),
    ]:
        error = answer.json()
        assert (answer.status_code, error["code"], error["type"]) == (*wanted, "RUN_ERROR")


async def test_a_place_that_is_not_there_is_an_error_event(stack: Stack) -> None:
    await stack.client.post("/ag-ui", json=run_input({"tokens": 2}, "lost"))
    events = events_of((await stack.client.get("/ag-ui/lost", headers={"Last-Event-ID": "7-7"})).content)
    assert [json.loads(event.data)["code"] for event in events] == ["text_lost"]


async def test_two_askers_of_one_run_at_once_read_one_answer(stack: Stack) -> None:
    asked = run_input({"tokens": 30, "interval_ms": 10, "name": "both"}, "both")
    answers = await asyncio.gather(*(stack.client.post("/ag-ui", json=asked) for _ in range(3)))
    assert len({answer.headers["x-headrace-stream"] for answer in answers}) == 1
    texts = set()
    for answer in answers:
        told = [json.loads(event.data) for event in events_of(answer.content)]
        texts.add("".join(event["delta"] for event in told if event["type"] == "TEXT_MESSAGE_CONTENT"))
    assert texts == {script_text({"tokens": 30})}
    assert len(stack.calls("both")) == 1


async def test_limits_sizes_and_an_absent_redis_are_told_as_run_errors(ag_ui: AgUi, tmp_path: Path) -> None:
    limits = {"HEADRACE_CREATIONS_PER_MINUTE": "3", "HEADRACE_MAX_PROMPT_BYTES": "5000"}
    async with running_stack(tmp_path, **limits) as stack:
        large = await stack.client.post("/ag-ui", json=run_input("x" * 6000, "large"))
        assert (large.status_code, large.json()["code"]) == (413, "prompt_too_large")
        for number in range(3):
            taken = await stack.client.post("/ag-ui", json=run_input({"tokens": 1}, f"run-{number}"))
            assert taken.status_code == 200
        limited = await stack.client.post("/ag-ui", json=run_input({"tokens": 1}, "one more"))
        assert (limited.status_code, limited.json()["code"]) == (429, "rate_limited")
        assert int(limited.headers["retry-after"]) > 0
        told = await live(ag_ui, stack, "agent", {"tokens": 1})
        assert (told["asked"]["status"], told["asked"]["payload"]["code"]) == (429, "rate_limited")
        await asyncio.to_thread(stack.server.kill)
        for answer in (
            await stack.client.post("/ag-ui", json=run_input({"tokens": 1}, "third")),
            await stack.client.get("/ag-ui/run-1"),
            await stack.client.post("/ag-ui", json={"runId": "run-1"}, headers={"Last-Event-ID": "0-0"}),
        ):
            assert (answer.status_code, answer.json()["type"]) == (503, "RUN_ERROR"), answer.text
            assert answer.json()["code"] == "redis_unavailable"
            assert int(answer.headers["retry-after"]) > 0
