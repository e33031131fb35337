"""What a worker does behind the loss of its connection to the server."""

import asyncio

from redis.asyncio import Redis

from shared.store.keys import Keys
from tests.support.stack import Stack


async def test_an_erased_stream_that_a_worker_looks_for_slows_no_other(stack: Stack) -> None:
    busy = await stack.create({"tokens": 1500, "interval_ms": 20, "name": "busy"})
    await stack.until_said(busy["id"])
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
