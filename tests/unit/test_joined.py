"""A stream made in one round trip: whole or not at all."""

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis
from redis.exceptions import NoScriptError

from shared.joined import JoinedCreate
from shared.keys import Keys
from shared.new_stream import NewStream
from shared.queue import Queue
from shared.scripts import Script, load_scripts
from shared.streams import Streams

ID = "abc"
KEYS = Keys("t")
FIELDS = {"request": "{}", "about": "{}", "model": "m", "on_failure": "continue"}


def new(stream_id: str = ID) -> NewStream:
    return NewStream(stream_id, "hash", "owner", b"{}", FIELDS, 1_000)


class Made:
    """A server, and what creates on it."""

    def __init__(self, redis: FakeAsyncRedis, scripts: Mapping[str, Script]) -> None:
        self.redis = redis
        self.streams = Streams(redis, KEYS, scripts, tries=1)
        self.queue = Queue(redis, KEYS)
        self.joined = JoinedCreate(redis, KEYS, scripts, self.queue)

    async def create(self, stream_id: str = ID, nonce: str = "n") -> tuple[str, ...]:
        return await self.joined.create(new(stream_id), nonce)


@pytest_asyncio.fixture
async def made() -> AsyncIterator[Made]:
    async with FakeAsyncRedis(version=(7, 2)) as redis:
        yield Made(redis, load_scripts(shebang=False))


async def test_one_round_trip_leaves_what_the_single_steps_leave(made: Made) -> None:
    answer = await made.create()
    assert answer[0] == "created"
    other = await made.streams.create(new("other"))
    await made.queue.put("other", 1, 1_000)
    await made.streams.confirm("other")
    await made.queue.wake()
    for name in ("status", "confirmed", "owner", "attempt", "request"):
        assert await made.streams.fields(ID, name) == await made.streams.fields("other", name)
    assert other[0] == "created"
    assert await made.redis.ttl(KEYS.stream(ID).meta) == await made.redis.ttl(KEYS.stream("other").meta) == -1
    assert await made.queue.unfinished(0, 10) == [ID, "other"]
    assert await made.queue.jobs([f"{ID}:1", "other:1"]) == [(True, -2)] * 2
    assert await made.redis.llen(KEYS.queue_wake) == 2


async def test_the_single_steps_meet_what_was_made_when_its_reply_was_lost(made: Made) -> None:
    answer = await made.create(nonce="mine")
    assert await made.streams.create(new(), nonce="mine") == answer
    assert (await made.streams.create(new(), nonce="another"))[0] == "exists"


async def test_a_server_that_forgot_the_scripts_makes_no_stream(made: Made) -> None:
    await made.create("first")
    await made.redis.script_flush()
    with pytest.raises(NoScriptError):
        await made.create()
    assert not await made.redis.exists(KEYS.stream(ID).meta)
    assert (await made.streams.create(new()))[0] == "created"
