"""Greedy neighbours, on real processes: what one key does, others hardly notice."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from statistics import median

import httpx
from redis.asyncio import Redis

from tests.support.bystander import beside
from tests.support.keyed_stack import post, with_keys
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view

LONG = {"tokens": 5000, "interval_ms": 200}
SHORT = {"tokens": 3, "interval_ms": 20}


async def first_token_s(stack: Stack, headers: dict[str, str]) -> float:
    """From the create call to the first token."""
    began = time.monotonic()
    answer = await post(stack, headers, SHORT)
    assert answer.status_code == 202, answer.text
    async with asyncio.timeout(60):
        async with stack.client.stream("GET", answer.json()["events_url"]) as events:
            async for line in events.aiter_lines():
                if line == "event: message" or line.startswith('data: {"text"'):
                    return time.monotonic() - began
    raise AssertionError("it ended without a token")


async def fill(stack: Stack, headers: dict[str, str], count: int, script: dict[str, object]) -> None:
    gate = asyncio.Semaphore(20)

    async def one() -> None:
        async with gate:
            answer = await post(stack, headers, script)
            assert answer.status_code == 202, answer.text

    await asyncio.gather(*(one() for _ in range(count)))


async def test_others_hardly_wait_while_one_key_has_hundreds_of_streams_in_line(tmp_path: Path) -> None:
    others = [f"o{n}" for n in range(9)]
    async with with_keys(tmp_path, "greedy", *others, HEADRACE_MAX_STREAMS="40") as (stack, keys):
        for name in others:  # the first ones load what later ones find loaded
            await first_token_s(stack, keys.headers(name))
        idle = median([await first_token_s(stack, keys.headers(name)) for name in others])
        await fill(stack, keys.headers("greedy"), 500, LONG)
        async with Redis.from_url(stack.server.url) as redis:
            assert await redis.zcard("headrace:queue") == 480, "it has half of the places"
        took = [await first_token_s(stack, keys.headers(name)) for name in others]
        # Twice as long, and what a busy machine makes of it.
        assert median(took) < 2 * idle + 0.1, (idle, took)
        assert max(took) < 2.0, took


async def test_paused_streams_hold_no_place(tmp_path: Path) -> None:
    settings = {"HEADRACE_MAX_STREAMS": "4"}
    async with running_stack(tmp_path, **settings) as stack:
        paused = [await stack.create(LONG, flow="client", pause_after=2, abandon_after=600) for _ in range(4)]
        for made in paused:
            await stack.until_said(made["id"])
        made = await stack.create(SHORT)
        await stack.until_status(made["id"], "done")
        # One that is watched again goes on.
        seen = await view(stack.client, paused[0]["events_url"], most=5)
        assert len(seen.ids) == 5
        for made in paused:
            await stack.client.post(f"/v1/streams/{made['id']}/cancel")


async def test_one_key_s_viewers_leave_room_for_others(tmp_path: Path) -> None:
    async with with_keys(tmp_path, "greedy", "other", HEADRACE_VIEWERS="4") as (stack, keys):
        made = (await post(stack, keys.headers("greedy"), LONG)).json()
        other = (await post(stack, keys.headers("other"), LONG)).json()
        async with asyncio.timeout(60):
            open_now = []
            for _ in range(2):
                response = await stack.client.send(
                    stack.client.build_request("GET", made["events_url"]), stream=True
                )
                chunks = response.aiter_bytes()
                await anext(chunks)
                open_now.append((response, chunks))
            refused = await stack.client.get(made["events_url"])
            assert refused.status_code == 200, "EventSource would give up at any other"
            assert refused.text == "retry: 2000\n: too many viewers here; come back soon\n"
            assert (await view(stack.client, other["events_url"], most=1)).ids
            for response, _ in open_now:
                await response.aclose()
            while not (await view(stack.client, made["events_url"], most=1)).ids:
                await asyncio.sleep(0.1)


async def test_one_key_fills_a_half_of_the_queue_and_is_told(tmp_path: Path) -> None:
    async with with_keys(tmp_path, "greedy", "other", HEADRACE_MAX_QUEUE="6", workers=0) as (stack, keys):
        codes = [(await post(stack, keys.headers("greedy"), SHORT)).status_code for _ in range(5)]
        assert codes == [202, 202, 202, 429, 429]
        problem = (await post(stack, keys.headers("greedy"), SHORT)).json()
        assert problem["code"] == "queue_full"
        assert "3 streams of this key wait for a worker, which is its share of the 6" in problem["detail"]
        assert (await post(stack, keys.headers("other"), SHORT)).status_code == 202


async def test_a_running_stream_goes_on_while_another_key_fills_everything(tmp_path: Path) -> None:
    settings = {"HEADRACE_MAX_STREAMS": "40", "HEADRACE_MAX_QUEUE": "400", "HEADRACE_VIEWERS": "60"}
    async with with_keys(tmp_path, "greedy", "bystander", **settings) as (stack, keys):
        refused: Counter[str] = Counter()
        async with (
            beside(stack, keys.headers("bystander")) as bystander,
            httpx.AsyncClient(base_url=stack.apis[0].url, timeout=60) as client,
        ):

            async def flood(n: int) -> None:
                body = {"prompt": json.dumps({**LONG, "padding": "x" * 20_000})}
                answer = await client.post("/v1/streams", json=body, headers=keys.headers("greedy"))
                if answer.status_code != 202:
                    refused[answer.json()["code"]] += 1
                elif n < 10:  # these run
                    await view(client, answer.json()["events_url"], most=3)

            for wave in range(6):
                await asyncio.gather(*(flood(100 * wave + n) for n in range(60)))
        print(f"the longest gap: {1000 * bystander.longest_gap_s:.0f} ms; refused: {dict(refused)}")
        assert bystander.longest_gap_s < bystander.allowed_s
        assert refused["queue_full"], "the greedy one was told"
