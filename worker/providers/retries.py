"""When to ask a provider again, before its first token. Pure: clock and random numbers are passed in.

Exponential backoff with jitter, so that workers that were refused together do not come back together. A
``Retry-After`` is a minimum. Two bounds hold: the number of tries, and the time within which the last try must
begin.
"""

import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate, parsedate_to_datetime
from typing import Final

from worker.providers.base import ProviderError

RETRIED: Final = frozenset(
    {
        "provider_unreachable",
        "provider_connect_timeout",
        "provider_unavailable",
        "provider_rate_limited",
        "provider_error_event",
    }
)
"""Codes that mean, before the first token, that nothing was generated and nothing billed: asking again is free."""

FIRST_BACKOFF_S: Final = 0.25
MAX_BACKOFF_S: Final = 8.0
"""A user does not wait longer than this. The time for all tries is 20 s by default."""

LONGEST_S: Final = 30 * 86_400.0
"""The bound on the wait that is asked for, because a number or a date may have any size."""

_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)


def asked_wait_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """How long a response's headers ask to wait (s). If there are two such headers, the longer wait counts. None if
    there is none that can be read.

    ``Retry-After`` is in seconds or an HTTP date (RFC 9110, 10.2.3; some send fractions), ``retry-after-ms`` is
    OpenAI's.
    """
    ms = _number(headers.get("retry-after-ms", ""))
    found = (None if ms is None else ms / 1000, parse_retry_after(headers.get("retry-after"), now))
    return max((wait_s for wait_s in found if wait_s is not None), default=None)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """``Retry-After`` in seconds from ``now``. None if there is none that can be read."""
    text = (value or "").strip()
    if (seconds := _number(text)) is not None or not text:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
    except OverflowError:
        return LONGEST_S
    except (ValueError, TypeError):
        parts = parsedate(text)
        return LONGEST_S if parts is not None and parts[0] > 9999 else None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(LONGEST_S, max(0.0, (moment - now).total_seconds()))


def _number(text: str) -> float | None:
    text = text.strip()
    return min(LONGEST_S, float(text)) if _SECONDS.fullmatch(text) else None


class Tries:
    """Counts the tries of one request, and says how long to wait before the next."""

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
        """Seconds until the next try; None: do not try again, the error is final."""
        if error.code not in RETRIED or not error.retryable or self._left < 1:
            return None
        left_s = self._until - self._clock()
        backoff_s = self._backoff_s * (0.5 + self._chance())
        asked_s = error.retry_after_s
        # Not earlier than asked, and with jitter, as far as the time allows.
        delay_s = backoff_s if asked_s is None else max(asked_s, min(asked_s + backoff_s, left_s))
        if delay_s > left_s:
            return None
        self._left -= 1
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
        return delay_s
