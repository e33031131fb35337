"""What this process wrote lately, to be written again where the server lost it.

A server that restarts from its append-only file may have lost its last seconds (``everysec`` can lose about
2), although the callers were answered. Whoever wrote keeps what it wrote for KEEP_S and writes it again once
the server is back: a create that was answered with 202 must lead to a stream, and what was cancelled or
erased must not come back to life. Each of these can be repeated without harm; they are repeated in order.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

KEEP_S: Final = 3.0
MOST: Final = 10_000
"""Writes within KEEP_S: far more than one process can take."""

log = structlog.get_logger("api.repeats")


class Repeats:
    """Remembers writes for a moment."""

    def __init__(self) -> None:
        self._written: deque[tuple[float, Callable[[], Awaitable[object]]]] = deque(maxlen=MOST)

    def remember(self, again: Callable[[], Awaitable[object]]) -> None:
        """Something was written and acknowledged; ``again`` writes it once more."""
        now = asyncio.get_running_loop().time()
        while self._written and self._written[0][0] < now - KEEP_S:
            self._written.popleft()
        self._written.append((now, again))

    async def repeat(self, lost_at: float) -> None:
        """The server is back: write again what was written up to KEEP_S before it went (loop time)."""
        again = [write for written_at, write in self._written if written_at > lost_at - KEEP_S]
        if again:
            log.info("written_again", count=len(again))
        for write in again:
            await write()
