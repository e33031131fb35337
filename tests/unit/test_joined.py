"""A stream made in one round trip: whole or not at all."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis

from shared.joined import JoinedCreate
from shared.keys import Keys
from shared.limits import Admission, Limits
from shared.new_stream import NewStream
from shared.queue import JOB_LIFE_MS, Queue, job_key
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
        self.limits = Limits(redis, KEYS, per_minute=0, at_once=2, waiting=0)
        self.joined = JoinedCreate(self.streams, KEYS, self.limits)

    async def create(self, stream_id: str = ID, nonce: str = "n") -> Admission:
        return await self.joined.create(new(stream_id), nonce, asyncio.get_running_loop().time() + 5)


@pytest_asyncio.fixture
async def made() -> AsyncIterator[Made]:
    async with FakeAsyncRedis(version=(7, 2)) as redis:
        yield Made(redis, load_scripts(shebang=False))


async def test_one_round_trip_leaves_what_the_single_steps_leave(made: Made) -> None:
    answer = await made.create()
    assert answer.refusal == ""
    other = await made.streams.create(new("other"))
    await made.queue.note("other", answer.now_ms)
    await made.streams.confirm("other")
    await made.queue.put("other", 1, answer.now_ms)
    for name in ("status", "confirmed", "owner", "attempt", "request"):
        assert await made.streams.fields(ID, name) == await made.streams.fields("other", name)
    assert await made.streams.fields(ID, "epoch", "text_from") == [str(answer.epoch), f"{answer.epoch}-0"]
    assert other[0] == "created"
    assert await made.redis.ttl(KEYS.stream(ID).meta) == await made.redis.ttl(KEYS.stream("other").meta) == -1
    assert await made.queue.unfinished(0, 10) == {ID: answer.now_ms, "other": answer.now_ms}
    assert await made.queue.jobs([f"{ID}:1", "other:1"]) == [True] * 2
    assert len(set(await made.redis.zmscore(KEYS.queue, [f"{ID}:1", "other:1"]))) == 1
    lives = [await made.redis.pttl(job_key(f"{stream_id}:1")) for stream_id in (ID, "other")]
    assert all(JOB_LIFE_MS - 5000 < life <= JOB_LIFE_MS for life in lives)
    assert {job.stream_id for job in await made.queue.take(10, 1.0)} == {ID, "other"}


async def test_a_call_whose_reply_was_lost_meets_what_it_made_and_takes_nothing_again(made: Made) -> None:
    answer = await made.create(nonce="mine")
    assert (await made.create(nonce="mine")).epoch == answer.epoch
    assert await made.queue.waiting() == 1
    assert (await made.create("second")).refusal == "", "the first took one of two places"
    assert (await made.streams.create(new(), nonce="another"))[0] == "exists"


async def test_what_is_refused_leaves_nothing(made: Made) -> None:
    for name in ("1", "2"):
        await made.create(name)
    before = await made.redis.dbsize()
    refused = await made.create("3")
    assert refused.refusal == "too_many_streams"
    assert not await made.redis.exists(KEYS.stream("3").meta)
    assert list(await made.queue.unfinished(0, 10)) == ["1", "2"]
    assert (await made.redis.dbsize(), await made.queue.waiting()) == (before, 2)


async def test_a_server_that_forgot_the_scripts_is_told_them_again(made: Made) -> None:
    await made.create("first")
    await made.redis.script_flush()
    assert (await made.create()).refusal == ""
    assert await made.redis.exists(KEYS.stream(ID).meta)


async def test_a_call_that_comes_when_nobody_waits_any_more_makes_nothing(made: Made) -> None:
    await made.create("first")
    now = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await made.joined.create(new(), "n", now - 1)
    assert not await made.redis.exists(KEYS.stream(ID).meta)
    assert await made.queue.waiting() == 1
