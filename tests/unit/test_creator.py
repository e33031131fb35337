"""Creating a stream: in one step where one server holds log and queue, in three on two; whole or not at all."""

import asyncio

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.redis import load_scripts
from shared.store.create import CreateResult, Creator
from shared.store.keys import Keys
from shared.store.new_stream import NewStream
from shared.store.queue import Queue, Shares
from shared.store.quotas import Quotas
from shared.store.streams import Streams

ID = "abc"
KEYS = Keys("t")
ROOM = Shares(10, 10)
FIELDS: dict[str, str | bytes] = {"request": "{}", "about": "{}", "model": "m", "on_failure": "continue"}


class Made:
    """A server, and what creates on it."""

    def __init__(self, redis: Redis, *, one_server: bool) -> None:
        self.redis = redis
        self.streams = Streams(redis, KEYS, load_scripts(shebang=False), tries=1)
        self.queue = Queue(redis, KEYS)
        self.limits = Quotas(redis, KEYS, at_once=2)
        self.creator = Creator(self.streams, self.queue, self.limits, one_server=one_server)

    async def create(self, stream_id: str = ID, request_hash: str = "hash", wait_s: float = 5.0) -> CreateResult:
        new = NewStream(stream_id, request_hash, "owner", b"{}", FIELDS)
        until = asyncio.get_running_loop().time() + wait_s
        return await self.creator.create(new, until, may_exist=True)


@pytest_asyncio.fixture(params=["one server", "two servers"])
async def made(request: pytest.FixtureRequest, redis: Redis) -> Made:
    return Made(redis, one_server=request.param == "one server")


async def test_a_create_leaves_the_record_the_place_among_the_unfinished_and_the_job(made: Made) -> None:
    assert await made.create() == CreateResult("created")
    assert await made.streams.fields(ID, "status", "owner", "attempt") == ["queued", "owner", "0"]
    assert await made.redis.ttl(KEYS.stream(ID).meta) == -1
    assert list(await made.queue.unfinished(0, 10)) == [ID]
    assert await made.queue.jobs([f"{ID}:1::owner"]) == [True]
    assert set(await made.limits.streams_of("owner")) == {ID}


async def test_a_repeated_create_meets_the_first_and_takes_nothing(made: Made) -> None:
    await made.create()
    assert await made.create() == CreateResult("exists", "queued")
    await made.create("second")
    assert await made.create() == CreateResult("exists", "queued"), "also where there is no room any more"
    assert await made.queue.waiting() == 2
    claim = await made.streams.claim(ID, "w", 3000, 3)
    assert claim.outcome == "run"
    await made.queue.take(ROOM)
    assert await made.create() == CreateResult("exists", "running")
    assert await made.queue.waiting() == 0, "one that runs needs no job"


async def test_another_request_under_the_same_id_is_a_conflict_and_changes_nothing(made: Made) -> None:
    await made.create()
    before = await made.redis.dbsize()
    assert (await made.create(request_hash="other")).outcome == "conflict"
    assert await made.redis.dbsize() == before


async def test_a_refused_create_leaves_nothing(made: Made) -> None:
    for name in ("1", "2"):
        await made.create(name)
    before = await made.redis.dbsize()
    assert (await made.create("3")).outcome == "too_many_streams"
    assert list(await made.queue.unfinished(0, 10)) == ["1", "2"]
    assert (await made.redis.dbsize(), await made.queue.waiting()) == (before, 2)


async def test_a_server_that_forgot_the_scripts_is_told_them_again(made: Made) -> None:
    await made.create("first")
    await made.redis.script_flush()
    assert (await made.create()).outcome == "created"


async def test_a_create_that_arrives_when_nobody_waits_any_more_makes_no_record(made: Made) -> None:
    await made.create("first")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await made.create(wait_s=-1)
    assert not await made.redis.exists(KEYS.stream(ID).meta)
    assert await made.queue.waiting() == 1


async def test_a_stream_whose_job_could_not_be_put_is_among_the_unfinished(redis: Redis) -> None:
    class Away(Queue):
        async def put(self, *_: object) -> None:
            raise RedisConnectionError

    made = Made(redis, one_server=False)
    made.creator = Creator(made.streams, Away(redis, KEYS), made.limits, one_server=False)
    with pytest.raises(RedisConnectionError):
        await made.create()
    assert await made.streams.fields(ID, "status") == ["queued"]
    assert list(await made.queue.unfinished(0, 10)) == [ID], "the sweep gives it a job"


async def test_what_is_kept_of_a_request_counts_for_its_key_and_is_not_read_with_the_answer(redis: Redis) -> None:
    made = Made(redis, one_server=True)
    await made.create()
    kept = {**FIELDS, "input": "[]", "asked": "{}", "kept_bytes": "5000"}
    new = NewStream("kept", "hash", "owner", b"{}", kept)
    assert new.size == len(FIELDS["request"]) + 5000
    await made.creator.create(new, asyncio.get_running_loop().time() + 5.0, may_exist=False)
    without, whole = await made.streams.sizes([ID, "kept"])
    assert whole - without == 5000
    found = await made.streams.read("kept")
    assert found is not None
    assert ("asked" in found.record, "input" in found.record) == (True, False)
