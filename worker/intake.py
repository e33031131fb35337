"""The intake: what one provider says, into one attempt's log; held back by whoever has a say.

Theory of operation. What a provider sent is read when the log's next flush takes it, once for all that came since
(:meth:`worker.log.attempt_log.AttemptLog.take`): under load, where a stream's turn comes seldom, its tokens are
read, joined and written together. At 400 streams a token costs the worker a tenth less so than read as it comes.

Everything that holds a generation back stops the reading of its provider, and so, by TCP, the provider itself;
nothing is queued here. In the order in which they act: the provider's own limits (a turn, before the request), a
viewer that is there (``flow: "client"``), the log (what is unwritten is bounded), and the pace. The first two say
so in the log: ``waiting`` with the place in line, ``paused``, ``resumed``. A provider that closes while it is
held back is met as any upstream that breaks off: by ``on_failure``.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.events import PAUSED, PIECE, RESUMED, WAITING, Delta, split_delta
from shared.prices import Prices, cost
from shared.providers import Provider
from shared.turns import Asking, Turn
from worker.course import Course
from worker.line import Line, Waiting
from worker.log.attempt_log import AttemptLog
from worker.log.writer import LogWriter
from worker.pace import CHARACTERS_A_TOKEN, Pace
from worker.providers.base import Finish, GenerationRequest, ProviderEvent, Said, Usage
from worker.providers.client import ProviderClient
from worker.watchers import Watched, Watchers

RECKONED_ANSWER = 1000
"""Tokens that an answer is reckoned to take where the request names no limit; put right when it ends."""


class Abandoned(Exception):
    """Nobody watched for too long."""


@dataclass(frozen=True, slots=True)
class Flow:
    """When a generation pauses for its viewers, and when it gives up (s)."""

    abandon_after_s: float


class Intake:
    """Reads providers for one worker process."""

    def __init__(
        self, client: ProviderClient, writer: LogWriter, line: Line, watchers: Watchers, prices: Prices
    ) -> None:
        self._client = client
        self._writer = writer
        self._line = line
        self._watchers = watchers
        self._prices = prices

    async def read(
        self, attempt: AttemptLog, provider: Provider, asked: GenerationRequest, flow: Flow | None, course: Course
    ) -> None:
        """Read until the provider ends. Raises ProviderError, and :class:`Abandoned`."""
        with self._watchers.asked(attempt.stream_id) if flow else nullcontext() as watched:
            async with self._turn(attempt, provider, asked) as waiting:
                try:
                    await self._pause(attempt, watched, flow)
                    await self._read(attempt, provider, asked, watched, flow, course)
                finally:
                    if waiting is not None and course.usage is not None:
                        waiting.used = (course.usage.input_tokens or 0) + (course.usage.output_tokens or 0)

    async def _read(
        self,
        attempt: AttemptLog,
        provider: Provider,
        asked: GenerationRequest,
        watched: Watched | None,
        flow: Flow | None,
        course: Course,
    ) -> None:
        loop = asyncio.get_running_loop()
        writer = self._writer
        pace = Pace(provider.rate_per_second, loop.time) if provider.rate_per_second else None
        unsaid: list[Delta] = []
        wait_s = 0.0
        unhurried = pace is None and watched is None

        def hear(event: ProviderEvent) -> bool:
            nonlocal wait_s
            if isinstance(event, Said):
                if course.first_token_at is None:
                    course.first_token_at = loop.time()
                delta = event.delta
                text = delta.get("text")
                if text is not None and len(text) <= PIECE:
                    unsaid.append(delta)
                else:
                    unsaid.extend(split_delta(delta))
                if unhurried:
                    return False
                if pace is not None:
                    wait_s = pace.wait_s(delta)
                return wait_s > 0 or (watched is not None and not watched.somebody.is_set())
            if isinstance(event, Finish):
                course.reason = event.reason
            elif isinstance(event, Usage):
                course.usage = event
                course.cost = cost(self._prices, provider.name, asked.model, msgspec.to_builtins(event))
            return False

        async with self._client.answer(provider, asked) as answer:

            def pull() -> list[Delta]:
                nonlocal unsaid
                answer.read()
                said, unsaid = unsaid, []
                return said

            attempt.source = pull
            while not await answer.tell(hear, lambda: writer.touch(attempt)):
                writer.touch(attempt)
                await asyncio.sleep(wait_s)
                await self._pause(attempt, watched, flow)
            for delta in unsaid:
                attempt.add(delta)
            attempt.source = None

    @asynccontextmanager
    async def _turn(
        self, attempt: AttemptLog, provider: Provider, asked: GenerationRequest
    ) -> AsyncIterator[Waiting | None]:
        """A turn at the provider, where it has limits."""
        if not (provider.max_concurrent or provider.requests_per_minute or provider.tokens_per_minute):
            yield None
            return
        size = sum(len(str(message.get("content") or "")) for message in asked.messages)
        reckoned = size // CHARACTERS_A_TOKEN + (asked.max_tokens or RECKONED_ANSWER)

        def told(turn: Turn) -> None:
            self._note(attempt, WAITING, {"place": turn.place, "limit": turn.limit, "provider": provider.name})

        asking = Asking(f"{attempt.stream_id}:{attempt.epoch}", provider, reckoned)
        async with self._line.turn(asking, told) as waiting:
            yield waiting

    async def _pause(self, attempt: AttemptLog, watched: Watched | None, flow: Flow | None) -> None:
        """Wait while nobody watches. Raises :class:`Abandoned`."""
        if watched is None or flow is None or watched.somebody.is_set():
            return
        self._note(attempt, PAUSED, {})
        try:
            async with asyncio.timeout(flow.abandon_after_s):
                await watched.somebody.wait()
        except TimeoutError:
            raise Abandoned from None
        self._note(attempt, RESUMED, {})

    def _note(self, attempt: AttemptLog, kind: str, data: dict[str, Any]) -> None:
        attempt.note(kind, data)
        self._writer.touch(attempt)
