"""Turns at a provider: so many at once, so many a minute, in order of arrival, and given back by
silence."""

from redis.asyncio import Redis

from shared.config.providers import Provider
from shared.store.keys import Keys
from shared.store.provider_limits import ProviderLimits, ProviderTurn, TurnRequest
from worker.attempt.pacing import Pacing

KEYS = Keys("t")


def asking(name: str, estimated: int = 0, **limits: int) -> TurnRequest:
    return TurnRequest(name, Provider("p", "openai", "http://x", "", **limits), estimated)  # type: ignore[arg-type]


async def one(redis: Redis, asked: TurnRequest) -> ProviderTurn:
    return (await ProviderLimits(redis, KEYS).ask([asked]))[0]


async def test_so_many_run_at_once_and_the_others_stand_in_line(redis: Redis) -> None:
    turns = ProviderLimits(redis, KEYS)
    answers = await turns.ask([asking(name, max_concurrent=2) for name in "abcd"])
    assert [(turn.place, turn.limit) for turn in answers] == [
        (0, ""), (0, ""), (1, "max_concurrent"), (2, "max_concurrent"),
    ]  # fmt: skip


async def test_a_turn_that_comes_free_goes_to_the_first_in_line_whoever_asks_first(redis: Redis) -> None:
    turns = ProviderLimits(redis, KEYS)
    await turns.ask([asking(name, max_concurrent=1) for name in "abc"])
    await turns.leave(asking("a"), 0, None)
    assert (await one(redis, asking("c", max_concurrent=1))).place == 2
    assert (await one(redis, asking("b", max_concurrent=1))).place == 0
    assert (await one(redis, asking("c", max_concurrent=1))).place == 1


async def test_a_turn_is_kept_by_asking(redis: Redis) -> None:
    assert (await one(redis, asking("a", max_concurrent=1))).place == 0
    assert (await one(redis, asking("a", max_concurrent=1))).place == 0
    assert (await one(redis, asking("b", max_concurrent=1))).place == 1


async def test_the_silent_lose_their_turn_and_their_place(redis: Redis) -> None:
    turns = ProviderLimits(redis, KEYS)
    await turns.ask([asking(name, max_concurrent=1) for name in "abc"])
    line, seen, running, *_ = KEYS.turns("p")
    await redis.zadd(running, {"a": 1})
    await redis.zadd(seen, {"b": 1})
    assert (await one(redis, asking("c", max_concurrent=1))).place == 0
    assert await redis.zrange(line, 0, -1) == []


async def test_a_minute_begins_no_more_requests_than_its_limit(redis: Redis) -> None:
    turns = ProviderLimits(redis, KEYS)
    answers = await turns.ask([asking(str(n), requests_per_minute=3) for n in range(5)])
    assert [turn.place for turn in answers] == [0, 0, 0, 1, 2]
    assert answers[3].limit == "requests_per_minute"
    used = KEYS.turns("p")[3]
    ((second, told),) = (await redis.hgetall(used)).items()
    await redis.delete(used)
    await redis.hset(used, str(int(second) - 61), told)
    assert (await one(redis, asking("3", requests_per_minute=3))).place == 0


async def test_tokens_a_minute_are_reckoned_first_and_put_right_at_the_end(redis: Redis) -> None:
    turns = ProviderLimits(redis, KEYS)
    first = asking("a", 800, tokens_per_minute=1000)
    (turn,) = await turns.ask([first])
    assert (turn.place, turn.second > 0) == (0, True)
    second = asking("b", 800, tokens_per_minute=1000)
    assert (await one(redis, second)).limit == "tokens_per_minute"
    await turns.leave(first, turn.second, 100)
    assert (await one(redis, second)).place == 0


async def test_a_request_larger_than_the_minute_goes_alone(redis: Redis) -> None:
    assert (await one(redis, asking("a", 5000, tokens_per_minute=1000))).place == 0
    assert (await one(redis, asking("b", 1, tokens_per_minute=1000))).place == 1


def test_the_pace_gives_a_seconds_worth_and_then_waits() -> None:
    now = 100.0
    pace = Pacing(10, lambda: now)
    waits = [pace.wait_s({"text": "a"}) for _ in range(5)]
    assert [round(wait_s, 3) for wait_s in waits] == [0.1, 0.2, 0.3, 0.4, 0.5]
    now += 60
    assert pace.wait_s({"text": "a"}) == 0
    assert [pace.wait_s({"text": "a"}) > 0 for _ in range(12)][-1]


def test_a_long_piece_counts_for_more_than_one_token() -> None:
    pace = Pacing(10, lambda: 100.0)
    assert round(pace.wait_s({"text": "x" * 400}), 3) == 10.0


def test_a_provider_without_a_pace_makes_nobody_wait() -> None:
    assert Pacing(0, lambda: 0.0).wait_s({"text": "x"}) == 0.0


async def test_a_clock_that_went_back_holds_no_turn_and_no_minute(redis: Redis) -> None:
    turns = ProviderLimits(redis, KEYS)
    await turns.ask([asking(name, max_concurrent=1, requests_per_minute=2) for name in "abc"])
    _, seen, running, used, _ = KEYS.turns("p")
    second = int((await redis.time())[0])
    await redis.zadd(running, {"a": (second + 3600) * 1000})
    await redis.zadd(seen, {"b": (second + 3600) * 1000})
    await redis.delete(used)
    await redis.hset(used, str(second + 3600), "2 0")  # type: ignore[misc]
    assert (await one(redis, asking("c", max_concurrent=1, requests_per_minute=2))).place == 2, "they may live"
    for signs in (seen, running):
        assert max(score for _, score in await redis.zrange(signs, 0, -1, withscores=True)) < (second + 60) * 1000
    await turns.leave(asking("a"), 0, None)
    await turns.leave(asking("b"), 0, None)
    assert (await one(redis, asking("c", max_concurrent=1, requests_per_minute=2))).place == 0
