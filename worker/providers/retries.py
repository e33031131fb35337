"""When to ask a provider again, before its first token. Pure: time and chance are handed in.

Exponential backoff with jitter, so that workers which were refused together do not come back together; a
``Retry-After`` is never undercut. Both bounds hold: so many tries, and all of them begun within the time.
"""

import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from worker.providers.base import ProviderError

RETRIED: Final = frozenset(
    {"provider_unreachable", "provider_connect_timeout", "provider_unavailable", "provider_rate_limited"}
)
"""Codes after which nothing was generated, and nothing billed: asking again is free."""

FIRST_BACKOFF_S: Final = 0.25
MAX_BACKOFF_S: Final = 8.0
"""Beyond this a user has left; the time for all tries is 20 s by default."""

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """``Retry-After`` in seconds from ``now`` (RFC 9110, 10.2.3: seconds or an HTTP date; some providers
    send fractions). None where there is none, or none that can be read."""
    text = (value or "").strip()
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


class Tries:
    """The tries at one request: counts them, and says how long to wait before the next."""

    def __init__(
        self,
        tries: int,
        within_s: float,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._left = tries - 1
        self._backoff_s = FIRST_BACKOFF_S
        self._clock = clock
        self._chance = chance
        self._until = clock() + within_s

    def delay_after(self, error: ProviderError) -> float | None:
        """Seconds until the next try, or None when there is none: the error stands."""
        if error.code not in RETRIED or not error.retryable or self._left < 1:
            return None
        left_s = self._until - self._clock()
        backoff_s = self._backoff_s * (0.5 + self._chance())
        asked_s = error.retry_after_s
        # Not earlier than asked, and not all at the same moment either, as far as the time allows.
        delay_s = backoff_s if asked_s is None else max(asked_s, min(asked_s + backoff_s, left_s))
        if delay_s > left_s:
            return None
        self._left -= 1
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
        return delay_s
