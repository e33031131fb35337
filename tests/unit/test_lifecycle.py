"""A job whose stream was not claimed: whoever took it gives it back, whatever ends it."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.config.settings import Settings
from shared.store.claims import Claim
from shared.store.keys import Keys
from shared.store.queue import Job, Queue, Shares
from worker.attempt.lifecycle import AttemptRunner

JOB = Job("s:1::", "s", 7)
ROOM = Shares(10, 10)


@pytest_asyncio.fixture
async def queue(redis: Redis) -> Queue:
    return Queue(redis, Keys("t"))


def generations(queue: Queue, claim: Any) -> AttemptRunner:
    """With nothing but a claim: whoever comes further than that fails."""

    class Streams:
        async def claim(self, *_: object) -> Claim:
            return await claim()  # type: ignore[no-any-return]

    nothing: Any = None
    streams: Any = Streams()
    return AttemptRunner(Settings(), {}, nothing, streams, queue, nothing, nothing, "worker")


async def test_a_worker_that_is_told_to_end_before_it_claimed_gives_the_job_back(queue: Queue) -> None:
    task = asyncio.create_task(generations(queue, lambda: asyncio.sleep(60)).generate(JOB))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await queue.take(ROOM)).jobs == [JOB]


async def test_a_claim_that_can_not_be_had_gives_the_job_back(queue: Queue) -> None:
    async def away() -> Claim:
        raise RedisConnectionError

    with pytest.raises(RedisConnectionError):
        await generations(queue, away).generate(JOB)
    assert (await queue.take(ROOM)).jobs == [JOB]
