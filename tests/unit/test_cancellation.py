"""A cancel whose answer was lost keeps its id, even if the server loses it after somebody saw it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from api import repeats as repeats_module
from api import services
from api.problems import Problem
from api.repeats import Repeats
from api.services import Cancellation
from shared.keys import Keys
from shared.log import read_entries
from shared.new_stream import NewStream
from shared.redis import leave_streams_raw, load_scripts
from shared.settings import Settings
from shared.streams import Streams
from shared.uptime import Trouble

ID = "A" * 24
KEYS = Keys("t").stream(ID)


class Waking:
    """Stands for the queue: who was told of a cancel."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def cancelled(self, stream_id: str) -> None:
        self.told.append(stream_id)


class FaultyStreams(Streams):
    """What happens at the next cancel that names an epoch, once."""

    before: Callable[[], Awaitable[object]] | None = None
    after: Callable[[], Awaitable[object]] | None = None

    async def cancel(self, *args: Any, **options: Any) -> tuple[str, ...]:
        named = args[5]
        if named and (happening := self.before):
            self.before = None
            await happening()
        answer = await super().cancel(*args, **options)
        if named and (happening := self.after):
            self.after = None
            await happening()
            answer = await super().cancel(*args, **options)  # nobody heard the answer, so it is sent again
        return answer


async def lost() -> None:
    raise RedisConnectionError("no answer")


class Place:
    """A stream that runs, on a server that can lose what came since ``save``."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.up_s = 100
        self.queue = Waking()
        self.streams = FaultyStreams(redis, Keys("t"), load_scripts(shebang=False), tries=1)
        self.trouble = Trouble()
        self.repeats = Repeats(self.age, self.trouble.note)
        self.cancellation = Cancellation(
            Settings(),
            self.streams,
            self.queue,  # type: ignore[arg-type]
            self.repeats,
            self.trouble,
        )
        self._saved: dict[str, bytes] = {}

    async def age(self) -> int:
        return self.up_s

    async def run(self) -> None:
        fields = {"request": "{}", "about": '{"model":"m"}', "model": "m", "on_failure": "restart"}
        await self.streams.create(NewStream(ID, "h", "owner", b"{}", fields), 0)
        await self.streams.confirm(ID)
        assert (await self.streams.claim(ID, "w", 3000, 3, 3_600_000)).outcome == "run"

    async def save(self) -> None:
        self._saved = {key: await self.redis.dump(key) for key in (KEYS.meta, KEYS.log)}

    async def lose(self) -> None:
        for key, value in self._saved.items():
            await self.redis.restore(key, 0, value, replace=True)

    @asynccontextmanager
    async def looked_after(self) -> AsyncIterator[None]:
        """With what the API does beside its calls, for five seconds at most."""
        looking = asyncio.create_task(self.repeats.run())
        try:
            async with asyncio.timeout(5):
                yield
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def until_cancelled(self) -> None:
        while (await self.last())[0] != "cancelled":
            await asyncio.sleep(0.01)

    async def last(self) -> tuple[str, str]:
        entry = read_entries(await self.redis.execute_command("XRANGE", KEYS.log, "-", "+"))[-1]
        return entry.type, entry.cursor.encode().decode()


@pytest_asyncio.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(repeats_module, "LOOK_S", 0.01)
    monkeypatch.setattr(repeats_module, "ENDS_AFTER_S", 0.05)
    monkeypatch.setattr(services, "SETTLE_LOOK_S", 0.01)
    monkeypatch.setattr(services, "SETTLE_LOOKS", 500)
    client = FakeAsyncRedis(version=(7, 2))
    leave_streams_raw(client)
    made = Place(client)
    await made.run()
    yield made
    await client.aclose()


async def test_a_cancel_is_told_to_the_worker_and_under_the_id_that_is_in_the_log(place: Place) -> None:
    answer = await place.cancellation.cancel(ID, b"{}", "n")
    assert await place.last() == answer
    assert place.queue.told == [ID]
    assert await place.cancellation.cancel(ID, b"{}", "n2") == ("ended", "cancelled")


async def test_a_cancel_that_was_seen_but_never_answered_comes_back_under_its_id(place: Place) -> None:
    await place.save()
    place.streams.after = lost
    with pytest.raises(RedisConnectionError):
        await place.cancellation.cancel(ID, b"{}", "n")
    seen = await place.last()
    assert seen[0] == "cancelled"
    await asyncio.sleep(0.01)  # the clock goes on: a new epoch would be another one
    await place.lose()
    place.up_s = 0
    async with place.looked_after():
        await place.repeats.returned()
        assert (await place.streams.claim(ID, "w2", 3000, 3, 3_600_000)).outcome == "settling"
        place.up_s = repeats_module.ENDS_UP_S
        await place.until_cancelled()
    assert await place.last() == seen


async def test_a_cancel_that_was_lost_before_its_answer_came_is_announced_though_its_caller_waits(
    place: Place,
) -> None:
    """The connection is back at once, and the call is sent again to a server that settles."""
    await place.save()
    seen = []

    async def lose() -> None:
        seen.append(await place.last())
        await place.lose()
        await place.redis.hset(KEYS.meta, "restored_ms", 9_000_000_000_000)

    place.streams.after = lose
    async with place.looked_after():
        answer = await place.cancellation.cancel(ID, b"{}", "n")
    assert answer == seen[0] == await place.last()


async def test_a_cancel_that_never_came_to_be_gives_way_to_the_one_that_did(place: Place) -> None:
    await place.save()
    place.streams.before = lost
    with pytest.raises(RedisConnectionError):
        await place.cancellation.cancel(ID, b"{}", "n1")
    await asyncio.sleep(0.01)
    assert (await place.cancellation.cancel(ID, b"{}", "n2"))[0] == "cancelled"
    seen = await place.last()
    async with place.looked_after():
        while len(place.repeats._writes) > 1:
            await asyncio.sleep(0.01)
        await place.lose()
        await place.repeats.returned()
        await place.until_cancelled()
    assert await place.last() == seen


async def test_whoever_claims_it_in_between_is_cancelled_too(place: Place) -> None:
    async def claim() -> None:
        await place.redis.delete(KEYS.lease)
        assert (await place.streams.claim(ID, "w2", 3000, 3, 3_600_000)).outcome == "run"

    place.streams.before = claim
    answer = await place.cancellation.cancel(ID, b"{}", "n")
    assert answer == await place.last()
    assert answer[0] == "cancelled"
    assert len(place.repeats._writes) == 1


async def test_a_stream_that_was_erased_and_made_anew_is_another_one(place: Place) -> None:
    place.streams.before = lost
    with pytest.raises(RedisConnectionError):
        await place.cancellation.cancel(ID, b"{}", "n")
    await place.streams.erase(ID)
    await asyncio.sleep(0.01)
    await place.run()
    async with place.looked_after():
        await place.repeats.returned()
        await asyncio.sleep(0.2)
    assert (await place.last())[0] == "started"
    assert (await place.streams.fields(ID, "cancelling")) == [None]


async def test_a_cancel_that_waits_does_not_end_what_was_made_anew_meanwhile(place: Place) -> None:
    async def make_anew() -> None:
        await place.streams.erase(ID)
        await asyncio.sleep(0.01)
        await place.run()

    place.streams.before = make_anew
    assert await place.cancellation.cancel(ID, b"{}", "n") == ("gone",)
    assert (await place.last())[0] == "started"


async def test_a_server_that_does_not_settle_is_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "SETTLE_LOOKS", 5)
    await place.redis.hset(KEYS.meta, "restored_ms", 9_000_000_000_000)
    with pytest.raises(Problem) as raised:
        await place.cancellation.cancel(ID, b"{}", "n")
    assert raised.value.status == 503
