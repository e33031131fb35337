"""What this process wrote lately, to be written again where the server lost it.

A server that restarts from its append-only file may have lost its last seconds (``everysec`` can lose about
2), although the callers were answered. Whoever wrote keeps what it wrote for KEEP_S and writes it again once
the server is back: a create that was answered with 202 must lead to a stream, and what was cancelled or
erased must not come back to life. Each of these can be repeated without harm; they are repeated in order,
creates at once, and what ends streams a moment later: the workers first write again what was said before.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from shared.connections import AWAY

KEEP_S: Final = 3.0
MOST: Final = 10_000
"""Writes within KEEP_S: far more than one process can take."""

ENDS_AFTER_S: Final = 1.5
"""Workers are back within a second (their longest backoff), and compare at once."""

log = structlog.get_logger("api.repeats")


@dataclass(slots=True)
class _Write:
    at: float
    again: Callable[[], Awaitable[object]]
    ends: bool


class Repeats:
    """Remembers writes for a moment."""

    def __init__(self) -> None:
        self._written: deque[_Write] = deque(maxlen=MOST)
        self._round = 0

    def remember(self, again: Callable[[], Awaitable[object]], *, ends: bool = False) -> None:
        """Something was written and acknowledged; ``again`` writes it once more. ``ends``: it ended a stream."""
        now = asyncio.get_running_loop().time()
        while self._written and self._written[0].at < now - KEEP_S:
            self._written.popleft()
        self._written.append(_Write(now, again, ends))

    async def repeat(self, lost_at: float) -> None:
        """The server is back: write again what was written up to KEEP_S before it went (loop time).

        Raises one of AWAY if it goes away again; what was not written yet is then due at its next return.
        """
        loop = asyncio.get_running_loop()
        due = [write for write in self._written if write.at > lost_at - KEEP_S]
        if not due:
            return
        log.info("written_again", count=len(due))
        self._round += 1
        this_round = self._round
        for write in due:
            # Written again it is young again: the server may be lost once more.
            write.at = loop.time()
        await self._write([write for write in due if not write.ends])
        ends = [write for write in due if write.ends]
        if ends:
            await asyncio.sleep(ENDS_AFTER_S)
            # After another loss the workers have to mend first again; that round writes these, too.
            if this_round == self._round:
                await self._write(ends)

    async def _write(self, writes: list[_Write]) -> None:
        for write in writes:
            try:
                await write.again()
                write.at = asyncio.get_running_loop().time()
            except AWAY:
                raise
            except Exception:
                log.exception("not_written_again")
