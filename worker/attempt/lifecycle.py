"""A generation: claim the stream, carry the provider's tokens into its log, and end it.

Theory of operation. The claim decides who runs. After it, three things can end an attempt: the provider (it
finished, refused, or broke off), the log (a later epoch wrote, the stream was erased, or entries were lost that
can't be restored), and the worker itself (SIGTERM). In each case the connection to the provider is closed first,
because every token that is read from then on would be paid for and thrown away.

- Finished: one script writes the reason (``finishing``) and the terminal event. A provider's finish reason is only
  a hint until its answer has ended, so nothing is written before that.
- Refused (4xx, filtered content): ``failed`` at once, because another attempt would be refused as well.
- Broken off: ``on_failure`` decides. ``continue`` and ``restart`` give the stream back and claim it again, within
  the tries that the claim counts; ``fail`` ends it.
- Failed before its first token, with fallbacks left: the stream is given back with the next fallback as its request
  (see :mod:`shared.protocol.fallbacks`), and claimed again at once.
- SIGTERM: everything read so far is written. The stream is given back as a hand-over, which counts as no try, and a
  job for the next attempt wakes another worker.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog
from redis.exceptions import RedisError

from shared.config.providers import Provider
from shared.config.settings import Settings
from shared.protocol.events import CANCELLED, CONTINUED, DONE, FAILED
from shared.protocol.fallbacks import moved_on, with_tried
from shared.redis import AWAY
from shared.store.claims import Claim
from shared.store.queue import Job, Queue
from shared.store.streams import Reading, Streams
from worker.attempt.ending import AttemptEnding, log_fields
from worker.attempt.outcome import ABANDONED, FILTERED, FULL, INTERNAL, Failure, Outcome, not_here
from worker.attempt.pump import Abandoned, Flow, Pump
from worker.attempt.resume import asked_of, how_to_continue
from worker.log.attempt_log import LOG_FULL, LOST, AttemptLog
from worker.log.writer import LogWriter
from worker.metrics import WorkerMetrics
from worker.providers.base import GenerationRequest, ProviderError
from worker.providers.retries import RETRIED

PUT_BACK_S: Final = 1.0
AT_ONCE: Final = "at once"
RETRY_FIRST_S: Final = 0.25
RETRY_MAX_S: Final = 5.0

log = structlog.get_logger("worker.generation")


class AttemptRunner:
    """Runs generations for one worker process."""

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, Provider],
        pump: Pump,
        streams: Streams,
        queue: Queue,
        writer: LogWriter,
        ending: AttemptEnding,
        worker: str,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._providers = providers
        self._pump = pump
        self._streams = streams
        self._queue = queue
        self._writer = writer
        self._ending = ending
        self._worker = worker
        self._metrics = metrics or WorkerMetrics()

    async def generate(self, job: Job) -> None:
        """Run one job, with as many attempts as it needs, until its stream has ended or belongs to another
        worker."""
        stream_id = job.stream_id
        pause_s = RETRY_FIRST_S
        while True:
            try:
                claim, said = await self._claim(stream_id)
            except asyncio.CancelledError:
                await self._put_back(job)
                raise
            except (*AWAY, RedisError):
                await asyncio.sleep(RETRY_FIRST_S)  # a pause, because this worker may be the next to take the job
                await self._put_back(job)
                raise
            if claim.outcome == "end":
                await self._ending.end_for_another(stream_id, claim)
            due = claim.outcome == "run" and await self._attempt(job, claim, said)
            if not due:
                return
            if due != AT_ONCE:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)

    async def _put_back(self, job: Job) -> None:
        """Put the job back, so that another worker may take it at once. (If that fails, the sweep makes a new
        job.)"""
        with contextlib.suppress(TimeoutError, *AWAY, RedisError):
            await asyncio.wait_for(self._queue.put_back([job]), PUT_BACK_S)

    async def _claim(self, stream_id: str) -> tuple[Claim, Reading | None]:
        """Claim the stream. Out: the claim, and the answer so far if the attempt continues it."""
        settings = self._settings
        how, seen, said = "", "", None
        while True:
            claim = await self._streams.claim(
                stream_id, self._worker, settings.lease_ms, settings.max_attempts, how, seen
            )
            if claim.outcome != "look":
                return claim, said if claim.opening == CONTINUED else None
            seen, said = claim.seen, await self._streams.read(stream_id)
            request = msgspec.json.decode(claim.request)
            provider = self._providers.get(request["provider"])
            shows_all = request.get("shows") == "all"
            how = (
                "restart"
                if provider is None
                else how_to_continue(provider, said, request["on_failure"], shows_all=shows_all)
            )

    async def _attempt(self, job: Job, claim: Claim, said: Reading | None) -> bool | str:
        """Run one attempt to its end. Out: whether another attempt is due here (AT_ONCE: without a pause)."""
        stream_id, lane = job.stream_id, job.lane
        attempt = self._writer.begin(stream_id, claim)
        outcome = Outcome(asyncio.get_running_loop().time())
        self._metrics.claimed(claim)
        try:
            request = msgspec.json.decode(claim.request)
            outcome.provider, outcome.model = request["provider"], request["model"]
            lane = lane._replace(provider=request["provider"])
            provider = self._providers.get(request["provider"])
            if said is not None:
                attempt.continue_from(said.snapshot, said.deltas())
            flow = Flow(request["abandon_after"]) if request.get("flow") == "client" else None
            failure = (
                not_here(request["provider"])
                if provider is None
                else await self._carry(attempt, provider, asked_of(request, provider, said), flow, outcome)
            )
            if attempt.stopped.done() and failure is not FULL:
                log.info(
                    "attempt_stopped",
                    stream=stream_id,
                    why=attempt.stopped.result(),
                    **log_fields(attempt, outcome),
                )
                return attempt.stopped.result() == LOST
            common = {"attempt": claim.attempt, "timings": self._timings(claim, outcome)}
            if failure is None:
                told = {"usage": outcome.usage, "cost": outcome.cost, **common}
                if outcome.limit:
                    told["limit"] = outcome.limit
                data = {"finish_reason": outcome.reason, **told}
                await self._ending.end(attempt, DONE, data, outcome)
                return False
            if failure is ABANDONED:
                data = {"by": "headrace", "reason": "abandoned", **common}
                await self._ending.end(attempt, CANCELLED, data, outcome)
                return False
            unsaid = failure.by_provider and outcome.first_token_at is None
            if unsaid and (fallback := moved_on(request, failure.code)):
                log.info(
                    "fell_back",
                    stream=stream_id,
                    code=failure.code,
                    to=fallback["provider"],
                    **log_fields(attempt, outcome),
                )
                await self._ending.fall_back(attempt, failure.code, fallback)
                return AT_ONCE
            if not failure.refusal and self._may_try_again(request, claim, outcome):
                log.info(
                    "attempt_failed",
                    stream=stream_id,
                    code=failure.code,
                    tries_left=claim.tries_left,
                    **log_fields(attempt, outcome),
                )
                await self._ending.give_back(attempt, failure.code)
                return True
            message = with_tried(failure.message, request)
            data = {"code": failure.code, "message": message, "retryable": failure.retryable, **common}
            await self._ending.end(attempt, FAILED, data, outcome)
            return False
        except asyncio.CancelledError:
            await self._ending.hand_over(attempt, lane)
            raise
        finally:
            self._writer.drop(attempt)
            self._count(claim, outcome)
            await self._ending.charge(attempt, outcome)

    def _count(self, claim: Claim, outcome: Outcome) -> None:
        if outcome.first_token_at is not None:
            self._metrics.began_to_answer(claim, outcome.provider, outcome.first_token_at - outcome.began)
        if outcome.usage is not None:
            usage = outcome.usage
            self._metrics.used(outcome.provider, outcome.model, usage.input_tokens, usage.output_tokens)

    def _may_try_again(self, request: Mapping[str, Any], claim: Claim, outcome: Outcome) -> bool:
        """Whether another attempt may succeed after a failure that is no refusal."""
        said = outcome.first_token_at is not None or claim.opening == CONTINUED
        if request["on_failure"] == "continue_or_fail" and said:
            return claim.tries_left > 0 and self._providers[request["provider"]].continues != "no"
        return request["on_failure"] != "fail" and claim.tries_left > 0

    async def _carry(
        self,
        attempt: AttemptLog,
        provider: Provider,
        request: GenerationRequest,
        flow: Flow | None,
        outcome: Outcome,
    ) -> Failure | None:
        """Read the provider until it ends or the attempt is stopped. Out: why it failed; None if it finished, or if
        the log stopped it.

        When this returns (or is cancelled), the connection to the provider is closed.
        """
        pumping = asyncio.create_task(self._pump.run(attempt, provider, request, flow, outcome))
        either: set[asyncio.Future[Any]] = {pumping, attempt.stopped}
        limit_s = self._settings.max_stream_s
        try:
            ended, _ = await asyncio.wait(either, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not pumping.done():
                pumping.cancel()
                await asyncio.wait({pumping})
        if attempt.stopped.done():
            return FULL if attempt.stopped.result() == LOG_FULL else None
        if not ended:
            return Failure(
                "stream_too_long",
                f"The generation took longer than {limit_s:g} s (HEADRACE_MAX_STREAM_S). Ask for a shorter "
                "answer, or raise the limit.",
                retryable=False,
                refusal=True,
            )
        error = pumping.exception()
        if isinstance(error, Abandoned):
            return ABANDONED
        if isinstance(error, ProviderError):
            # No further attempt for an error that the provider client has retried already, or with a
            # ``retry_after_s`` longer than the first pause.
            tried = error.code in RETRIED and outcome.first_token_at is None
            refusal = error.refusal or tried or (error.retry_after_s or 0.0) > RETRY_FIRST_S
            return Failure(error.code, str(error), error.retryable, refusal, by_provider=True)
        if error is not None:
            log.error("generation_broke", stream=attempt.stream_id, exc_info=error)
            return INTERNAL
        return FILTERED if outcome.reason == "content_filter" else None

    def _timings(self, claim: Claim, outcome: Outcome) -> dict[str, int | None]:
        """Times since the stream's creation, in ms."""
        since_ms = claim.queued_ms - outcome.began * 1000
        first = outcome.first_token_at
        return {
            "queued_ms": claim.queued_ms,
            "first_token_ms": None if first is None else round(since_ms + first * 1000),
            "total_ms": round(since_ms + asyncio.get_running_loop().time() * 1000),
        }
