"""A server's clock that goes back, or ahead, as those who read it see it: everything that is kept is moved."""

import re
from typing import Any

from redis.asyncio import Redis

MOMENT = re.compile(rb"\d{13}(\.\d+)?")
"""A time in ms, as strings and hashes hold it."""


async def set_ahead(redis: Redis, by_ms: int, pattern: str = "*") -> list[str]:
    """Set every time that is kept ahead by so much, as if the clock had gone back: scores, moments in strings and
    in hashes, and when keys expire. Records and logs stay: what they tell of the past is compared with nothing.
    Where ``by_ms`` is below 0, it is as if that much time had passed.

    In: which keys (a pattern of SCAN's). Out: the keys.
    """
    changed = []
    async for key in redis.scan_iter(pattern):
        name = key.decode()
        if not name.endswith((":meta", ":log", ":snapshot")):
            await _set_ahead(redis, key, await redis.type(key), by_ms)
        if (left_ms := await redis.pttl(key)) > 0:
            await redis.pexpire(key, left_ms + by_ms)
        changed.append(name)
    return changed


async def _set_ahead(redis: Any, key: bytes, kind: bytes, by_ms: int) -> None:
    if kind == b"zset":
        ahead = {
            member: score + by_ms
            for member, score in await redis.zrange(key, 0, -1, withscores=True)
            if score > 1e12
        }
        if ahead:
            await redis.zadd(key, ahead)
    elif kind == b"string" and MOMENT.fullmatch(value := await redis.get(key)):
        await redis.set(key, f"{float(value) + by_ms:.3f}", keepttl=True)
    elif kind == b"hash":
        for field, value in (await redis.hgetall(key)).items():
            moved = re.sub(rb"\b\d{13}\b", lambda found: b"%d" % (int(found[0]) + by_ms), value)
            await redis.hset(key, field, moved)
