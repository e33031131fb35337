"""Creating a stream on two servers: what a step that fails leaves."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from api.creation import Creation
from api.requests import CreateStream
from shared.keys import Keys
from shared.queue import Queue
from shared.redis import load_scripts
from shared.settings import load
from shared.streams import Streams

KEYS = Keys("t")


class Others:
    """Whoever lets a create in, and hears of it."""

    async def admit(self, *_: object, **__: object) -> int:
        return 1_000

    async def beat(self, *_: object) -> None:
        pass

    def remember(self, *_: object) -> None:
        pass


class Failing(Queue):
    """A queue whose server goes away before one step."""

    step = ""

    async def note(self, stream_id: str, server_ms: int) -> None:
        await self._or_fail("note", super().note(stream_id, server_ms))

    async def put(self, stream_id: str, attempt: int, server_ms: int) -> None:
        await self._or_fail("put", super().put(stream_id, attempt, server_ms))

    async def _or_fail(self, step: str, doing: Any) -> None:
        if step == self.step:
            doing.close()
            raise RedisConnectionError
        await doing


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[FakeAsyncRedis]:
    async with FakeAsyncRedis(version=(7, 2)) as client:
        yield client


def creation(queue: Queue, streams: Streams) -> Creation:
    configuration = load({"LOCAL_BASE_URL": "http://127.0.0.1:9/v1"})
    others: Any = Others()

    async def secret() -> bytes:
        return b"secret"

    parts = (configuration.settings, configuration.providers, streams, queue, others, others, others)
    return Creation(*parts, secret, None)


async def test_a_stream_that_is_confirmed_is_answered_for_though_its_job_could_not_be_put(redis: Any) -> None:
    queue, streams = Failing(redis, KEYS), Streams(redis, KEYS, load_scripts(shebang=False), tries=1)
    queue.step = "put"
    stream_id, status, *_ = await creation(queue, streams).create(CreateStream(prompt="?"), "", "key")
    assert (status, await streams.fields(stream_id, "confirmed")) == ("queued", ["1"])
    assert await queue.waiting() == 0
    assert list(await queue.unfinished(0, 10)) == [stream_id], "the sweep gives it a job"


async def test_a_stream_that_is_not_noted_is_not_confirmed(redis: Any) -> None:
    queue, streams = Failing(redis, KEYS), Streams(redis, KEYS, load_scripts(shebang=False), tries=1)
    queue.step = "note"
    with pytest.raises(RedisConnectionError):
        await creation(queue, streams).create(CreateStream(prompt="?"), "", "key")
    assert [await redis.pttl(key) > 0 for key in await redis.keys("*meta")] == [True], "it expires"
