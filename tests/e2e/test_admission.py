"""The limits, on real processes: each names itself, nothing is spent, and what a holder had becomes free."""

import asyncio
import json
import time
from pathlib import Path

import httpx
from redis.asyncio import Redis

from shared.config.api_keys import new_api_key
from shared.store.keys import Keys
from shared.store.quotas import SEATS_LIFE_MS
from tests.support.clocks import set_ahead
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view

HANGING = {"tokens": 3, "hang_after": 1}
SEATS_FREE_WITHIN_S = 30.0


async def refused(answer: httpx.Response) -> str:
    assert answer.status_code == 429, answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "Nothing was started" in answer.json()["detail"]
    return str(answer.json()["code"])


async def post(stack: Stack, **headers: str) -> httpx.Response:
    return await stack.client.post("/v1/streams", json={"prompt": "{}"}, headers=headers)


async def streams_in(stack: Stack) -> int:
    async with Redis.from_url(stack.server.url) as redis:
        return len(await redis.keys("headrace:{*"))


async def test_a_full_queue_refuses_and_lets_in_again(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=0, HEADRACE_MAX_QUEUE="3") as stack:
        kept = [await stack.create({"tokens": 2}, headers={"Idempotency-Key": f"k{n}"}) for n in range(3)]
        ready = await stack.client.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "no_workers")
        assert (await stack.client.get("/healthz")).status_code == 200
        before = await streams_in(stack)
        for _ in range(3):
            assert await refused(await post(stack)) == "queue_full"
        assert await streams_in(stack) == before
        again = await stack.create({"tokens": 2}, headers={"Idempotency-Key": "k1"})
        assert again["id"] == kept[1]["id"], "a repeated create costs nothing"
        await stack.add_worker()
        for made in kept:
            await stack.until_status(made["id"], "done")
        assert (await post(stack)).status_code == 202


async def test_creations_per_minute_are_counted_for_each_key_on_all_processes(tmp_path: Path) -> None:
    (alice, one), (bob, two) = new_api_key("alice"), new_api_key("bob")
    settings = {"HEADRACE_API_KEYS": f"{one},{two}", "HEADRACE_CREATIONS_PER_MINUTE": "4"}
    async with running_stack(tmp_path, apis=2, **settings) as stack:
        answers = []
        for _ in range(3):
            repeated = {"Authorization": f"Bearer {alice}", "Idempotency-Key": "k"}
            answer = await stack.client.post("/v1/streams", json={"prompt": "{}"}, headers=repeated)
            assert answer.status_code == 202, "however often it is repeated, it is one of the four"
        for number in range(4):
            url = f"{stack.apis[number % 2].url}/v1/streams"
            headers = {"Authorization": f"Bearer {alice}"}
            answers.append(await stack.client.post(url, json={"prompt": "{}"}, headers=headers))
        assert [answer.status_code for answer in answers] == [202] * 3 + [429]
        assert await refused(answers[3]) == "rate_limited"
        assert 10 <= int(answers[3].headers["retry-after"]) <= 15
        assert (await post(stack, Authorization=f"Bearer {bob}")).status_code == 202


async def test_streams_at_once_become_free_however_they_end(tmp_path: Path) -> None:
    async with running_stack(tmp_path, HEADRACE_STREAMS_PER_KEY="2") as stack:

        async def fill() -> list[str]:
            made = [await stack.create({**HANGING, "name": "h"}) for _ in range(2)]
            assert await refused(await post(stack)) == "too_many_streams"
            return [each["id"] for each in made]

        cancelled, erased = await fill()
        await stack.client.post(f"/v1/streams/{cancelled}/cancel")
        await stack.client.delete(f"/v1/streams/{erased}")
        lost, other = await fill()
        async with Redis.from_url(stack.server.url) as redis:
            # The record is gone, as after a loss, and it was admitted more than a minute ago.
            keys = Keys("headrace")
            await redis.delete(*keys.stream(lost))
            assert await refused(await post(stack)) == "too_many_streams"
            await redis.zadd(keys.streams_of(""), {lost: int(time.time() * 1000) - 61_000})
        made = await stack.create({"tokens": 1})
        await stack.until_status(made["id"], "done")
        await stack.create({"tokens": 1})
        await stack.client.post(f"/v1/streams/{other}/cancel")


async def test_twenty_creates_at_once_are_not_more_streams_than_allowed(tmp_path: Path) -> None:
    async with running_stack(tmp_path, apis=2, HEADRACE_STREAMS_PER_KEY="5") as stack:
        urls = [f"{stack.apis[number % 2].url}/v1/streams" for number in range(20)]
        body = {"prompt": '{"tokens": 3, "hang_after": 1}'}
        answers = await asyncio.gather(*(stack.client.post(url, json=body) for url in urls))
        assert sorted(answer.status_code for answer in answers) == [202] * 5 + [429] * 15
        for answer in answers:
            if answer.status_code == 202:
                await stack.client.post(f"{answer.json()['url']}/cancel")


async def test_viewers_of_a_stream_are_counted_on_all_processes(tmp_path: Path) -> None:
    async with running_stack(tmp_path, apis=2, HEADRACE_VIEWERS_PER_STREAM="2") as stack:
        made = await stack.create({"tokens": 400, "interval_ms": 20})
        urls = [f"{api.url}{made['events_url']}" for api in stack.apis]
        async with stack.client.stream("GET", urls[0]) as one, stack.client.stream("GET", urls[1]) as two:
            assert (one.status_code, two.status_code) == (200, 200)
            # Kept: an iterator that goes closes its response.
            reading = [one.aiter_bytes(), two.aiter_bytes()]
            for chunks in reading:
                await anext(chunks)
            third = await stack.client.get(urls[0])
            assert third.status_code == 200, "EventSource would give up at any other"
            assert third.text == "retry: 2000\n: too many viewers of this stream; come back soon\n"
        async with asyncio.timeout(60):
            while not (await view(stack.client, urls[0], most=1)).ids:
                await asyncio.sleep(0.2)
        await stack.client.post(f"{made['url']}/cancel")


async def test_the_seats_of_a_killed_process_become_free(tmp_path: Path) -> None:
    async with running_stack(tmp_path, apis=2, HEADRACE_VIEWERS_PER_STREAM="1") as stack:
        made = await stack.create({**HANGING, "name": "seat"})
        urls = [f"{api.url}{made['events_url']}" for api in stack.apis]
        async with stack.client.stream("GET", urls[1]) as held:
            chunks = held.aiter_bytes()
            await anext(chunks)
            assert "too many viewers" in (await stack.client.get(urls[0])).text
            stack.apis[1].kill()
            assert "too many viewers" in (await stack.client.get(urls[0])).text
            async with Redis.from_url(stack.server.url) as redis:
                # All but two of its seconds pass at once.
                await set_ahead(redis, 2_000 - SEATS_LIFE_MS, Keys("headrace").seats(made["id"]))
            async with asyncio.timeout(SEATS_FREE_WITHIN_S):
                while not (await view(stack.client, urls[0], most=1)).ids:
                    await asyncio.sleep(0.2)
        await stack.client.post(f"{made['url']}/cancel")


async def test_the_tokens_of_an_answer_are_capped(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=0, HEADRACE_MAX_ANSWER_TOKENS="50") as stack:
        answer = await stack.client.post("/v1/streams", json={"prompt": "{}", "max_tokens": 51})
        assert (answer.status_code, answer.json()["code"]) == (422, "answer_too_long")
        around = {"prompt": "{}", "provider_options": {"max_completion_tokens": 9}}
        answer = await stack.client.post("/v1/streams", json=around)
        assert (answer.status_code, answer.json()["code"]) == (422, "option_not_allowed")
        for asked, sent in ((None, 50), (7, 7), (50, 50)):
            made = await stack.create("x", max_tokens=asked)
            async with Redis.from_url(stack.server.url) as redis:
                request = await redis.hget(Keys("headrace").stream(made["id"]).meta, "request")
            assert json.loads(request)["max_tokens"] == sent
