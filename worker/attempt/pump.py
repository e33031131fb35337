"""The pump moves one provider's answer into one attempt's log, and holds it back where it must.

Theory of operation. The log pulls. When its next flush takes this attempt, it asks the attempt's source, which
reads everything that the provider sent since the last pull. Under load, where a flush seldom takes a given stream,
its tokens are read, joined and written together. At 400 streams a token then costs the worker a tenth less than if
each were read as it comes. While the source gives nothing, the provider's bytes stay unread, and TCP slows the
provider down. Nothing is queued here, except the part of one read that is too early for the pace.

Four things hold a generation back, in this order: the provider's own limits (a turn, before the request), viewers
(``flow: "client"``: somebody must be watching), the log (it does not pull while it writes), and the pace. The first
two say so in the log: ``waiting`` with the position in the queue, ``paused``, ``resumed``. While they hold a stream
back, it gives its place back (:mod:`worker.places`). If the provider closes the connection meanwhile, that counts
as a provider that broke off: ``on_failure`` decides.
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
from shared.store.provider_limits import ProviderTurn, TurnRequest
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

ESTIMATED_ANSWER = 1000
"""The estimate of an answer's tokens if the request names no limit. It is corrected when the answer ends."""


class Abandoned(Exception):
    """Nobody watched for too long."""


@dataclass(frozen=True, slots=True)
class Flow:
    """For a generation that pauses while nobody watches: after how long it gives up (s)."""

    abandon_after_s: float


class Pump:
    """Reads providers for one worker process."""

    def __init__(
        self,
        provider_client: ProviderClient,
        writer: LogWriter,
        provider_limiter: ProviderLimiter,
        presence_watch: PresenceWatch,
        prices: Prices,
        places: Places,
    ) -> None:
        self._provider_client = provider_client
        self._writer = writer
        self._provider_limiter = provider_limiter
        self._presence_watch = presence_watch
        self._prices = prices
        self._places = places

    async def run(
        self,
        attempt: AttemptLog,
        provider: Provider,
        request: GenerationRequest,
        flow: Flow | None,
        outcome: Outcome,
    ) -> None:
        """Read until the provider ends. Afterwards the log has the whole answer, and ``outcome`` the finish reason.

        Raises ProviderError, and :class:`Abandoned`.
        """
        with self._presence_watch.watch(attempt.stream_id) if flow else nullcontext() as watched:
            async with self._turn(attempt, provider, request) as stream_turn:
                try:
                    await self._pause(attempt, watched, flow)
                    async with self._provider_client.answer(provider, request) as stream:
                        await self._pump(attempt, provider, request, stream, watched, flow, outcome)
                finally:
                    if stream_turn is not None and outcome.usage is not None:
                        stream_turn.used = (outcome.usage.input_tokens or 0) + (outcome.usage.output_tokens or 0)

    async def _pump(
        self,
        attempt: AttemptLog,
        provider: Provider,
        request: GenerationRequest,
        stream: ProviderStream,
        watched: Watched | None,
        flow: Flow | None,
        outcome: Outcome,
    ) -> None:
        def costs(usage: Usage) -> dict[str, Any] | None:
            return cost(self._prices, provider.name, request.model, msgspec.to_builtins(usage))

        def ready() -> None:
            self._writer.touch(attempt)

        source = _Source(stream, outcome, costs, watched, provider.rate_per_second, ready)
        attempt.source = source.pull if watched is None and not provider.rate_per_second else source.pull_in_time
        try:
            stream.listen(ready)
            while source.last is None:
                await source.woken.wait()
                source.woken.clear()
                await self._pause(attempt, watched, flow)
                if source.last is None:
                    ready()
        finally:
            source.disarm()
            attempt.source = None
        if source.last.error is not None:
            raise source.last.error
        outcome.reason, outcome.limit = source.last.finish, source.last.limit

    @asynccontextmanager
    async def _turn(
        self, attempt: AttemptLog, provider: Provider, request: GenerationRequest
    ) -> AsyncIterator[StreamTurn | None]:
        """Hold a turn at the provider, if it has limits; else None."""
        if not (provider.max_concurrent or provider.requests_per_minute or provider.tokens_per_minute):
            yield None
            return
        size = sum(len(str(message.get("content") or "")) for message in request.messages)
        estimated = size // CHARACTERS_A_TOKEN + (request.max_tokens or ESTIMATED_ANSWER)

        def note_position(turn: ProviderTurn) -> None:
            self._note(attempt, WAITING, {"place": turn.place, "limit": turn.limit, "provider": provider.name})

        turn_request = TurnRequest(f"{attempt.stream_id}:{attempt.epoch}", provider, estimated)
        async with AsyncExitStack() as stack:
            with self._places.given_back(attempt.stream_id):
                stream_turn = await stack.enter_async_context(
                    self._provider_limiter.turn(turn_request, note_position)
                )
            yield stream_turn

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
    """One answer, as the log pulls it. ``woken`` is set when nobody watches, and at the end of the answer. Then
    ``last`` is its last batch."""

    def __init__(
        self,
        stream: ProviderStream,
        outcome: Outcome,
        costs: Callable[[Usage], dict[str, Any] | None],
        watched: Watched | None,
        per_second: float,
        ready: Callable[[], object],
    ) -> None:
        """``per_second``: tokens, 0: no limit. ``ready`` makes the log pull again."""
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._outcome = outcome
        self._costs = costs
        self._watched = watched
        self._pace = Pacing(per_second, self._loop.time) if per_second else None
        self._ready = ready
        self._held: deque[Delta] = deque()
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ending: Batch | None = None
        self.last: Batch | None = None
        self.woken = asyncio.Event()

    def pull(self) -> Sequence[Delta]:
        """What came since the last pull. For an answer that nothing here holds back."""
        batch, outcome = self._stream.read(), self._outcome
        deltas = batch.deltas
        if deltas and outcome.first_token_at is None:
            outcome.first_token_at = self._loop.time()
        if batch.usage is not None:
            outcome.usage, outcome.cost = batch.usage, self._costs(batch.usage)
        if batch.ended:
            self._ending = batch
            if self._pace is None:
                self._check_end()
        return deltas

    def pull_in_time(self) -> Sequence[Delta]:
        """The deltas that may be written now: none while nobody watches, and no more than the pace allows."""
        if self._watched is not None and not self._watched.somebody.is_set():
            self.woken.set()
            return ()
        if self._pace is None:
            return self.pull()
        due = self._due(self._pace, ())
        if not self._held and self._ending is None:
            due += self._due(self._pace, self.pull())
        self._check_end()
        return due

    def _check_end(self) -> None:
        if self._ending is not None and not self._held:
            self.last = self._ending
            self.woken.set()

    def _due(self, pace: Pacing, deltas: Iterable[Delta]) -> list[Delta]:
        """The deltas that the pace allows now. The rest is held until it is due."""
        self._held.extend(deltas)
        due: list[Delta] = []
        while self._held and self._due_at <= (now := self._loop.time()):
            due.append(self._held.popleft())
            self._due_at = now + pace.wait_s(due[-1])
        if self._held:
            self.disarm()
            self._timer = self._loop.call_at(self._due_at, self._ready)
        return due

    def disarm(self) -> None:
        """Cancel the timer that would make the log pull again."""
        if self._timer is not None:
            self._timer.cancel()
