"""Whom the AI SDK's paths refuse, and how: keys, limits, sizes, and a Redis that is away."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from shared.config.api_keys import new_api_key
from tests.support.ai_sdk import new_chat, user
from tests.support.stack import Stack, running_stack

SCRIPT = {"tokens": 100, "interval_ms": 5, "hang_after": 50}


def body(chat: str, script: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"id": chat, "messages": [user(json.dumps(script or {"tokens": 2}))]}


def told(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text[0].isupper()
    assert answer.text.endswith(".")
    return answer.status_code, answer.headers["x-headrace-error"]


async def test_another_key_s_chat_is_one_that_nobody_began(tmp_path: Path) -> None:
    (alice, one), (bob, two) = new_api_key("alice"), new_api_key("bob")
    async with running_stack(tmp_path, HEADRACE_API_KEYS=f"{one},{two}") as stack:
        client, chat = stack.client, new_chat()
        assert told(await client.post("/api/chat", json=body(chat))) == (401, "key_missing")
        assert told(await client.get(f"/api/chat/{chat}/stream")) == (401, "key_missing")
        hers, his = ({"Authorization": f"Bearer {secret}"} for secret in (alice, bob))
        asked = asyncio.create_task(client.post("/api/chat", json=body(chat, SCRIPT), headers=hers, timeout=60))
        async with asyncio.timeout(60):
            while await status(stack, chat, hers) != 200:
                await asyncio.sleep(0.05)
        assert (await client.get(f"/api/chat/{chat}/stream", headers=his)).status_code == 204
        assert told(await client.post(f"/api/chat/{chat}/stop", headers=his)) == (404, "chat_not_found")
        # Under the same name he has a chat of his own, and hers goes on.
        his_own = await client.post("/api/chat", json=body(chat), headers=his)
        assert '"finishReason":"stop"' in his_own.text
        assert await status(stack, chat, hers) == 200
        assert (await client.post(f"/api/chat/{chat}/stop", headers=hers)).status_code == 204
        assert '"type":"abort"' in (await asked).text


async def status(stack: Stack, chat: str, headers: dict[str, str]) -> int:
    async with stack.client.stream("GET", f"/api/chat/{chat}/stream", headers=headers) as response:
        return response.status_code


async def test_limits_say_when_to_come_back(tmp_path: Path) -> None:
    async with running_stack(tmp_path, HEADRACE_STREAMS_PER_KEY="1", HEADRACE_MAX_BODY_BYTES="20000") as stack:
        chat = new_chat()
        asked = asyncio.create_task(stack.client.post("/api/chat", json=body(chat, SCRIPT), timeout=60))
        async with asyncio.timeout(60):
            while await status(stack, chat, {}) != 200:
                await asyncio.sleep(0.05)
        other = await stack.client.post("/api/chat", json=body(new_chat()))
        assert told(other) == (429, "too_many_streams")
        assert int(other.headers["retry-after"]) > 0
        # A refused question does not take the chat's answer away.
        again = await stack.client.post("/api/chat", json=body(chat))
        assert told(again) == (429, "too_many_streams")
        assert await status(stack, chat, {}) == 200
        large = await stack.client.post("/api/chat", json={**body(chat), "user": "x" * 30_000})
        assert told(large) == (413, "body_too_large")
        assert (await stack.client.post(f"/api/chat/{chat}/stop")).status_code == 204
        await asked


async def test_a_redis_that_is_away_is_a_503_and_the_chat_goes_on_behind_it(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        chat = new_chat()
        await asyncio.to_thread(stack.server.stop)
        for answer in (
            await stack.client.post("/api/chat", json=body(chat)),
            await stack.client.get(f"/api/chat/{chat}/stream"),
            await stack.client.post(f"/api/chat/{chat}/stop"),
        ):
            assert told(answer) == (503, "redis_unavailable")
            assert answer.headers["retry-after"]
        await asyncio.to_thread(stack.server.start_again)
        await stack.until_ready()
        assert '"finishReason":"stop"' in (await stack.client.post("/api/chat", json=body(chat), timeout=60)).text


async def test_where_a_model_cannot_continue_the_chat_is_told(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=2) as stack:
        chat = new_chat()
        asked = asyncio.create_task(stack.client.post("/api/chat", json=body(chat, SCRIPT), timeout=60))
        async with asyncio.timeout(60):
            while await status(stack, chat, {}) != 200:
                await asyncio.sleep(0.05)
        async with stack.client.stream("GET", f"/api/chat/{chat}/stream") as response:
            stream_id = response.headers["x-headrace-stream"]
        await stack.until_said(stream_id, 20)
        (await stack.carrier(stream_id)).kill()
        said = (await asked).text
        assert said.count('"type":"error"') == 1
        assert "The worker was lost" in said
        assert said.endswith("data: [DONE]\n\n")
