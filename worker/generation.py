"""A generation: claim the stream, carry the provider's tokens into its log, and end it.

Theory of operation. The claim decides who runs; after it, three things can end an attempt: the provider
(it finished, refused, broke off), the log (a later epoch wrote, the stream was erased, entries were lost
that can't be mended), and the worker itself (SIGTERM). Whatever it is, the upstream connection is closed
before anything else happens, for every token read from then on would be paid for and thrown away.

- Finished: ``finishing`` with the reason goes into the log first, so that a worker that dies between the
  reason and the end costs nothing: the next claim only writes the end.
- Refused (4xx, filtered content): ``failed`` at once; nobody else would fare better.
- Broken off: ``on_failure`` decides. ``restart`` gives the stream back and claims it anew, within the
  tries that the claim counts; ``fail`` ends it.
- SIGTERM: what is said is written, the stream is given back as a hand-over (which is no try), and a job
  for the next attempt wakes another worker.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec
import structlog
from redis.exceptions import RedisError

from shared.connections import AWAY
from shared.events import DONE, FAILED, FINISHING, decode_data, encode_data, split_delta
from shared.providers import Provider
from shared.queue import Queue, job_id
from shared.settings import Settings
from shared.streams import Claim, Streams, new_nonce
from worker.carried import LOG_FULL, Carried
from worker.log_writer import LogWriter
from worker.providers.base import (
    Finish,
    GenerationRequest,
    ProviderError,
    Said,
    Usage,
)
from worker.providers.client import ProviderClient

PROVISIONAL_WAIT_S: Final = 0.02
PROVISIONAL_LIMIT_S: Final = 60.0
"""A provisional record is confirmed within milliseconds, or expires after a minute."""

RETRY_FIRST_S: Final = 0.25
RETRY_MAX_S: Final = 5.0

HANDOVER_S: Final = 2.0
"""What may be spent on writing the last words and giving the stream back; the lease would do it in three."""

log = structlog.get_logger("worker.generation")


@dataclass(slots=True)
class Course:
    """How one attempt went, as far as it is known."""

    reason: str | None = None
    usage: Usage | None = None
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt ended before its finish reason. ``refusal``: nobody else would fare better."""

    code: str
    message: str
    retryable: bool
    refusal: bool


class Generations:
    """Runs generations for one worker process."""

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, Provider],
        client: ProviderClient,
        streams: Streams,
        queue: Queue,
        writer: LogWriter,
        worker: str,
    ) -> None:
        self._settings = settings
        self._providers = providers
        self._client = client
        self._streams = streams
        self._queue = queue
        self._writer = writer
        self._worker = worker

    async def generate(self, stream_id: str, job: str) -> None:
        """Run one job: whatever the stream needs, until it ended or belongs to somebody else."""
        pause_s = RETRY_FIRST_S
        while True:
            claim = await self._claim(stream_id)
            await self._queue.drop(job)
            if claim.outcome == "end":
                await self._end_for_another(stream_id, claim)
                return
            if claim.outcome != "run":
                return
            if not await self._attempt(stream_id, claim):
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    async def _claim(self, stream_id: str) -> Claim:
        settings = self._settings
        waited_s = 0.0
        while True:
            claim = await self._streams.claim(stream_id, self._worker, settings.lease_ms, settings.max_attempts)
            if claim.outcome != "provisional" or waited_s > PROVISIONAL_LIMIT_S:
                return claim
            await asyncio.sleep(PROVISIONAL_WAIT_S)
            waited_s += PROVISIONAL_WAIT_S

    # -- one attempt --------------------------------------------------------------------------------

    async def _attempt(self, stream_id: str, claim: Claim) -> bool:
        """Carry one attempt to its end. Out: whether another attempt is due here."""
        carried = self._writer.carry(stream_id, claim.epoch, claim.attempt)
        course = Course()
        began = asyncio.get_running_loop().time()
        try:
            request = msgspec.json.decode(claim.request)
            failure = await self._carry(carried, request, course)
            timings = self._timings(claim, course, began)
            if carried.stopped.done() and carried.stopped.result() != LOG_FULL:
                log.info("attempt_stopped", stream=stream_id, why=carried.stopped.result())
                return carried.stopped.result() == "lost"
            if failure is None:
                await self._end(carried, DONE, self._done_data(claim, course, timings), timings)
                return False
            may_retry = request["on_failure"] == "restart" and claim.tries_left > 0 and not failure.refusal
            if may_retry and failure.code != LOG_FULL:
                log.info("attempt_failed", stream=stream_id, code=failure.code, tries_left=claim.tries_left)
                await self._writer.settled(carried)
                await self._streams.release(stream_id, claim.epoch, "retry")
                return True
            data = {"code": failure.code, "message": failure.message, "retryable": failure.retryable}
            await self._end(carried, FAILED, {**data, "attempt": claim.attempt}, timings)
            return False
        except asyncio.CancelledError:
            await self._hand_over(carried)
            raise
        finally:
            self._writer.drop(carried)
            await self._charge(stream_id, claim.attempt, course)

    async def _carry(self, carried: Carried, request: dict[str, Any], course: Course) -> Failure | None:
        """Read the provider until it ends or the log stops it. Out: None where it finished."""
        upstream = asyncio.create_task(self._read_provider(carried, request, course))
        try:
            async with asyncio.timeout(self._settings.max_stream_s):
                either: set[asyncio.Future[Any]] = {upstream, carried.stopped}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            return Failure(
                "stream_too_long",
                f"The generation took longer than {self._settings.max_stream_s:g} s "
                "(HEADRACE_MAX_STREAM_S). Ask for a shorter answer, or raise the limit.",
                retryable=False,
                refusal=True,
            )
        finally:
            if not upstream.done():
                upstream.cancel()
                await asyncio.wait({upstream})
        if carried.stopped.done():
            return Failure(LOG_FULL, LOG_FULL_TEXT, retryable=True, refusal=False)
        return self._failure(carried, upstream, course)

    def _failure(self, carried: Carried, upstream: "asyncio.Task[None]", course: Course) -> Failure | None:
        error = upstream.exception()
        if isinstance(error, ProviderError):
            return Failure(error.code, str(error), error.retryable, error.refusal)
        if error is not None:
            log.error("generation_broke", stream=carried.stream_id, exc_info=error)
            return Failure("internal_error", INTERNAL_TEXT, retryable=True, refusal=False)
        if course.reason == "content_filter":
            return Failure("content_filtered", FILTERED_TEXT, retryable=False, refusal=True)
        return None

    async def _read_provider(self, carried: Carried, request: dict[str, Any], course: Course) -> None:
        began = asyncio.get_running_loop().time()
        asked = GenerationRequest(
            model=request["model"],
            messages=request["messages"],
            max_tokens=request.get("max_tokens"),
            temperature=request.get("temperature"),
            top_p=request.get("top_p"),
            stop=request.get("stop") or [],
            tools=request.get("tools") or [],
        )
        provider = self._providers[request["provider"]]
        writer = self._writer
        async with aclosing(self._client.generate(provider, asked)) as events:
            async for event in events:
                if isinstance(event, Said):
                    if course.first_token_s is None:
                        course.first_token_s = asyncio.get_running_loop().time() - began
                    for piece in split_delta(event.delta):
                        carried.say(piece)
                        writer.touch(carried)
                        if carried.full:
                            await writer.room(carried)
                elif isinstance(event, Finish):
                    course.reason = event.reason
                    carried.note(FINISHING, {"finish_reason": event.reason})
                    writer.touch(carried)
                elif isinstance(event, Usage):
                    course.usage = event

    # -- ends ---------------------------------------------------------------------------------------

    async def _end(
        self, carried: Carried, status: str, data: dict[str, Any], timings: dict[str, int | None]
    ) -> None:
        """Write the terminal event, the record and the last of the snapshot: one script."""
        settings = self._settings
        if carried.stopped.done():
            carried.cut()
        elif not await self._writer.settled(carried):
            return
        raw = encode_data({**data, "timings": timings})
        nonce = new_nonce()
        anew = False
        while True:
            args: tuple[str | bytes | int, ...] = (
                nonce, carried.epoch, carried.next_n, status, raw, int(settings.retention_s * 1000),
                int(settings.keep_prompt), *carried.snapshot_step(anew=anew), "result", raw,
            )  # fmt: skip
            answer = await self._writer.call(carried, "finish", *args)
            if answer[0] == "mismatch" and not anew:
                anew = True
                continue
            if answer[0] == "behind" and not carried.stopped.done():
                self._writer.doubt(carried)
                await asyncio.sleep(RETRY_FIRST_S)
                continue
            break
        if answer[0] == "finished":
            self._writer.retire(carried, args)
        log.info("stream_ended", stream=carried.stream_id, status=status, answer=answer[0])
        await self._forget(carried.stream_id)

    async def _end_for_another(self, stream_id: str, claim: Claim) -> None:
        """Close a stream whose last worker is gone: its end is all that is missing, or all that is left."""
        settings = self._settings
        if claim.why == FINISHING:
            reason = decode_data(claim.request).get("finish_reason")
            status, data = (
                DONE,
                {"finish_reason": reason, "usage": None, "cost": None, "attempt": claim.attempt},
            )
        else:
            status = FAILED
            data = {
                "code": claim.why, "message": END_TEXTS[claim.why], "retryable": True, "attempt": claim.attempt,
            }  # fmt: skip
        raw = encode_data(data)
        await self._streams.call(
            "finish", stream_id, new_nonce(), claim.epoch, 0, status, raw,
            int(settings.retention_s * 1000), int(settings.keep_prompt), "", 0, b"", "result", raw,
        )  # fmt: skip
        await self._queue.hint(stream_id)
        await self._forget(stream_id)

    async def _forget(self, stream_id: str) -> None:
        with contextlib.suppress(*AWAY, RedisError):  # the sweep does it, too
            await self._queue.finished(stream_id)

    async def _hand_over(self, carried: Carried) -> None:
        """Give the stream to another worker, without a lease wait. On failure the lease tells instead."""
        stream_id = carried.stream_id
        try:
            async with asyncio.timeout(HANDOVER_S):
                if not await self._writer.settled(carried):
                    return
                answer = await self._streams.release(stream_id, carried.epoch, "handover")
                if answer[0] != "released":
                    return
                await self._queue.put(stream_id, carried.attempt + 1, await self._queue.now_ms())
                await self._queue.wake()
                log.info("handed_over", stream=stream_id, job=job_id(stream_id, carried.attempt + 1))
        except (*AWAY, RedisError) as error:
            log.warning("hand_over_failed", stream=stream_id, error=type(error).__name__)

    async def _charge(self, stream_id: str, attempt: int, course: Course) -> None:
        if course.usage is None:
            return
        try:
            await self._streams.charge(stream_id, attempt, msgspec.json.encode(asdict(course.usage)))
        except (*AWAY, RedisError) as error:
            log.warning("usage_not_noted", stream=stream_id, error=type(error).__name__)

    def _timings(self, claim: Claim, course: Course, began: float) -> dict[str, int | None]:
        """All from the stream's creation on, in ms."""
        total_s = asyncio.get_running_loop().time() - began
        first = course.first_token_s
        return {
            "queued_ms": claim.queued_ms,
            "first_token_ms": None if first is None else claim.queued_ms + round(first * 1000),
            "total_ms": claim.queued_ms + round(total_s * 1000),
        }

    def _done_data(self, claim: Claim, course: Course, timings: dict[str, int | None]) -> dict[str, Any]:
        usage = None if course.usage is None else asdict(course.usage)
        return {"finish_reason": course.reason, "usage": usage, "cost": None, "attempt": claim.attempt}


LOG_FULL_TEXT: Final = (
    "Redis is at its memory limit and refused the answer. Raise maxmemory or shorten HEADRACE_RETENTION_S, "
    "then try again."
)
INTERNAL_TEXT: Final = "The worker met an error of its own (its log tells more). Try again."
FILTERED_TEXT: Final = "The provider's content filter ended the answer. Change the request."
END_TEXTS: Final = {
    "worker_lost": "The worker was lost in mid-answer, and this stream was created with on_failure=fail. "
    "Try again.",
    "attempts_exhausted": "Several workers were lost over this stream, and no try is left. Try again; if "
    "that repeats, the workers' logs tell what ends them.",
}
