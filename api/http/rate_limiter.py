"""How often a caller may do something, counted by this process alone.

What is refused or only read must not cost a round trip to Redis, so it is counted here: with two API processes a
caller has twice as much. (Creations are counted in Redis, for all processes together: :mod:`shared.store.quotas`.)

Theory of operation. As there, one number is kept for each name: the moment at which all that was taken is given
back (GCRA). A minute's worth may come at once, then it flows at the rate. Whoever has waited for long
enough has no number.
"""

import asyncio
from typing import Final

MINUTE_S: Final = 60.0
MOST_S: Final = 60.0
"""Nobody is sent away for longer."""
SWEPT_AT: Final = 10_000
"""At so many names those that have everything back are dropped."""


class RateLimiter:
    """So much a minute for each name; 0: any number."""

    def __init__(self, per_minute: int, burst_s: float = MINUTE_S) -> None:
        """``burst_s``: for so long the rate may have been saved up."""
        self._each_s = MINUTE_S / per_minute if per_minute else 0.0
        self._burst_s = max(burst_s, self._each_s)
        self._back_at: dict[str, float] = {}
        self._sweep_at = SWEPT_AT

    def wait_s(self, name: str) -> float:
        """For how long there is nothing for this name; 0: there is something now."""
        if not self._each_s:
            return 0.0
        back_at = self._back_at.get(name, 0.0)
        return max(0.0, back_at + self._each_s - self._burst_s - asyncio.get_running_loop().time())

    def take(self, name: str, count: float = 1) -> float:
        """Take so much, even where there is less. Out: for how long there is nothing more then (s)."""
        if not self._each_s:
            return 0.0
        now = asyncio.get_running_loop().time()
        self._back_at[name] = max(self._back_at.get(name, 0.0), now) + count * self._each_s
        if len(self._back_at) > self._sweep_at:
            self._back_at = {one: at for one, at in self._back_at.items() if at > now}
            self._sweep_at = max(SWEPT_AT, 2 * len(self._back_at))
        return self.wait_s(name)


class OpenLimits:
    """Event streams that are opened, of one stream and of one key. Whoever is refused is told when to come back:
    later the more are refused at once, so that they do not come all together."""

    def __init__(self, per_stream: int, per_key: int) -> None:
        self._rates = (RateLimiter(per_stream), RateLimiter(per_key))
        self._refused = (RateLimiter(per_stream, 0), RateLimiter(per_key, 0))

    def admit(self, stream_id: str, owner: str) -> float:
        """One is to be opened. Out: 0, or in how many seconds it may be tried again."""
        names = (stream_id, owner)
        for name, rate, refused in zip(names, self._rates, self._refused, strict=True):
            if rate.wait_s(name):
                return min(MOST_S, refused.take(name))
        for name, rate in zip(names, self._rates, strict=True):
            rate.take(name)
        return 0.0
