"""OpenAI's Responses, asked by the clients that people have."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from shared.protocol.sse import SseParser
from tests.support.clients import run_client
from tests.support.node import FOLDER, node_script
from tests.support.responses import ask, events_of, read_response
from tests.support.script import TOOL_ARGUMENTS, script_reasoning, script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL: Final = "local/scripted"
AFTER: Final = {"tool_call": False, "text": "All of it was found."}
SCRIPT: Final = {
    "tokens": 6,
    "seed": 3,
    "reasoning_tokens": 2,
    "tool_call": True,
    "interval_ms": 20,
    "after_tool": AFTER,
}
ITEMS: Final = ["reasoning", "message", "function_call"]
WITHIN_S: Final = 90.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("responses"), HEADRACE_GRACE_S="2") as made:
        yield made


async def test_openais_python_library_reads_resumes_and_goes_on(stack: Stack) -> None:
    told = await run_client("openai_responses", stack.openai_url, MODEL, json.dumps(SCRIPT))
    assert told.get("status", told.get("error")) is None
    assert told["numbers"]
    assert told["text"] == told["deltas"] == script_text(SCRIPT)
    output = told["last"]["output"]
    assert [item["type"] for item in output] == told["accumulated"] == ITEMS
    assert output[0]["summary"][0]["text"] == "".join(script_reasoning(SCRIPT))
    assert (output[2]["name"], output[2]["arguments"]) == ("look_up", TOOL_ARGUMENTS)
    assert told["retrieved"] == told["last"]
    assert told["last"]["metadata"] == {"a": "b"}
    assert len(told["helper"]) == len(told["types"])
    assert all(all(one) for one in told["helper"])
    assert all(told["resumed"])
    assert told["plain"] == [script_text(SCRIPT), "completed", told["last"]["usage"]["total_tokens"]]
    assert [item["content"][0]["text"] for item in told["input"]] == [json.dumps(SCRIPT)]
    assert told["history"] == ["message", *ITEMS, "function_call_output", "message"]
    assert told["deleted"] == 404
    assert told["background"] in ("queued", "in_progress")
    assert told["cancelled"] == ["cancelled", "cancelled"]


async def by_node(stack: Stack, model: str, script: dict) -> dict[str, Any]:
    node, _ = node_script("openai/package.json")
    argv = [node, str(FOLDER / "openai_responses.mjs"), stack.openai_url, model, json.dumps(script)]
    process = await asyncio.create_subprocess_exec(*argv, stdout=-1, stderr=-1)
    try:
        async with asyncio.timeout(WITHIN_S):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, err.decode()
    return dict(json.loads(out))


async def test_openais_node_library_reads_and_resumes_behind_every_event(stack: Stack) -> None:
    told = await by_node(stack, MODEL, SCRIPT)
    assert "error" not in told, told["error"]
    assert told["types"][-1] == "response.completed"
    assert told["numbers"]
    assert told["same"]
    assert told["text"] == script_text(SCRIPT)
    assert len(told["helper"]) == len(told["resumed"]) == len(told["types"])
    assert all(told["helper"])
    assert all(told["resumed"])
    assert told["plain"] == [script_text(SCRIPT), "completed"]


async def test_a_failure_in_mid_answer_is_a_failed_response(stack: Stack) -> None:
    events = await ask(stack.client, {"tokens": 9, "end_after": 4})
    assert events[-1]["type"] == "response.failed"
    response = events[-1]["response"]
    assert response["status"] == "failed"
    assert response["error"]["code"] == "server_error"
    assert response["error"]["type"] == "upstream_cut"
    assert (await read_response(stack.client, response["id"])) == response


async def test_a_refusal_is_a_refusal_to_the_libraries(stack: Stack) -> None:
    deltas = [{"refusal": "I can't"}, {"refusal": " help."}]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    script = {"raw": "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"}
    events = await ask(stack.client, script)
    assert "".join(one["delta"] for one in events if one["type"] == "response.refusal.delta") == "I can't help."
    content = events[-1]["response"]["output"][0]["content"]
    assert content == [{"type": "refusal", "refusal": "I can't help."}]
    told = await by_node(stack, MODEL, script)
    assert "response.refusal.done" in told["types"]
    assert told["same"]
    assert all(told["helper"] + told["resumed"])


async def test_what_was_cut_short_is_incomplete(stack: Stack) -> None:
    for reason, told in (("length", "max_output_tokens"), ("content_filter", "content_filter")):
        events = await ask(stack.client, {"tokens": 3, "finish_reason": reason})
        response = events[-1]["response"]
        assert events[-1]["type"] == "response.incomplete"
        assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": told})
        # What an answer took that did not end well stands in the record alone.
        read = await read_response(stack.client, response["id"])
        assert read == {**response, "usage": response["usage"] or read["usage"]}


@pytest.mark.parametrize(
    ("model", "raised"),
    [("nowhere/x", ["NotFoundError", 404, "unknown_provider"])],
)
async def test_what_is_refused_is_raised_as_with_openai(stack: Stack, model: str, raised: list) -> None:
    told = await run_client("openai_responses", stack.openai_url, model, "hello")
    assert told["status"][:3] == raised
    told = await by_node(stack, model, SCRIPT)
    assert told["error"][:3] == raised


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": "x", "conversation": "conv_1"}, 400, "conversation"),
        ({"input": "x", "conversation": "c", "previous_response_id": "resp_x"}, 400, "previous_response_id"),
        ({"input": "x", "previous_response_id": "resp_x"}, 404, "previous_response_id"),
        ({"input": "x", "previous_response_id": "resp_" + "a" * 24}, 404, "previous_response_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, 400, "input.0.content.0.type"),
        ({"input": "x", "colour": 1}, 400, "colour"),
        ({"input": "x" * 300_000}, 413, None),
        ({"input": "\ud800"}, 400, "input"),
        ({}, 400, "input"),
        ([], 400, "body"),
    ],
)
async def test_bad_input_is_told_in_openais_form(
    stack: Stack, body: object, status: int, param: str | None
) -> None:
    answer = await stack.client.post(
        "/v1/responses", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert set(told) == {"error"}
    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert told["error"]["param"] == param


async def test_bad_addresses_are_told_in_openais_form(stack: Stack) -> None:
    client = stack.client
    known = (await ask(stack.client, {"tokens": 1}))[-1]["response"]["id"]
    for method, path, status in (
        ("GET", "/v1/responses/resp_x", 404),
        ("GET", f"/v1/responses/{known.removeprefix('resp_')}", 404),
        ("GET", "/v1/responses/resp_" + "a" * 24 + "?stream=true", 404),
        ("POST", "/v1/responses/resp_x/cancel", 404),
        ("DELETE", "/v1/responses/resp_x", 404),
        ("GET", "/v1/responses/resp_x/input_items", 404),
        ("GET", f"/v1/responses/{known}?starting_after=1", 400),
        ("GET", f"/v1/responses/{known}?stream=true&starting_after=-1", 400),
        ("GET", f"/v1/responses/{known}?stream=true&starting_after=99", 400),
        ("GET", f"/v1/responses/{known}?stream=perhaps", 400),
        ("GET", f"/v1/responses/{known}/input_items?limit=0", 400),
        ("GET", f"/v1/responses/{known}/input_items?after=x", 400),
        ("PUT", f"/v1/responses/{known}", 405),
    ):
        answer = await client.request(method, path)
        assert answer.status_code == status, (method, path, answer.text)
        assert set(answer.json()) == {"error"}, (method, path)


async def test_a_response_that_is_not_stored_is_gone_when_it_has_ended(stack: Stack) -> None:
    client = stack.client
    body = {"model": MODEL, "input": json.dumps({"tokens": 2}), "store": False}
    answer = await client.post("/v1/responses", json=body)
    assert answer.json()["output"][0]["content"][0]["text"] == script_text({"tokens": 2})
    response_id = answer.json()["id"]
    for path in ("", "?stream=true", "/input_items"):
        assert (await client.get(f"/v1/responses/{response_id}{path}")).status_code == 404
    following = await client.post("/v1/responses", json={**body, "previous_response_id": response_id})
    assert following.json()["error"]["code"] == "previous_response_not_found"


async def test_a_response_that_runs_can_not_be_gone_on_with_yet(stack: Stack) -> None:
    client = stack.client
    body = {"model": MODEL, "input": json.dumps({"tokens": 1000, "interval_ms": 20}), "background": True}
    running = (await client.post("/v1/responses", json=body)).json()
    answer = await client.post("/v1/responses", json={**body, "previous_response_id": running["id"]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "previous_response_id")
    stopped = await client.post(f"/v1/responses/{running['id']}/cancel")
    assert stopped.json()["status"] == "cancelled"
    answer = await client.post(
        "/v1/responses",
        json={"model": MODEL, "input": json.dumps({"tokens": 1}), "previous_response_id": running["id"]},
    )
    assert answer.json()["status"] == "completed"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_leaves_has_a_grace_time(stack: Stack, stream: bool) -> None:
    script = {"tokens": 100_000, "interval_ms": 50, "name": f"left-{stream}"}
    body = {"model": MODEL, "input": json.dumps(script), "stream": stream}
    async with httpx.AsyncClient(base_url=stack.client.base_url, timeout=60) as client:
        asking = asyncio.create_task(client.post("/v1/responses", json=body))
        await stack.until_sent(f"left-{stream}", 5)
        asking.cancel()
    (call,) = stack.calls(f"left-{stream}")
    sent = call.sent
    await asyncio.sleep(0.5)
    assert call.sent > sent, "the generation goes on for a while"
    async with asyncio.timeout(60):
        while call.closed_by is None:
            await asyncio.sleep(0.1)
    assert call.closed_by == "client"


async def test_a_background_response_needs_no_reader(stack: Stack) -> None:
    script = {"tokens": 100, "interval_ms": 40}
    answer = await stack.client.post(
        "/v1/responses", json={"model": MODEL, "input": json.dumps(script), "background": True}
    )
    response = answer.json()
    assert response["status"] in ("queued", "in_progress")
    async with asyncio.timeout(60):
        while response["status"] != "completed":
            await asyncio.sleep(0.2)
            response = await read_response(stack.client, response["id"])
    assert response["output"][0]["content"][0]["text"] == script_text(script)


async def test_an_event_source_goes_on_behind_its_last_id(stack: Stack) -> None:
    script = {"tokens": 5, "interval_ms": 30, "reasoning_tokens": 1}
    body = {"model": MODEL, "input": json.dumps(script), "stream": True}
    answer = await stack.client.post("/v1/responses", json=body)
    whole = [event for event in SseParser().feed(answer.content) if event.data]
    path = f"/v1/responses/{json.loads(whole[0].data)['response']['id']}?stream=true&starting_after=0"
    ids = [event.id for event in whole]
    for last in dict.fromkeys(ids):
        answer = await stack.client.get(path, headers={"Last-Event-ID": last})
        # An event without an id of its own has the one of the entry before.
        place = ids.index(last)
        assert events_of(answer.content) == [json.loads(event.data) for event in whole[place + 1 :]], last
    answer = await stack.client.get(path, headers={"Last-Event-ID": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_cursor")


async def test_a_stream_of_another_dialect_is_read_as_a_response(stack: Stack) -> None:
    script = {"tokens": 5, "reasoning_tokens": 1}
    made = await stack.create(script)
    await stack.until_status(made["id"], "done")
    response = await read_response(stack.client, f"resp_{made['id']}")
    assert response["output"][1]["content"][0]["text"] == script_text(script)
    answer = await stack.client.get(f"/v1/responses/resp_{made['id']}/input_items")
    assert answer.json()["data"] == []
    chat = await stack.client.get(made["events_url"], params={"dialect": "responses"})
    assert f"resp_{made['id']}" in chat.text


async def test_a_repeated_request_meets_the_same_response(stack: Stack) -> None:
    body = {"model": MODEL, "input": json.dumps({"tokens": 3, "name": "twice", "numbered": True})}
    headers = {"Idempotency-Key": "twice"}
    answers = [await stack.client.post("/v1/responses", json=body, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert len(stack.calls("twice")) == 1
    other = await stack.client.post("/v1/responses", json={**body, "metadata": {"a": "b"}}, headers=headers)
    assert other.json()["error"]["code"] == "idempotency_conflict"
