"""The pump: from one provider into one attempt's log; held back by whoever has a say.

Theory of operation. The log pulls: when its next flush takes this attempt, it asks the attempt's source, which
reads what the provider sent since the last time, once for all of it. Under load, where a stream's turn comes
seldom, its tokens are read, joined and written together. At 400 streams a token costs the worker a tenth less so
than read as it comes. A source that gives nothing leaves the provider's bytes unread, and TCP holds the provider;
nothing is queued here but what one read brought too early for the pace.

What holds a generation back, in the order in which it acts: the provider's own limits (a turn, before the request),
a viewer that is there (``flow: "client"``), the log (it pulls nothing while it writes), and the pace. The first two
say so in the log: ``waiting`` with the place in line, ``paused``, ``resumed``, and give the stream's place back for
that long (:mod:`worker.places`). A provider that closes while it is
held back is met as any provider that breaks off: by ``on_failure``.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.config.prices import Prices, cost
from shared.config.providers import Provider
from shared.protocol.events import PAUSED, RESUMED, WAITING, Delta
from shared.store.provider_limits import Turn, TurnRequest
from worker.attempt.outcome import Outcome
from worker.attempt.pacing import CHARACTERS_A_TOKEN, Pacing
from worker.background.presence_watch import PresenceWatch, Watched
from worker.background.provider_limiter import ProviderLimiter, StreamTurn
from worker.log.attempt_log import AttemptLog
from worker.log.writer import LogWriter
from worker.places import Places
from worker.providers.base import Batch, GenerationRequest, Usage
from worker.providers.client import ProviderClient
from worker.providers.stream import ProviderStream

RECKONED_ANSWER = 1000
"""Tokens that an answer is reckoned to take where the request names no limit; put right when it ends."""


class Abandoned(Exception):
    """Nobody watched for too long."""


@dataclass(frozen=True, slots=True)
class Flow:
    """When a generation pauses for its viewers, and when it gives up (s)."""

    abandon_after_s: float


class Pump:
    """Reads providers for one worker process."""

    def __init__(
        self,
        client: ProviderClient,
        writer: LogWriter,
        provider_limiter: ProviderLimiter,
        watchers: PresenceWatch,
        prices: Prices,
        places: Places,
    ) -> None:
        self._client = client
        self._writer = writer
        self._provider_limiter = provider_limiter
        self._watchers = watchers
        self._prices = prices
        self._places = places

    async def run(
        self, attempt: AttemptLog, provider: Provider, asked: GenerationRequest, flow: Flow | None, course: Outcome
    ) -> None:
        """Read until the provider ends; then all of it was handed to the log, and ``course`` holds the finish
        reason.

        Raises ProviderError, and :class:`Abandoned`.
        """
        with self._watchers.asked(attempt.stream_id) if flow else nullcontext() as watched:
            async with self._turn(attempt, provider, asked) as waiting:
                try:
                    await self._pause(attempt, watched, flow)
                    async with self._client.answer(provider, asked) as stream:
                        await self._pump(attempt, provider, asked, stream, watched, flow, course)
                finally:
                    if waiting is not None and course.usage is not None:
                        waiting.used = (course.usage.input_tokens or 0) + (course.usage.output_tokens or 0)

    async def _pump(
        self,
        attempt: AttemptLog,
        provider: Provider,
        asked: GenerationRequest,
        stream: ProviderStream,
        watched: Watched | None,
        flow: Flow | None,
        course: Outcome,
    ) -> None:
        def costs(usage: Usage) -> dict[str, Any] | None:
            return cost(self._prices, provider.name, asked.model, msgspec.to_builtins(usage))

        def ready() -> None:
            self._writer.touch(attempt)

        source = _Source(stream, course, costs, watched, provider.rate_per_second, ready)
        attempt.source = source.pull if watched is None and not provider.rate_per_second else source.pull_in_time
        try:
            stream.listen(ready)
            while source.last is None:
                await source.stirred.wait()
                source.stirred.clear()
                await self._pause(attempt, watched, flow)
                if source.last is None:
                    ready()
        finally:
            source.disarm()
            attempt.source = None
        if source.last.error is not None:
            raise source.last.error
        course.reason, course.limit = source.last.finish, source.last.limit

    @asynccontextmanager
    async def _turn(
        self, attempt: AttemptLog, provider: Provider, asked: GenerationRequest
    ) -> AsyncIterator[StreamTurn | None]:
        """A turn at the provider, where it has limits."""
        if not (provider.max_concurrent or provider.requests_per_minute or provider.tokens_per_minute):
            yield None
            return
        size = sum(len(str(message.get("content") or "")) for message in asked.messages)
        reckoned = size // CHARACTERS_A_TOKEN + (asked.max_tokens or RECKONED_ANSWER)

        def told(turn: Turn) -> None:
            self._note(attempt, WAITING, {"place": turn.place, "limit": turn.limit, "provider": provider.name})

        asking = TurnRequest(f"{attempt.stream_id}:{attempt.epoch}", provider, reckoned)
        async with AsyncExitStack() as turn:
            with self._places.given_back(attempt.stream_id):
                waiting = await turn.enter_async_context(self._provider_limiter.turn(asking, told))
            yield waiting

    async def _pause(self, attempt: AttemptLog, watched: Watched | None, flow: Flow | None) -> None:
        """Wait while nobody watches. Raises :class:`Abandoned`."""
        if watched is None or flow is None or watched.somebody.is_set():
            return
        self._note(attempt, PAUSED, {})
        try:
            with self._places.given_back(attempt.stream_id):
                async with asyncio.timeout(flow.abandon_after_s):
                    await watched.somebody.wait()
        except TimeoutError:
            raise Abandoned from None
        self._note(attempt, RESUMED, {})

    def _note(self, attempt: AttemptLog, kind: str, data: dict[str, Any]) -> None:
        attempt.note(kind, data)
        self._writer.touch(attempt)


class _Source:
    """What one answer says, as the log pulls it. ``stirred`` is set when nobody watches, and at the end, when
    ``last`` is the batch with which the answer ended."""

    def __init__(
        self,
        stream: ProviderStream,
        course: Outcome,
        costs: Callable[[Usage], dict[str, Any] | None],
        watched: Watched | None,
        per_second: float,
        ready: Callable[[], object],
    ) -> None:
        """``per_second``: tokens, 0: any number; ``ready`` makes the log pull again."""
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._course = course
        self._costs = costs
        self._watched = watched
        self._pace = Pacing(per_second, self._loop.time) if per_second else None
        self._ready = ready
        self._early: deque[Delta] = deque()
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ending: Batch | None = None
        self.last: Batch | None = None
        self.stirred = asyncio.Event()

    def pull(self) -> Sequence[Delta]:
        """What came, where nothing holds it back."""
        batch, course = self._stream.read(), self._course
        deltas = batch.deltas
        if deltas and course.first_token_at is None:
            course.first_token_at = self._loop.time()
        if batch.usage is not None:
            course.usage, course.cost = batch.usage, self._costs(batch.usage)
        if batch.ended:
            self._ending = batch
            if self._pace is None:
                self._look()
        return deltas

    def pull_in_time(self) -> Sequence[Delta]:
        """What may be written now: nothing while nobody watches, and no more than the pace allows."""
        if self._watched is not None and not self._watched.somebody.is_set():
            self.stirred.set()
            return ()
        if self._pace is None:
            return self.pull()
        due = self._due(self._pace, ())
        if not self._early and self._ending is None:
            due += self._due(self._pace, self.pull())
        self._look()
        return due

    def _look(self) -> None:
        if self._ending is not None and not self._early:
            self.last = self._ending
            self.stirred.set()

    def _due(self, pace: Pacing, deltas: Iterable[Delta]) -> list[Delta]:
        """What the pace allows now; the rest waits for its time."""
        self._early.extend(deltas)
        due: list[Delta] = []
        while self._early and self._due_at <= (now := self._loop.time()):
            due.append(self._early.popleft())
            self._due_at = now + pace.wait_s(due[-1])
        if self._early:
            self.disarm()
            self._timer = self._loop.call_at(self._due_at, self._ready)
        return due

    def disarm(self) -> None:
        """Make the log pull no more."""
        if self._timer is not None:
            self._timer.cancel()
