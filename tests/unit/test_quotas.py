"""The limits' scripts on fakeredis: what is let in, what is refused, and what becomes free again."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from api.streams.admission import Admission
from api.viewing import viewer_quota as seats_module
from api.viewing.viewer_quota import ViewerQuota
from shared.config.settings import Settings
from shared.store.keys import Keys
from shared.store.queue import FIRST
from shared.store.quotas import SEATS_LIFE_MS, Quotas
from shared.store.streams import Liveness

KEYS = Keys("t")


def limits(redis: Any, per_minute: int = 0, at_once: int = 0, waiting: int = 0) -> Quotas:
    return Quotas(redis, KEYS, per_minute=per_minute, at_once=at_once, waiting=waiting)


async def admitted(limits: Quotas, owner: str, *ids: str) -> list[str]:
    answers = [await limits.admit(owner, stream_id) for stream_id in ids]
    return ["" if word == b"ok" else word.decode() for word, _ in answers]


async def test_a_server_without_limits_lets_everything_in_and_tells_the_clock(redis: Any) -> None:
    seconds, _ = await redis.time()
    word, now_ms = await limits(redis).admit("a", "s1")
    assert word == b"ok"
    assert abs(now_ms - int(seconds) * 1000) < 60_000
    assert await redis.keys() == [KEYS.unfinished.encode()], "the sweep looks after it"


async def test_a_minutes_worth_may_come_at_once_and_no_more(redis: Any) -> None:
    some = limits(redis, per_minute=3)
    assert await admitted(some, "a", "1", "2", "3") == ["", "", ""]
    refused, wait_ms = await some.admit("a", "4")
    assert refused == b"rate_limited"
    assert 15_000 < wait_ms <= 20_000
    assert await admitted(some, "b", "5") == [""], "another key has a rate of its own"


async def test_a_refused_create_is_not_counted(redis: Any) -> None:
    some = limits(redis, per_minute=2)
    await admitted(some, "a", "1", "2")
    waits = [(await some.admit("a", "x"))[1] for _ in range(5)]
    assert max(waits) - min(waits) < 1000


async def test_the_rate_flows_after_a_burst(redis: Any) -> None:
    some = limits(redis, per_minute=200)
    count = 0
    while (refused := await some.admit("a", "x"))[0] == b"ok":
        count += 1
    assert count >= 200
    assert refused[1] <= 300
    await asyncio.sleep(refused[1] / 1000)
    assert (await some.admit("a", "y"))[0] == b"ok"


async def test_so_many_streams_at_once_and_room_when_one_is_dropped(redis: Any) -> None:
    some = limits(redis, at_once=2)
    assert await admitted(some, "a", "1", "2", "3") == ["", "", "too_many_streams"]
    assert set(await some.streams_of("a")) == {"1", "2"}
    assert await admitted(some, "a", "1") == [""], "one that is there already needs no room"
    await some.drop("a", ["1"])
    assert await admitted(some, "a", "3") == [""]
    assert await redis.pttl(KEYS.streams_of("a")) > 0, "an owner who never comes back leaves nothing forever"


async def test_a_create_refused_for_want_of_room_takes_nothing_of_the_rate(redis: Any) -> None:
    some = limits(redis, per_minute=2, at_once=1)
    assert await admitted(some, "a", "1", "2", "2", "2") == ["", *["too_many_streams"] * 3]
    await some.drop("a", ["1"])
    assert await admitted(some, "a", "2") == [""]


async def test_a_full_queue_refuses_everybody_and_takes_nothing(redis: Any) -> None:
    some = limits(redis, per_minute=1, at_once=1, waiting=2)
    await redis.zadd(KEYS.queue, {"job:1": 1, "job:2": 2})
    assert await admitted(some, "a", "1") == ["queue_full"]
    await redis.zadd(KEYS.queue, {"job:1": FIRST})
    assert await admitted(some, "a", "1") == [""], "what has begun already was let in before"


async def seats(limits: Quotas, process: str, wanted: int, needed: int | None = None, most: int = 10) -> int:
    return await limits.take_seats("s", process, wanted, wanted if needed is None else needed, most)


async def test_processes_share_the_seats_of_a_stream(redis: Any) -> None:
    some = limits(redis)
    assert await seats(some, "one", 6) == 6
    assert await seats(some, "two", 4) == 4
    assert await seats(some, "two", 5) == 0
    assert await seats(some, "one", 9, needed=6) == 6, "fewer than wanted, as long as it is enough"
    assert await some.take_seats("other", "two", 10, 10, 10) == 10


async def test_seats_that_are_given_back_are_free(redis: Any) -> None:
    some = limits(redis)
    await seats(some, "one", 10)
    await some.keep_seats("one", {"s": 3}, int((await redis.time())[0]) * 1000)
    assert await seats(some, "two", 7) == 7
    await some.keep_seats("one", {"s": 0}, 0)
    assert await redis.hkeys(KEYS.seats("s")) == [b"two"]


async def test_the_seats_of_a_dead_process_run_out(redis: Any) -> None:
    some = limits(redis)
    now_ms = int((await redis.time())[0]) * 1000
    await some.keep_seats("dead", {"s": 10}, now_ms - SEATS_LIFE_MS - 2000)
    assert await seats(some, "two", 10) == 10
    assert await redis.hkeys(KEYS.seats("s")) == [b"two"]
    assert 0 < await redis.pttl(KEYS.seats("s")) <= SEATS_LIFE_MS


async def test_a_clock_that_went_back_holds_no_seats_for_longer_than_one_life(redis: Any) -> None:
    some = limits(redis)
    now_ms = int((await redis.time())[0]) * 1000
    await some.keep_seats("dead", {"s": 10}, now_ms + 3_600_000)
    assert await seats(some, "two", 1) == 0, "it may live"
    until_ms = int((await redis.hget(KEYS.seats("s"), "dead")).split()[1])
    assert abs(until_ms - now_ms - SEATS_LIFE_MS) < 5000


async def test_a_clock_that_went_back_refuses_nobody(redis: Any) -> None:
    some = limits(redis, per_minute=2)
    now_ms = int((await redis.time())[0]) * 1000
    await redis.set(KEYS.creations("a"), now_ms + 3_600_000)
    assert await admitted(some, "a", "1", "2") == ["", ""]
    assert (await some.admit("a", "3"))[0] == b"rate_limited", "and it counts as ever"


@pytest.mark.parametrize("count", [1, 1200])
async def test_many_seats_are_kept_in_few_round_trips(redis: Any, count: int) -> None:
    some = limits(redis)
    await some.keep_seats("one", {f"s{number}": 1 for number in range(count)}, 10**15)
    assert len(await redis.keys("*")) == count


async def test_a_full_server_counts_no_seats_and_turns_no_viewer_away() -> None:
    class Full:
        async def take_seats(self, *asked: object) -> int:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

    async with ViewerQuota(Full(), None, 10).taken("s") as seated:  # type: ignore[arg-type]
        assert seated


async def test_a_process_that_asks_while_seats_are_given_back_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        async def take_seats(self, *asked: object) -> int:
            await asyncio.sleep(0.02)
            return 0

        async def keep_seats(self, *kept: object) -> None:
            return None

        async def now_ms(self) -> int:
            return 0

    monkeypatch.setattr(seats_module, "GIVE_BACK_S", 0.03)
    seats = ViewerQuota(Refusing(), Refusing(), 10)  # type: ignore[arg-type]
    giving_back = asyncio.create_task(seats.run())

    for _ in range(20):
        async with seats.taken("s") as seated:
            assert not seated
    assert not giving_back.done()
    giving_back.cancel()


class Records:
    """Streams of which these have ended."""

    def __init__(self, *ended: str) -> None:
        self._ended = ended

    async def liveness(self, stream_ids: list[str]) -> list[Liveness]:
        return [Liveness("done" if stream_id in self._ended else "running") for stream_id in stream_ids]


class Queue:
    async def now_ms(self) -> int:
        return 0


class OneAfterTheOther(Quotas):
    """Who looks second sees what the first has left."""

    def __init__(self, redis: Any) -> None:
        super().__init__(redis, KEYS, at_once=2)
        self._looks = 0
        self._dropped = asyncio.Event()

    async def streams_of(self, owner: str) -> dict[str, int]:
        self._looks += 1
        if self._looks == 2:
            await self._dropped.wait()
        return await super().streams_of(owner)

    async def drop(self, owner: str, stream_ids: Any) -> None:
        await super().drop(owner, stream_ids)
        self._dropped.set()


async def test_a_create_is_let_in_where_another_one_has_just_made_the_room(redis: Any) -> None:
    some = OneAfterTheOther(redis)
    assert await admitted(some, "a", "1", "2") == ["", ""]
    records: Any = Records("1", "2")
    queue: Any = Queue()
    admission = Admission(Settings(streams_per_key=2), some, records, queue)
    async with asyncio.timeout(60):
        assert await asyncio.gather(admission.make_room("a"), admission.make_room("a")) == [True, True]
    assert await admitted(some, "a", "3", "4") == ["", ""]
    assert not await admission.make_room("a")
    refused = admission.refusal("too_many_streams", 0)
    assert (refused.status, refused.code) == (429, "too_many_streams")
    assert "2 streams at once" in refused.detail
