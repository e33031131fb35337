"""What comes behind a loss: streams that are erased, and creates that are repeated elsewhere."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from redis.asyncio import Redis

from shared.keys import Keys
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view_to_end


async def test_an_erased_stream_that_a_worker_looks_for_slows_no_other(stack: Stack) -> None:
    busy = await stack.create({"tokens": 1500, "interval_ms": 20, "name": "busy"})
    await stack.until_said(busy["id"])
    await stack.settled()
    async with Redis.from_url(stack.server.url) as redis:

        async def entries_in_two_seconds() -> int:
            before = await redis.xlen(Keys("headrace").log(busy["id"]))
            await asyncio.sleep(2)
            return await redis.xlen(Keys("headrace").log(busy["id"])) - before

        calm = await entries_in_two_seconds()
        short = await stack.create({"tokens": 2})
        await stack.until_status(short["id"], "done")
        await stack.client.delete(short["url"])
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(1.5)
        assert await entries_in_two_seconds() > calm / 2
    await stack.client.post(f"{busy['url']}/cancel")


@pytest.mark.parametrize("creator", ["in time", "late"])
async def test_a_create_repeated_at_another_process_behind_a_loss_meets_the_first_answer(
    tmp_path: Path, creator: str
) -> None:
    async with running_stack(tmp_path, apis=2, HEADRACE_SECRET="fixed") as stack:
        await stack.settled()
        script = {"tokens": 10, "name": "once", "numbered": True}
        body, key = {"prompt": json.dumps(script)}, {"Idempotency-Key": "k"}
        log = next((stack.directory / "appendonlydir").glob("*.incr.aof"))
        before = log.stat().st_size
        made = await stack.create(script, headers=key)
        seen = await view_to_end(stack.client, made["events_url"])
        await asyncio.to_thread(stack.server.kill)
        os.truncate(log, before)

        async def repeat() -> str:
            async with asyncio.timeout(30):
                while True:
                    answer = await stack.client.post(stack.apis[1].url + "/v1/streams", json=body, headers=key)
                    if answer.status_code == 202:
                        return str(answer.json()["id"])
                    await asyncio.sleep(0.02)

        repeating = asyncio.create_task(repeat())
        await asyncio.sleep(0.3)
        if creator == "late":
            stack.apis[0].pause()
        await asyncio.to_thread(stack.server.start_again)
        assert await repeating == made["id"]
        if creator == "late":
            await asyncio.sleep(1.2)  # a worker is back within one
            stack.apis[0].resume()
        await stack.until_status(made["id"], "done")
        record = await stack.record(made["id"])
        assert (record["last_event_id"], record["text"]) == (seen.last_id, seen.text)
        assert len(stack.calls("once")) == 1
