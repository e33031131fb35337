"""One secret for all API processes, also behind a server that lost it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis

from api.secret import Secret
from shared.keys import Keys
from shared.queue import Queue


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[FakeAsyncRedis]:
    async with FakeAsyncRedis() as client:
        yield client


@pytest.fixture
def queue(redis: FakeAsyncRedis) -> Queue:
    return Queue(redis, Keys("t"))


async def test_all_processes_have_the_secret_that_one_of_them_proposed(queue: Queue) -> None:
    one, two = Secret("", queue), Secret("", queue)
    await one.returned()
    assert await one() == await two() != b""


async def test_a_server_that_lost_the_secret_gets_it_again_from_who_knows_it(
    redis: FakeAsyncRedis, queue: Queue
) -> None:
    one, two = Secret("", queue), Secret("", queue)
    known = await one()
    await redis.flushall()
    await one.returned()
    assert await two() == known


async def test_a_process_that_finds_another_secret_there_takes_it(redis: FakeAsyncRedis, queue: Queue) -> None:
    one, two = Secret("", queue), Secret("", queue)
    await one()
    await redis.flushall()
    fresh = await two()
    await one.returned()
    assert await one() == fresh


async def test_a_configured_secret_never_meets_the_server(redis: FakeAsyncRedis, queue: Queue) -> None:
    secret = Secret("configured", queue)
    await secret.returned()
    assert await secret() == b"configured"
    assert await redis.keys() == []
