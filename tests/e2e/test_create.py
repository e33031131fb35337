"""Creating: what is accepted, what is met again, and what is refused, each with its code."""

import asyncio
import json

import pytest
from redis.asyncio import Redis

from tests.support.conversation import CONVERSATION, TOOL
from tests.support.stack import Stack
from tests.support.viewing import view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_same_key_twice_is_one_stream(shared_stack: Stack) -> None:
    script = {"name": "twice", "tokens": 3}
    one = await shared_stack.create(script, headers={"Idempotency-Key": "twice"})
    two = await shared_stack.create(script, headers={"Idempotency-Key": "twice"})
    assert one["id"] == two["id"]
    await shared_stack.until_status(one["id"], "done")
    three = await shared_stack.create(script, headers={"Idempotency-Key": "twice"})
    assert three["status"] == "done"
    assert len(shared_stack.calls("twice")) == 1


async def test_the_same_key_twenty_times_at_once_is_one_stream(shared_stack: Stack) -> None:
    script = {"name": "twenty", "tokens": 5}
    made = await asyncio.gather(
        *(shared_stack.create(script, headers={"Idempotency-Key": "k20"}) for _ in range(20))
    )
    assert len({answer["id"] for answer in made}) == 1
    seen = await view_to_end(shared_stack.client, made[0]["events_url"])
    assert seen.types == ["started", "finishing", "done"]
    assert len(shared_stack.calls("twenty")) == 1


async def test_a_key_used_for_another_request_is_refused(shared_stack: Stack) -> None:
    await shared_stack.create("{}", headers={"Idempotency-Key": "other"})
    answer = await shared_stack.client.post(
        "/v1/streams", json={"prompt": "something else"}, headers={"Idempotency-Key": "other"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")


IMAGE = {"type": "image", "data": "aGlo" * 100_000, "media_type": "image/png"}
CODES = {
    "image_too_large": "prompt_too_large",
    "no_such_part": "invalid_request",
    "reserved_option": "invalid_request",
}
WRONG = {
    "unknown_provider": (422, {"prompt": "x", "model": "nobody/model"}),
    "provider_not_configured": (422, {"prompt": "x", "model": "openai/gpt-4.1"}),
    "invalid_request": (422, {"prompt": ""}),
    "unknown_field": (422, {"prompt": "x", "colour": "blue"}),
    "prompt_too_large": (413, {"prompt": "x" * 300_000}),
    "image_too_large": (413, {"messages": [{"role": "user", "content": [IMAGE]}]}),
    "no_such_part": (422, {"messages": [{"role": "user", "content": [{"type": "audio"}]}]}),
    "option_not_allowed": (422, {"prompt": "x", "provider_options": {"stream": False}}),
    "unsupported_by_provider": (422, {"prompt": "x", "reasoning": {"budget_tokens": 2000}}),
    "body_too_large": (413, {"prompt": "x" * 1_100_000}),
}


@pytest.mark.parametrize("code", WRONG)
async def test_wrong_input_is_a_problem_document_with_its_code(shared_stack: Stack, code: str) -> None:
    status, body = WRONG[code]
    code = CODES.get(code, code)
    answer = await shared_stack.client.post("/v1/streams", json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert problem["status"] == status
    assert len(problem["detail"]) > 20


async def test_a_missing_key_names_the_variable_to_set(shared_stack: Stack) -> None:
    answer = await shared_stack.client.post("/v1/streams", json={"prompt": "x", "model": "openai/gpt-4.1"})
    assert "OPENAI_API_KEY" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_json"),
        (b"[]", 422, "invalid_request"),
        (b'"text"', 422, "invalid_request"),
        (b'{"prompt": 5}', 422, "invalid_request"),
        (b'{"messages": "x"}', 422, "invalid_request"),
        (b'{"messages": []}', 422, "invalid_request"),
        (b'{"prompt": "x", "messages": [{"role": "user", "content": "x"}]}', 422, "invalid_request"),
        (b"{}", 422, "invalid_request"),
        (b'{"prompt": "x", "max_tokens": "many"}', 422, "invalid_request"),
        (b'{"prompt": "x", "max_tokens": 0}', 422, "invalid_request"),
        (b'{"prompt": "x", "temperature": NaN}', 422, "invalid_request"),
        (b'{"prompt": "\\ud800"}', 422, "invalid_request"),
        (b'{"prompt": "\xff"}', 400, "bad_json"),
        (b'{"prompt": "x", "on_failure": "pray"}', 422, "invalid_request"),
        (b"", 422, "invalid_request"),
    ],
)
async def test_broken_bodies_are_refused_clearly(shared_stack: Stack, body: bytes, status: int, code: str) -> None:
    answer = await shared_stack.client.post(
        "/v1/streams", content=body, headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


@pytest.mark.parametrize(
    "cursor",
    [
        "-1",
        "text",
        "1",
        "1-",
        "-",
        "1-2-3",
        "0x1-0",
        "99999999999999999999999-0",
        "1-99999999999999999999",
        "1-1 x",
    ],
)
async def test_malformed_cursors_are_a_400(shared_stack: Stack, cursor: str) -> None:
    made = await shared_stack.create({"tokens": 1})
    answer = await shared_stack.client.get(made["events_url"], headers={"Last-Event-ID": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


async def test_an_empty_cursor_is_none(shared_stack: Stack) -> None:
    made = await shared_stack.create({"tokens": 1})
    await shared_stack.until_status(made["id"], "done")
    answer = await shared_stack.client.get(made["events_url"], headers={"Last-Event-ID": ""})
    assert answer.status_code == 200
    assert "event: done" in answer.text


@pytest.mark.parametrize("stream_id", ["AAAAAAAAAAAAAAAAAAAAAAAA", "x", "%7Bid%7D", "a" * 500])
@pytest.mark.parametrize("path", ["", "/events"])
async def test_unknown_ids_are_a_404(shared_stack: Stack, stream_id: str, path: str) -> None:
    answer = await shared_stack.client.get(f"/v1/streams/{stream_id}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "stream_not_found")


async def test_refused_creates_leave_nothing_behind(shared_stack: Stack) -> None:
    async def streams_and_jobs() -> set[str]:
        """Each stream by its hash tag and each job: what expires or is added by streams at work is left out."""
        keys = [key.decode() async for key in redis.scan_iter("*") if key.startswith((b"headrace:{", b"arq:job:"))]
        return {key.partition("}")[0] for key in keys}

    async with Redis.from_url(shared_stack.server.url) as redis:
        before = await streams_and_jobs()
        for _, body in WRONG.values():
            await shared_stack.client.post("/v1/streams", json=body)
        assert await streams_and_jobs() <= before
        await shared_stack.create({"tokens": 1})
        assert not await streams_and_jobs() <= before


async def test_a_refusing_provider_fails_the_stream_with_its_code(shared_stack: Stack) -> None:
    made = await shared_stack.create(
        {"status": 400, "name": "refuse", "body": json.dumps({"error": {"message": "no such thing"}})}
    )
    seen = await view_to_end(shared_stack.client, made["events_url"])
    kind, data = seen.events[-1]
    assert (kind, data["code"], data["retryable"]) == ("failed", "provider_refused", False)
    assert "no such thing" in data["message"]
    record = await shared_stack.record(made["id"])
    assert record["error"]["code"] == "provider_refused"
    assert len(shared_stack.calls("refuse")) == 1


async def test_an_upstream_cut_in_mid_answer_is_tried_again(shared_stack: Stack) -> None:
    script = {"tokens": 30, "interval_ms": 5, "cut_after": 10, "fail_times": 1, "name": "cut", "numbered": True}
    made = await shared_stack.create(script)
    seen = await view_to_end(shared_stack.client, made["events_url"])
    assert seen.types == ["started", "restart", "finishing", "done"]
    assert seen.events[-1][1]["attempt"] == 2


async def test_an_upstream_cut_with_on_failure_fail_is_failed(shared_stack: Stack) -> None:
    made = await shared_stack.create({"tokens": 30, "cut_after": 10, "name": "cutfail"}, on_failure="fail")
    seen = await view_to_end(shared_stack.client, made["events_url"])
    assert seen.events[-1][1]["code"] == "upstream_cut"
    assert len(shared_stack.calls("cutfail")) == 1


async def test_models_and_health_are_told(shared_stack: Stack) -> None:
    models = (await shared_stack.client.get("/v1/models")).json()
    assert models["default"] == "local/smollm2"
    local = {"id": "local/*", "object": "model", "created": 0, "owned_by": "local", "provider": "local"}
    assert local in models["models"]
    assert (models["object"], models["data"]) == ("list", models["models"])
    assert (await shared_stack.client.get("/readyz")).json()["workers"] == 2
    assert "headrace_viewers" in (await shared_stack.client.get("/metrics")).text


async def test_a_conversation_with_images_and_tools_is_answered(shared_stack: Stack) -> None:
    script = {"name": "talk", "tokens": 3, "tool_call": True}
    body = {
        "messages": [*CONVERSATION[:-1], {"role": "user", "content": json.dumps(script)}],
        "tools": [TOOL],
        "provider_options": {"seed": 7, "logit_bias": {"5": None}},
    }
    answer = await shared_stack.client.post("/v1/streams", json=body)
    assert answer.status_code == 202, answer.text
    record = await shared_stack.until_status(answer.json()["id"], "done")
    assert record["finish_reason"] == "tool_calls"
    assert record["tool_calls"][0]["name"]
    asked = shared_stack.calls("talk")[0].asked
    assert asked["tools"] == [{"type": "function", "function": TOOL}]
    assert (asked["seed"], asked["logit_bias"]) == (7, {"5": None})
    assert asked["messages"][1]["content"][1]["image_url"]["url"] == "https://example.com/a.png"


async def test_an_answers_record_is_sent_back_as_it_is_and_reaches_its_provider(shared_stack: Stack) -> None:
    """A call without an id and arguments, reasoning, and what only the provider understands."""
    call = (
        '{"index":0,"type":"function","function":{"name":"now","arguments":""},"extra_content":{"x":{"s":"U0lH"}}}'
    )
    deltas = ('{"reasoning_content":"hm"}', f'{{"tool_calls":[{call}]}}')
    raw = "".join(f'data: {{"choices":[{{"delta":{delta}}}]}}\n\n' for delta in deltas)
    raw += 'data: {"choices":[{"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'
    first = {"role": "user", "content": json.dumps({"name": "looped", "raw": raw})}
    answer = await shared_stack.client.post("/v1/streams", json={"messages": [first]})
    record = await shared_stack.until_status(answer.json()["id"], "done")
    fields = ("reasoning", "tool_calls", "provider_parts", "provider")
    turn = {"role": "assistant", "content": record["text"], **{name: record[name] for name in fields}}
    result = {"role": "tool", "tool_call_id": record["tool_calls"][0]["id"], "content": "12:00"}
    last = {"role": "user", "content": json.dumps({"name": "looped_on", "tokens": 1})}
    answer = await shared_stack.client.post("/v1/streams", json={"messages": [first, turn, result, last]})
    assert answer.status_code == 202, answer.text
    await shared_stack.until_status(answer.json()["id"], "done")
    _, said, told, _ = shared_stack.calls("looped_on")[0].asked["messages"]
    (called,) = said["tool_calls"]
    assert said["reasoning_content"] == "hm"
    assert called["function"] == {"name": "now", "arguments": "{}"}
    assert called["extra_content"] == {"x": {"s": "U0lH"}}
    assert called["id"] == told["tool_call_id"] != ""


async def test_a_provider_s_own_fields_are_told_and_kept(shared_stack: Stack) -> None:
    raw = (
        'data: {"choices":[{"delta":{"content":"a","annotations":[{"url":"x"}]}}]}\n\n'
        'data: {"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}]}\n\n'
    )
    made = await shared_stack.create({"raw": raw})
    seen = await view_to_end(shared_stack.client, made["events_url"])
    kept = {"type": "annotations", "data": [{"url": "x"}]}
    deltas = [data for kind, data in seen.events if kind == "message"]
    assert deltas == [{"text": "a"}, {"provider": kept}, {"text": "b"}]
    record = await shared_stack.record(made["id"])
    assert (record["text"], record["provider"], record["provider_parts"]) == ("ab", "local", [kept])
