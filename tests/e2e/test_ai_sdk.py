"""The AI SDK's clients, unchanged from npm, against real processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from api.dialects.endings import PARTING_TEXT, RESTARTED_TEXT
from shared.protocol.cursor import new_stream_id
from shared.store.keys import Keys
from tests.support.ai_sdk import PACKAGES, VERSIONS, AiSdk, new_chat, reasoning, texts, user
from tests.support.script import TOOL_ARGUMENTS, script_reasoning, script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT: dict[str, Any] = {"tokens": 30, "reasoning_tokens": 4, "seed": 6, "interval_ms": 5}
SLOW = {**SCRIPT, "tokens": 60, "interval_ms": 40}
packages = pytest.mark.parametrize("package", PACKAGES)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("sdk"), workers=2, apis=2, LOCAL_CONTINUES="prefill") as made:
        yield made


async def run(
    ai_sdk: AiSdk, stack: Stack, package: str, scenario: str, script: dict[str, Any], **given: Any
) -> Any:
    return await ai_sdk.run(package, scenario, stack.apis[0].url, text=json.dumps(script), **given)


@packages
async def test_an_answer_with_reasoning_and_a_tool_call_is_read_whole(
    ai_sdk: AiSdk, stack: Stack, package: str
) -> None:
    script = {**SCRIPT, "tool_call": True}
    told = await run(ai_sdk, stack, package, "ask", script)
    assert told["status"] == "ready"
    _, answer = told["messages"]
    assert texts(answer) == script_text(script)
    assert reasoning(answer) == "".join(script_reasoning(script))
    kinds = [part["type"] for part in answer["parts"]]
    assert kinds == ["step-start", "reasoning", "text", "tool-look_up"]
    tool = answer["parts"][-1]
    assert (tool["state"], tool["input"]) == ("input-available", json.loads(TOOL_ARGUMENTS))
    assert answer["metadata"]["model"] == "local/smollm2"
    assert answer["metadata"]["usage"]["output_tokens"] == script["tokens"]
    assert "cost" in answer["metadata"]
    if package != "ai5":
        assert told["finishes"][0]["finishReason"] == "tool-calls"


@packages
async def test_the_stream_is_read_without_a_chat(ai_sdk: AiSdk, stack: Stack, package: str) -> None:
    message = await run(ai_sdk, stack, package, "read", SCRIPT)
    assert texts(message) == script_text(SCRIPT)
    assert reasoning(message) == "".join(script_reasoning(SCRIPT))


@pytest.mark.parametrize(("package", "anew"), [("ai5", True), ("ai6", True), ("ai6", False), ("ai7", False)])
async def test_an_answer_that_is_cut_at_every_event_ends_as_an_uncut_one(
    ai_sdk: AiSdk, stack: Stack, package: str, anew: bool
) -> None:
    """By a chat made again, as a reload makes it, or by the same one. (ai 5's keeps what it has, and appends.)"""
    chat = new_chat()
    script = {**SCRIPT, "name": chat, "tool_call": True, "interval_ms": 20, "hang_after": SCRIPT["tokens"]}
    release = f"{stack.provider.base_url.removesuffix('/v1')}/_release"
    body = json.dumps({"name": chat})
    told = await run(
        ai_sdk, stack, package, "cuts", script, chat=chat, release=release, releaseBody=body, anew=anew
    )
    assert told["status"] == "ready"
    assert told["cuts"] > 25
    _, answer = told["messages"]
    assert texts(answer) == script_text(script)
    assert reasoning(answer) == "".join(script_reasoning(script))
    assert len(stack.calls(chat)) == 1


@packages
async def test_a_page_that_is_reloaded_gets_the_answer_from_its_beginning(
    ai_sdk: AiSdk, stack: Stack, package: str
) -> None:
    """By another API process, with the message as it was kept and without it."""
    chat = new_chat()
    text = json.dumps(SLOW)
    first = asyncio.create_task(ai_sdk.run(package, "ask", stack.apis[0].url, chat=chat, text=text))
    await until_said(stack, chat)
    resumed = await ai_sdk.run(package, "resume", stack.apis[1].url, chat=chat, messages=[user(text)])
    whole = await first
    assert resumed["status"] == "ready"
    assert texts(resumed["messages"][-1]) == script_text(SLOW)
    # The message is the same one, so a page that kept a piece of it gets the whole in its place.
    assert resumed["messages"][-1] == whole["messages"][-1]
    # Who lost its connection in front of the end may be late, for a while.
    late = await ai_sdk.run(package, "resume", stack.apis[1].url, chat=chat, messages=[user(text)])
    assert late["messages"][-1] == whole["messages"][-1]
    await end_earlier(stack, whole["messages"][-1]["id"])
    none = await ai_sdk.run(package, "resume", stack.apis[1].url, chat=chat, messages=[user(text)])
    assert (none["status"], none["messages"]) == ("ready", [user(text)])
    # A page that says what it has gets what it missed, and nothing twice.
    known = {"chat": chat, "messages": [user(text)], "seen": ""}
    missed = await ai_sdk.run(package, "resume", stack.apis[1].url, **known)
    assert missed["messages"][-1] == whole["messages"][-1]
    known["seen"] = missed["messages"][-1]["metadata"]["stream"]
    again = await ai_sdk.run(package, "resume", stack.apis[1].url, **known)
    assert again["messages"] == [user(text)]


async def end_earlier(stack: Stack, stream_id: str) -> None:
    """Make this stream one that ended half a minute before it did."""
    meta = Keys("headrace").stream(stream_id).meta
    async with Redis.from_url(stack.server.url) as redis:
        await redis.hset(meta, "finished_ms", int(await redis.hget(meta, "finished_ms")) - 31_000)


@packages
async def test_a_piece_of_the_answer_that_a_page_kept_is_replaced_by_the_whole(
    ai_sdk: AiSdk, stack: Stack, package: str
) -> None:
    chat = new_chat()
    text = json.dumps(SLOW)
    first = asyncio.create_task(ai_sdk.run(package, "ask", stack.apis[0].url, chat=chat, text=text))
    stream_id = await until_said(stack, chat)
    partial = {
        "id": stream_id,
        "role": "assistant",
        "parts": [{"type": "text", "text": "half", "state": "streaming"}],
    }
    resumed = await ai_sdk.run(package, "resume", stack.apis[1].url, chat=chat, messages=[user(text), partial])
    whole = await first
    assert [message["role"] for message in resumed["messages"]] == ["user", "assistant"]
    assert resumed["messages"][-1] == whole["messages"][-1]


async def until_said(stack: Stack, chat: str) -> str:
    """Wait until the chat's answer is under way. Out: its stream."""
    async with asyncio.timeout(60):
        while True:
            async with stack.client.stream("GET", f"/api/chat/{chat}/stream") as response:
                if response.status_code == 200:
                    async for line in response.aiter_lines():
                        if "text-delta" in line:
                            return response.headers["x-headrace-stream"]
            await asyncio.sleep(0.05)


@packages
async def test_a_stop_ends_the_generation_and_the_client_s_message(
    ai_sdk: AiSdk, stack: Stack, package: str
) -> None:
    for leave in (False, True):
        chat = new_chat()
        script = {**SCRIPT, "name": chat, "hang_after": 15}
        told = await run(ai_sdk, stack, package, "stop", script, chat=chat, leave=leave)
        assert told["stopped"] == 204
        assert told["status"] == "ready"
        assert 0 < len(texts(told["messages"][-1])) < len(script_text(script))
        assert (await stack.until_closed(chat)).closed_by == "client"
        assert (await stack.client.get(f"/api/chat/{chat}/stream")).status_code == 204


@packages
async def test_a_tool_at_the_client_gives_the_model_its_output(ai_sdk: AiSdk, stack: Stack, package: str) -> None:
    chat = new_chat()
    script = {**SCRIPT, "name": chat, "tool_call": True}
    told = await run(ai_sdk, stack, package, "tool", script, chat=chat, output={"height_m": 4.2})
    assert told["status"] == "ready"
    assert [message["role"] for message in told["messages"]] == ["user", "assistant"]
    kinds = [part["type"] for part in told["messages"][-1]["parts"]]
    one = ["step-start", "reasoning", "text", "tool-look_up"]
    assert kinds == one * 2
    _, second = stack.calls(chat)
    assert second.asked["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": '{"height_m":4.2}',
    }
    assert second.asked["messages"][-2]["tool_calls"][0]["function"]["name"] == "look_up"


@packages
async def test_an_answer_to_a_tool_s_output_is_resumed_with_what_stood_before(
    ai_sdk: AiSdk, stack: Stack, package: str
) -> None:
    chat = new_chat()
    script = {**SCRIPT, "name": chat, "tool_call": True, "interval_ms": 40}
    told = await run(ai_sdk, stack, package, "tool", script, chat=chat, output={"ok": True}, resumes=True)
    assert told["status"] == "ready"
    assert [message["role"] for message in told["messages"]] == ["user", "assistant"]
    assert plain(told["messages"][-1]) == plain(told["uncut"][-1])
    # The first answer's, and the second's at both pages: the first one's did not run again.
    assert len(told["called"]) == 3


def plain(message: dict[str, Any]) -> list[Any]:
    """The parts without what tells how they came."""
    beside = ("state", "rawInput", "providerMetadata")
    return [{name: value for name, value in part.items() if name not in beside} for part in message["parts"]]


@packages
async def test_a_failure_in_mid_answer_is_the_chat_s_error(ai_sdk: AiSdk, stack: Stack, package: str) -> None:
    script = {**SCRIPT, "error_after": 5}
    told = await run(ai_sdk, stack, package, "ask", script)
    assert told["status"] == "error"
    assert "the script wants an error" in told["error"]
    assert script_text(script).startswith(texts(told["messages"][-1]))


@packages
async def test_a_refusal_is_a_sentence(ai_sdk: AiSdk, stack: Stack, package: str) -> None:
    told = await run(ai_sdk, stack, package, "ask", SCRIPT, body={"model": "nobody/nothing"})
    assert told["status"] == "error"
    assert "'nobody'" in told["error"]
    assert "{" not in told["error"]


@packages
async def test_a_lost_api_process_costs_nothing(ai_sdk: AiSdk, stack: Stack, package: str) -> None:
    """The page finds another one at the same address, here by asking it itself."""
    chat = new_chat()
    text = json.dumps(SLOW)
    child = await stack.add_api()
    first = asyncio.create_task(ai_sdk.run(package, "ask", child.url, chat=chat, text=text))
    await until_said(stack, chat)
    await asyncio.to_thread(child.kill)
    told = await first
    assert told["status"] == "error"
    resumed = await ai_sdk.run(package, "resume", stack.apis[1].url, chat=chat, messages=told["messages"])
    assert resumed["status"] == "ready"
    assert texts(resumed["messages"][-1]) == script_text(SLOW)


@packages
async def test_an_api_process_that_stops_says_that_the_answer_goes_on(
    ai_sdk: AiSdk, stack: Stack, package: str
) -> None:
    chat = new_chat()
    text = json.dumps(SLOW)
    child = await stack.add_api()
    first = asyncio.create_task(ai_sdk.run(package, "ask", child.url, chat=chat, text=text))
    await until_said(stack, chat)
    await asyncio.to_thread(child.terminate)
    told = await first
    assert (told["status"], told["error"]) == ("error", PARTING_TEXT)
    resumed = await ai_sdk.run(package, "resume", stack.apis[1].url, chat=chat, messages=told["messages"])
    assert texts(resumed["messages"][-1]) == script_text(SLOW)


@packages
async def test_a_lost_worker_costs_nothing_where_the_provider_continues(
    ai_sdk: AiSdk, stack: Stack, package: str
) -> None:
    chat = new_chat()
    script = {**SLOW, "name": chat}
    first = asyncio.create_task(run(ai_sdk, stack, package, "ask", script, chat=chat))
    stream_id = await until_said(stack, chat)
    worker = await stack.carrier(stream_id)
    await asyncio.to_thread(worker.kill)
    await stack.add_worker()
    told = await first
    assert told["status"] == "ready"
    assert texts(told["messages"][-1]) == script_text(script)
    assert reasoning(told["messages"][-1]) == "".join(script_reasoning(script))
    assert len(stack.calls(chat)) == 2


@packages
async def test_a_restart_is_shown_by_reset_step_to_who_knows_it_and_ends_the_others(
    ai_sdk: AiSdk, stack: Stack, package: str
) -> None:
    script = {**SLOW, "interval_ms": 5, "numbered": True, "cut_after": 30, "fail_times": 1, "name": new_chat()}
    headers = {"x-ai-sdk-version": VERSIONS[package]}
    told = await run(ai_sdk, stack, package, "ask", script, headers=headers, body={"on_failure": "restart"})
    if package == "ai7":
        assert told["status"] == "ready"
        assert texts(told["messages"][-1]) == script_text(script, 2)
        assert reasoning(told["messages"][-1]) == "".join(script_reasoning(script))
    else:
        assert (told["status"], told["error"]) == ("error", RESTARTED_TEXT)
    assert len(stack.calls(script["name"])) == 2


async def test_a_continued_answer_too_long_to_be_kept_is_not_resumed(stack: Stack) -> None:
    chat = new_chat()
    done = {"type": "tool-t", "toolCallId": "c", "state": "output-available", "input": {}, "output": "x"}
    messages = [
        user(json.dumps(SLOW)),
        {"id": "a", "role": "assistant", "parts": [done, {"type": "data-map", "data": "x" * 300_000}]},
    ]
    asked = asyncio.create_task(post(stack, {"id": chat, "messages": messages}))
    async with asyncio.timeout(60):
        while await stream_of(stack, chat) is None:
            await asyncio.sleep(0.02)
    assert (await stack.client.get(f"/api/chat/{chat}/stream")).status_code == 204
    assert (await stack.client.post(f"/api/chat/{chat}/stop")).status_code == 204
    assert (await asked).text.startswith('retry: 1000\ndata: {"type":"start","messageId":"a"}')


async def post(stack: Stack, body: Any, **more: Any) -> httpx.Response:
    return await stack.client.post("/api/chat", json=body, timeout=60, **more)


async def stream_of(stack: Stack, chat: str) -> bytes | None:
    async with Redis.from_url(stack.server.url) as redis:
        found: bytes | None = await redis.get(Keys("headrace").chat("", chat))
        return found


async def test_a_resume_while_the_post_is_on_its_way_waits_for_it(stack: Stack) -> None:
    """The chat has its stream already, and the stream is made a moment later."""
    chat, stream_id = new_chat(), new_stream_id()
    async with Redis.from_url(stack.server.url) as redis:
        await redis.set(Keys("headrace").chat("", chat), stream_id)
        asked = asyncio.create_task(stack.client.get(f"/api/chat/{chat}/stream", timeout=60))
        await asyncio.sleep(0.5)
        assert not asked.done()
        made = await stack.create(SCRIPT)
        await redis.set(Keys("headrace").chat("", chat), made["id"])
        assert '"finishReason":"stop"' in (await asked).text
        # One whose create was lost is given up.
        await redis.set(Keys("headrace").chat("", chat), stream_id)
        assert (await stack.client.get(f"/api/chat/{chat}/stream", timeout=60)).status_code == 204
        assert await stream_of(stack, chat) is None


async def test_a_refused_question_leaves_the_chat_its_answer(stack: Stack) -> None:
    chat = new_chat()
    asked = asyncio.create_task(post(stack, {"id": chat, "messages": [user(json.dumps(SLOW))]}))
    stream_id = await until_said(stack, chat)
    refused = await post(stack, {"id": chat, "messages": [user("x")], "model": "nobody/x"})
    assert refused.status_code == 422
    assert await stream_of(stack, chat) == stream_id.encode()
    assert (await stack.client.post(f"/api/chat/{chat}/stop")).status_code == 204
    assert '"type":"abort"' in (await asked).text


async def test_the_protocol_s_header_is_there_and_nothing_is_cached(stack: Stack) -> None:
    answer = await post(stack, {"id": "a/b ü", "messages": [user(json.dumps(SCRIPT))]})
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert answer.headers["cache-control"].startswith("no-cache")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    again = await stack.client.get("/api/chat/a%2Fb%20%C3%BC/stream")
    assert data_of(again) == data_of(answer)
    events = await stack.client.get(f"/v1/streams/{again.headers['x-headrace-stream']}/events?dialect=ai-sdk")
    assert data_of(events) == data_of(answer)


def data_of(answer: httpx.Response) -> list[str]:
    return [line for line in answer.text.splitlines() if line.startswith("data: ")]


BAD = [
    (b"{", 400, "not JSON"),
    (b"[]", 422, "object"),
    ({"messages": [user("x")]}, 422, "id: Field required"),
    ({"id": "c", "messages": []}, 422, "messages"),
    ({"id": "c", "messages": [{"role": "user", "content": "x"}]}, 422, "messages.0.parts: Field required"),
    ({"id": "c", "messages": [user("")]}, 422, "text or an image"),
    ({"id": "c", "messages": [user("x")], "colour": "red"}, 422, "colour"),
    ({"id": "c", "messages": [user("x")], "prompt": "y"}, 422, "either prompt or messages"),
    ({"id": "c", "messages": [user("x")], "trigger": "later"}, 422, "trigger"),
    ({"id": "c" * 201, "messages": [user("x")]}, 422, "id"),
    ({"id": "c", "messages": [user("x")], "model": "nobody/x"}, 422, "nobody"),
    ({"id": "c", "messages": [user("x"), {**user("y"), "role": "assistant"}]}, 422, "last message"),
    (
        {"id": "c", "messages": [{**user("x"), "parts": [{"type": "file", "mediaType": "video/mp4", "url": "x"}]}]},
        422,
        "messages.0: a file must be an image",
    ),
    (
        {
            "id": "c",
            "messages": [
                user("x"),
                {"id": "a", "role": "assistant", "parts": [{"type": "text", "text": "hi"}] * 2},
                {**user("x"), "parts": [{"type": "text", "text": 7}]},
            ],
        },
        422,
        "messages.2",
    ),
]


@pytest.mark.parametrize(("body", "status", "says"), BAD)
async def test_bad_input_gets_a_status_and_a_sentence(stack: Stack, body: Any, status: int, says: str) -> None:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = await stack.client.post("/api/chat", headers={"Content-Type": "application/json"}, **sent)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert says in answer.text
    assert answer.headers["x-headrace-error"]


async def test_a_chat_that_nobody_began_has_nothing_to_resume_or_to_stop(stack: Stack) -> None:
    assert (await stack.client.get("/api/chat/unknown/stream")).status_code == 204
    stopped = await stack.client.post("/api/chat/unknown/stop")
    assert (stopped.status_code, stopped.headers["x-headrace-error"]) == (404, "chat_not_found")
    assert (await stack.client.get(f"/api/chat/{'c' * 201}/stream")).status_code == 422


@packages
async def test_a_log_that_lost_its_beginning_tells_the_whole_answer(
    ai_sdk: AiSdk, tmp_path: Path, package: str
) -> None:
    async with running_stack(tmp_path, HEADRACE_LOG_CAP="50") as short:
        chat = new_chat()
        script = {**SCRIPT, "tokens": 400, "interval_ms": 10, "tool_call": True}
        asked = asyncio.create_task(run(ai_sdk, short, package, "ask", script, chat=chat))
        stream_id = await until_said(short, chat)
        async with Redis.from_url(short.server.url) as redis, asyncio.timeout(60):
            first = {b"e": b""}
            while first[b"e"] != b"message":  # a busy worker writes several tokens as one entry
                await asyncio.sleep(0.05)
                ((_, first),) = await redis.xrange(Keys("headrace").log(stream_id), count=1)
        assert (await short.record(stream_id))["status"] == "running", "the answer is whole: nothing is tested"
        messages = [user(json.dumps(script))]
        resumed = await ai_sdk.run(package, "resume", short.apis[0].url, chat=chat, messages=messages)
        whole = await asked
        assert texts(whole["messages"][-1]) == script_text(script)
        assert resumed["messages"][-1] == whole["messages"][-1]
