"""When a rewrite of the server's file is due: what is noted, how often, and by what clock."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis

from shared.config.settings import Settings
from shared.store import erasures
from shared.store.erasures import EXPIRY_MARGIN_MS, MARGIN_MS, Erasures
from shared.store.keys import Keys

KEYS = Keys("t")
INTERVAL_S, RETENTION_S = 600, 3600.0


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[Any]:
    async with FakeAsyncRedis(version=(7, 2)) as client:
        yield client


@pytest.fixture(autouse=True)
def without_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """fakeredis's Lua knows no flags."""
    load = erasures.load_script
    monkeypatch.setattr(erasures, "load_script", lambda name: load(name, shebang=False))


def made(redis: Any, rewrite_s: int = INTERVAL_S) -> Erasures:
    return Erasures(Settings(rewrite_s=rewrite_s, retention_s=RETENTION_S), redis, KEYS)


async def noted(redis: Any) -> list[int]:
    return [int(member) for member in await redis.zrange(KEYS.erasures, 0, -1)]


async def now_ms(redis: Any) -> int:
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def test_a_rewrite_is_due_behind_what_went_and_behind_the_expiry_of_what_is_left(redis: Any) -> None:
    before = await now_ms(redis)
    await made(redis).note()
    after = await now_ms(redis)
    first, *later = await noted(redis)
    interval, left = INTERVAL_S * 1000, int(RETENTION_S * 1000) + EXPIRY_MARGIN_MS
    assert [due % interval for due in (first, *later)] == [0] * (1 + len(later))
    assert before + MARGIN_MS < first <= after + MARGIN_MS + interval
    assert before + left < later[0] <= after + left + MARGIN_MS + interval
    assert later[-1] > first + left, "what goes last within the interval, too"


async def test_one_note_counts_for_all_that_goes_within_the_interval(redis: Any) -> None:
    one, other = made(redis), made(redis)
    await one.note()
    first = await noted(redis)
    await redis.delete(KEYS.erasures)
    await one.note()
    assert await noted(redis) == [], "asked nobody"
    await other.note()
    assert await noted(redis) == first, "and two processes note the same"


async def test_erasures_are_not_noted_without_rewrites(redis: Any) -> None:
    await made(redis, rewrite_s=0).note()
    assert await noted(redis) == []


async def test_an_overdue_rewrite_is_told_with_its_age(redis: Any) -> None:
    assert await made(redis).overdue_s() == 0
    await redis.zadd(KEYS.erasures, {str(await now_ms(redis) + 60_000): await now_ms(redis) + 60_000})
    assert await made(redis).overdue_s() == 0
    due = await now_ms(redis) - 60_000
    await redis.zadd(KEYS.erasures, {str(due): due})
    assert 60 <= await made(redis).overdue_s() < 70
