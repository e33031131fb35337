"""The queue's order and its shares: no key waits for another one's heap, and no key gets every place."""

from contextlib import ExitStack

import pytest
from redis.asyncio import Redis

from shared.config.settings import load
from shared.store.keys import Keys
from shared.store.queue import FIRST, Job, Lane, Queue, Shares, job_id, job_key, job_payload
from shared.store.quotas import NOTHING, Ended, Quotas
from worker.main import shared_places
from worker.places import HELD, Places

KEYS = Keys("t")
A, B, C = (Lane("p", name) for name in "abc")
ROOM = Shares(1000, 1000)


async def put(queue: Queue, lane: Lane, *names: str) -> None:
    for name in names:
        await queue.put(name, 1, lane)


async def taken(queue: Queue, shares: Shares = ROOM) -> list[str]:
    return [job.stream_id for job in (await queue.take(shares)).jobs]


def many(name: str, count: int) -> list[str]:
    return [f"{name}{n:03}" for n in range(count)]


async def test_the_nth_job_of_each_key_stands_beside_the_nth_of_all_others(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, *many("a", 50))
    await put(queue, B, "b1", "b2")
    await put(queue, C, "c1")
    first = await taken(queue, Shares(5, 100))
    assert sorted(first) == ["a000", "a001", "b1", "b2", "c1"]
    assert first.index("b1") < first.index("b2")
    assert await taken(queue) == many("a", 50)[2:], "in the order in which they came"


async def test_a_key_that_comes_later_waits_for_one_job_and_not_for_what_was_served(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, *many("a", 100))
    for _ in range(40):
        await taken(queue, Shares(1, 100))
    await put(queue, B, "b1")
    assert "b1" in await taken(queue, Shares(2, 100))


async def test_a_key_does_not_gain_by_more_providers(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    for provider in "pqrst":
        await put(queue, Lane(provider, "a"), *many(provider, 10))
    await put(queue, B, *many("b", 10))
    first = await taken(queue, Shares(10, 100))
    assert sum(name.startswith("b") for name in first) == 5


async def test_a_stream_that_has_begun_comes_before_all_new_ones(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, *many("a", 3))
    await put(queue, B, "b1")
    await queue.put("begun", 2, A, FIRST)
    assert (await taken(queue))[0] == "begun"


async def test_a_job_put_back_has_the_place_that_it_had(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, "a1", "a2")
    got = (await queue.take(Shares(1, 100))).jobs
    await queue.put_back(got)
    assert await taken(queue) == ["a1", "a2"]


async def test_a_job_is_enqueued_once(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, "a1", "a1", "a1")
    assert await queue.waiting() == 1
    assert await redis.hget(KEYS.books, "waiting:a") == b"1"  # type: ignore[misc]


async def test_one_key_gets_half_of_the_places_two_get_a_third_each(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, *many("a", 50))
    shares = Shares(12, 48, keys=True)
    assert await taken(queue, shares) == many("a", 6)
    await put(queue, B, *many("b", 50))
    held = {"key:a": (6, 6)}
    assert await taken(queue, Shares(6, 42, keys=True, held=held)) == many("b", 3)
    held |= {"key:b": (3, 3)}
    assert await taken(queue, Shares(3, 39, keys=True, held=held)) == []
    await put(queue, C, "c1")
    assert await taken(queue, Shares(3, 39, keys=True, held=held)) == ["c1"], "something is left for the next one"


async def test_streams_that_have_begun_may_exceed_their_share_and_leave_something_too(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    for name in many("begun", 12):
        await queue.put(name, 2, A, FIRST)
    await put(queue, A, "new")
    await put(queue, B, "b1")
    shares = Shares(12, 48, keys=True)
    assert await taken(queue, shares) == [*many("begun", 9), "b1"]


async def test_keys_of_nobody_share_nothing_and_a_number_of_places_can_be_set(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, Lane("p", ""), *many("n", 12))
    assert len(await taken(queue, Shares(12, 48, keys=True))) == 12
    await put(queue, A, *many("a", 12))
    assert len(await taken(queue, Shares(12, 48, keys=True, most_of_key=9))) == 9


async def test_a_slow_provider_does_not_get_every_place(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    slow, quick = Lane("slow", ""), Lane("quick", "")
    await put(queue, slow, *many("s", 20))
    await put(queue, quick, "q1")
    got = await taken(queue, Shares(10, 40, providers=True))
    assert got.count("q1") == 1
    assert len(got) <= 6
    held = {"provider:slow": (5, 5)}
    assert await taken(queue, Shares(5, 35, providers=True, held=held)) == []


async def test_a_key_does_not_get_every_place_of_its_provider(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    greedy, other = Lane("p", "a"), Lane("p", "b")
    await put(queue, greedy, *many("a", 50))
    assert await taken(queue, Shares(12, 48, keys=True, providers=True)) == many("a", 4), "a third, not a half"
    held = {"key:a": (4, 4), "provider:p": (4, 4), "lane:p:a": (4, 4)}
    await put(queue, other, *many("b", 50))
    assert await taken(queue, Shares(8, 44, keys=True, providers=True, held=held)) == many("b", 2)


async def test_streams_that_hold_no_place_are_bounded_by_the_same_rule(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, "a1")
    await put(queue, B, "b1")
    paused = {"key:a": (0, 20)}
    assert await taken(queue, Shares(10, 20, keys=True, held=paused)) == ["b1"]


async def test_a_job_of_a_program_that_knows_arq_alone_is_taken_in_its_turn(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, *many("a", 10))
    await redis.set(job_key("hex"), job_payload("foreign"))
    await redis.zadd(KEYS.queue, {"hex": 1_700_000_000_000})
    assert "foreign" in await taken(queue, Shares(2, 100))


async def test_a_job_that_arq_s_own_worker_took_is_forgotten(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, "a1", "a2", "a3")
    await queue.take_out(job_id("a1", 1, A))
    await redis.zrem(KEYS.queue, job_id("a2", 1, A))  # by one that tells nobody
    assert await taken(queue) == ["a3"]
    assert await redis.keys("t:lane*") == []
    assert not await redis.exists(KEYS.books)


async def test_lanes_that_were_lost_are_made_anew(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, "a1")
    await put(queue, B, "b1")
    await redis.delete(KEYS.lanes, KEYS.books, KEYS.lane(str(A)))
    assert sorted(await taken(queue)) == ["a1", "b1"]


async def test_the_job_that_wakes_a_worker_goes_back_to_its_place(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await put(queue, A, "a1", "a2")
    full = Shares(5, 20, keys=True, held={"key:a": (5, 5)})
    found = await queue.take(full, 1.0, redis)
    assert found == ([], 2)
    assert await taken(queue) == ["a1", "a2"]


async def test_one_key_fills_a_part_of_the_queue(redis: Redis) -> None:
    queue, limits = Queue(redis, KEYS), Quotas(redis, KEYS, waiting=9, shared=True)

    async def fill(lane: Lane, count: int) -> int:
        for n in range(count):
            word, number = await limits.admit(lane.owner, f"{lane.owner}{n}")
            if word != b"ok":
                assert word == b"queue_full"
                return number
            await queue.put(f"{lane.owner}{n}", 1, lane)
        return -1

    assert await fill(A, 9) == 5
    assert await fill(B, 9) == 2
    assert await fill(C, 1) == -1
    await redis.hset(KEYS.books, "waiting:a", "100")  # type: ignore[misc]
    await taken(queue, Shares(4, 100))
    assert (await limits.admit("a", "again"))[0] == b"ok", "a wrong count heals before anybody is refused"


async def bytes_of(redis: Redis, owner: str) -> int:
    return int(await redis.hget(KEYS.requests_of(owner), "sum") or 0)  # type: ignore[misc]


async def test_a_key_stores_so_many_bytes_and_gets_them_back_when_streams_end_and_expire(redis: Redis) -> None:
    limits = Quotas(redis, KEYS)
    limits.most_bytes = 100
    assert [(await limits.admit("a", name, 40))[0] for name in "123"] == [b"ok", b"ok", b"too_many_bytes"]
    assert await limits.admit("a", "3", 40) == (b"too_many_bytes", 20), "what is left is told"
    assert (await limits.admit("a", "1", 40))[0] == b"ok", "one that is there takes nothing again"
    assert (await limits.admit("b", "4", 40))[0] == b"ok"
    await limits.settle([Ended("1", "a", 10), Ended("1", "a", 10), Ended("unknown", "a", 10)], 60_000)
    assert await bytes_of(redis, "a") == 50
    assert (await limits.admit("a", "3", 40))[0] == b"ok"
    await redis.zrem(KEYS.unfinished, "2")  # erased, or lost
    (hour,) = await redis.hkeys(KEYS.kept_of("a"))  # type: ignore[misc]
    await redis.hset(KEYS.kept_of("a"), mapping={"400000": 30, hour: 0})  # type: ignore[misc]
    await redis.hset(KEYS.requests_of("a"), "seen", 0)  # type: ignore[misc]
    assert (await limits.admit("a", "5", 60))[0] == b"ok", "what is gone counts no longer"
    assert await bytes_of(redis, "a") == 100


async def test_a_create_is_refused_at_full_memory(redis: Redis) -> None:
    limits = Quotas(redis, KEYS)
    limits.most_bytes = NOTHING
    assert (await limits.admit("a", "1", 1))[0] == b"redis_full"
    assert await redis.keys() == []


@pytest.mark.parametrize("places", [1, 10])
def test_a_stream_that_carries_nothing_gives_its_place_back(places: int) -> None:
    all_of = Places(places, keys=True)
    jobs = [Job(job_id(f"s{n}", 1, A), f"s{n}", 1) for n in range(places)]
    for job in jobs:
        all_of.take(job)
    assert all_of.free == 0
    with all_of.given_back("s0"):
        assert all_of.free == 1
        assert all_of.shares.held["key:a"] == (places - 1, places)
        with all_of.given_back("unknown"):
            assert all_of.free == 1
    assert all_of.free == 0
    for job in jobs:
        all_of.leave(job)
    assert all_of.shares == Shares(places, HELD * places, True)


def test_idle_streams_are_bounded_too() -> None:
    places = Places(2)
    with ExitStack() as idle:
        for n in range(2 * HELD):
            assert places.free > 0
            places.take(Job(f"s{n}:1:p:", f"s{n}", 1))
            idle.enter_context(places.given_back(f"s{n}"))
        assert places.free == 0


@pytest.mark.parametrize(
    ("env", "keys", "providers"),
    [
        ({}, True, False),
        ({"HEADRACE_API_KEYS": f"one:{'0' * 64}"}, False, False),
        ({"HEADRACE_API_KEYS": f"one:{'0' * 64},one:{'1' * 64}"}, False, False),
        ({"HEADRACE_API_KEYS": f"one:{'0' * 64},two:{'1' * 64}"}, True, False),
        ({"HEADRACE_API_KEYS": f"one:{'0' * 64}", "HEADRACE_RUNNING_PER_KEY": "5"}, True, False),
        ({"OPENAI_API_KEY": "k"}, True, True),
    ],
)
def test_one_that_is_alone_has_nobody_to_share_with(env: dict[str, str], keys: bool, providers: bool) -> None:
    shares = shared_places(load({"LOCAL_BASE_URL": "http://127.0.0.1:9/v1", **env})).shares
    assert (shares.keys, shares.providers) == (keys, providers)
