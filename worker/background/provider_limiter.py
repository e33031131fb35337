"""The limiter of requests to providers: it asks for the turns of all streams of one worker in one call.

The limits themselves are in :mod:`shared.store.provider_limits`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY
from shared.store.provider_limits import ProviderLimits, ProviderTurn, TurnRequest

ASK_S: Final = 0.2
"""How often turns are asked for: a free turn is taken within this time."""
KEEP_S: Final = 1.0
"""How often a turn is renewed, by asking for it again. A turn lives for 4 s, so three calls may fail."""
LEAVE_S: Final = 2.0

log = structlog.get_logger("worker.line")


@dataclass(slots=True, eq=False)
class StreamTurn:
    """A stream of this worker that waits for a turn, or has it. ``turn``: the last reply; ``given``: whether it has
    the turn; ``used``: its tokens, once they are known."""

    request: TurnRequest
    turn: ProviderTurn | None = None
    second: int = 0
    used: int | None = None
    given: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class ProviderLimiter:
    """Asks for the turns of all streams of one worker."""

    def __init__(self, limits: ProviderLimits) -> None:
        self._limits = limits
        self._all: list[StreamTurn] = []
        self._work = asyncio.Event()

    @asynccontextmanager
    async def turn(
        self, request: TurnRequest, on_position: Callable[[ProviderTurn], None]
    ) -> AsyncIterator[StreamTurn]:
        """Wait for a turn, and keep it as long as the block lasts. ``on_position`` is called for each new position
        in the queue."""
        stream_turn = StreamTurn(request)
        self._all.append(stream_turn)
        self._work.set()
        reported: ProviderTurn | None = None
        try:
            while not stream_turn.given:
                await stream_turn.changed.wait()
                stream_turn.changed.clear()
                if stream_turn.turn is not None and stream_turn.turn.place and stream_turn.turn != reported:
                    reported = stream_turn.turn
                    on_position(reported)
            yield stream_turn
        finally:
            self._all.remove(stream_turn)
            await self._leave(stream_turn)

    async def _leave(self, stream_turn: StreamTurn) -> None:
        try:
            leave = self._limits.leave(stream_turn.request, stream_turn.second, stream_turn.used)
            await asyncio.wait_for(leave, LEAVE_S)
        except (*AWAY, RedisError) as error:
            # A turn that is not given back expires.
            log.info("turn_not_given_back", error=type(error).__name__)
        self._work.set()

    async def run(self) -> None:
        """Ask for the turns of waiting streams, and renew those that were given, until cancelled."""
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
            await self._ask([stream_turn for stream_turn in self._all if keep or not stream_turn.given])
            await asyncio.sleep(ASK_S / 10)

    async def _ask(self, asked: list[StreamTurn]) -> None:
        if not asked:
            return
        try:
            turns = await self._limits.ask([stream_turn.request for stream_turn in asked])
        except (*AWAY, RedisError) as error:
            log.info("turns_not_asked", error=type(error).__name__)
            return
        for stream_turn, turn in zip(asked, turns, strict=True):
            stream_turn.turn = turn
            if not turn.place and not stream_turn.given:
                stream_turn.second = turn.second
                stream_turn.given = True
            stream_turn.changed.set()
