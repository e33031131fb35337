"""Rate limits that are counted by this process alone.

Refused bodies and opened event streams must not cost a round trip to Redis, so they are counted here: with two API
processes a caller has twice as much. (Creations are counted in Redis, for all processes together:
:mod:`shared.store.quotas`.)

Theory of operation. As there, one number is kept for each name: the time at which the whole quota is free again
(GCRA). A minute's worth may come at once, then it flows at the rate. A name whose quota is free again needs no
number.
"""

import asyncio
from typing import Final

MINUTE_S: Final = 60.0
MOST_S: Final = 60.0
"""The longest ``Retry-After``."""
SWEPT_AT: Final = 10_000
"""With more names than this, those whose quota is free again are dropped."""


class RateLimiter:
    """A limit for each name, in units a minute; 0: no limit."""

    def __init__(self, per_minute: int, burst_s: float = MINUTE_S) -> None:
        """``burst_s``: as many units as pass in this time may come at once."""
        self._each_s = MINUTE_S / per_minute if per_minute else 0.0
        self._burst_s = max(burst_s, self._each_s)
        self._back_at: dict[str, float] = {}
        self._sweep_at = SWEPT_AT

    def wait_s(self, name: str) -> float:
        """The time until this name may take a unit (s); 0: it may now."""
        if not self._each_s:
            return 0.0
        back_at = self._back_at.get(name, 0.0)
        return max(0.0, back_at + self._each_s - self._burst_s - asyncio.get_running_loop().time())

    def take(self, name: str, count: float = 1) -> float:
        """Take ``count`` units, even if fewer are left. Out: the time until the name may take another one (s)."""
        if not self._each_s:
            return 0.0
        now = asyncio.get_running_loop().time()
        self._back_at[name] = max(self._back_at.get(name, 0.0), now) + count * self._each_s
        if len(self._back_at) > self._sweep_at:
            self._back_at = {one: at for one, at in self._back_at.items() if at > now}
            self._sweep_at = max(SWEPT_AT, 2 * len(self._back_at))
        return self.wait_s(name)


class OpenLimits:
    """Limits on opening event streams: of one stream, and of one key's streams. A refused viewer is told when to
    come back. The more are refused at once, the later that is, so that they do not all come back together."""

    def __init__(self, per_stream: int, per_key: int) -> None:
        self._limiters = (RateLimiter(per_stream), RateLimiter(per_key))
        self._refused = (RateLimiter(per_stream, 0), RateLimiter(per_key, 0))

    def admit(self, stream_id: str, owner: str) -> float:
        """Ask to open an event stream. Out: 0 if it may be opened, else the time until the next try (s)."""
        names = (stream_id, owner)
        for name, limiter, refused in zip(names, self._limiters, self._refused, strict=True):
            if limiter.wait_s(name):
                return min(MOST_S, refused.take(name))
        for name, limiter in zip(names, self._limiters, strict=True):
            limiter.take(name)
        return 0.0
