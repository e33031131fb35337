"""The limiter of requests to providers: all streams of a worker that need a turn ask for it in one call
(:mod:`shared.store.provider_limits`)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY
from shared.store.provider_limits import ProviderLimits, Turn, TurnRequest

ASK_S: Final = 0.2
"""How soon a turn that came free is taken up."""
KEEP_S: Final = 1.0
"""How often a given turn is asked for again, which keeps it. A turn lives for 4 s: three askings may fail."""
LEAVE_S: Final = 2.0

log = structlog.get_logger("worker.line")


@dataclass(slots=True, eq=False)
class StreamTurn:
    """One of this worker's streams that waits for a turn, or has it. ``turn``: the last answer; ``given``: it has
    the turn; ``used``: its tokens, once they are known."""

    asking: TurnRequest
    turn: Turn | None = None
    second: int = 0
    used: int | None = None
    given: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class ProviderLimiter:
    """Asks for the turns of all streams of one worker."""

    def __init__(self, turns: ProviderLimits) -> None:
        self._turns = turns
        self._all: list[StreamTurn] = []
        self._work = asyncio.Event()

    @asynccontextmanager
    async def turn(self, asking: TurnRequest, told: Callable[[Turn], None]) -> AsyncIterator[StreamTurn]:
        """Wait for a turn, and keep it as long as the block lasts. ``told`` hears of each new place in line."""
        waiting = StreamTurn(asking)
        self._all.append(waiting)
        self._work.set()
        heard: Turn | None = None
        try:
            while not waiting.given:
                await waiting.changed.wait()
                waiting.changed.clear()
                if waiting.turn is not None and waiting.turn.place and waiting.turn != heard:
                    heard = waiting.turn
                    told(heard)
            yield waiting
        finally:
            self._all.remove(waiting)
            await self._leave(waiting)

    async def _leave(self, waiting: StreamTurn) -> None:
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._turns.leave(waiting.asking, waiting.second, waiting.used)
        except (*AWAY, RedisError) as error:
            # The turn expires without it.
            log.info("turn_not_given_back", error=type(error).__name__)
        self._work.set()

    async def run(self) -> None:
        """Ask for those that wait, and keep what was given, until cancelled."""
        loop = asyncio.get_running_loop()
        kept_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_S if self._all else None):
                    await self._work.wait()
            self._work.clear()
            keep = loop.time() - kept_at >= KEEP_S
            if keep:
                kept_at = loop.time()
            await self._ask([waiting for waiting in self._all if keep or not waiting.given])
            await asyncio.sleep(ASK_S / 10)

    async def _ask(self, asked: list[StreamTurn]) -> None:
        if not asked:
            return
        try:
            turns = await self._turns.ask([waiting.asking for waiting in asked])
        except (*AWAY, RedisError) as error:
            log.info("turns_not_asked", error=type(error).__name__)
            return
        for waiting, turn in zip(asked, turns, strict=True):
            waiting.turn = turn
            if not turn.place and not waiting.given:
                waiting.second = turn.second
                waiting.given = True
            waiting.changed.set()
