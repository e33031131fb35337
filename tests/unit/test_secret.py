"""One secret for all API processes."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis

from api.streams.secret import Secret
from shared.store.keys import Keys
from shared.store.queue import Queue


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[FakeAsyncRedis]:
    async with FakeAsyncRedis() as client:
        yield client


@pytest.fixture
def queue(redis: FakeAsyncRedis) -> Queue:
    return Queue(redis, Keys("t"))


async def test_all_processes_have_the_secret_that_one_of_them_proposed(queue: Queue) -> None:
    one, two = Secret("", queue), Secret("", queue)
    assert await one() == await two() != b""


async def test_a_configured_secret_never_meets_the_server(redis: FakeAsyncRedis, queue: Queue) -> None:
    assert await Secret("configured", queue)() == b"configured"
    assert await redis.keys() == []
