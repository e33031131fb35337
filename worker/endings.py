"""How an attempt ends: written, given back, or closed for a worker that is gone.

Each step is repeated safely (a nonce, or a script that changes nothing twice) and each may be lost with this
worker: the lease and the sweep then bring another one, which finds the log as it stands.
"""

import asyncio
from typing import Any, Final

import msgspec
import structlog
from redis.exceptions import RedisError

from shared.claims import Claim
from shared.events import DONE, FAILED, FINISHING, decode_data, encode_data
from shared.fallbacks import speaker
from shared.new_stream import new_nonce
from shared.queue import Queue, job_id
from shared.redis import AWAY
from shared.settings import Settings
from shared.streams import Streams
from worker.carried import Carried
from worker.course import Course
from worker.log_writer import LogWriter

HANDOVER_S: Final = 2.0
"""What may be spent on writing the last words and giving the stream back; the lease would do it in three."""

BEHIND_S: Final = 0.25

END_TEXTS: Final = {
    "worker_lost": "The worker was lost in mid-answer, and this stream's on_failure does not let another one begin "
    "anew. Try again.",
    "attempts_exhausted": "Several workers were lost over this stream, and no try is left. Try again; if "
    "that repeats, the workers' logs tell what ends them.",
}

log = structlog.get_logger("worker.endings")


class Endings:
    """Ends attempts for one worker process."""

    def __init__(self, settings: Settings, streams: Streams, queue: Queue, writer: LogWriter) -> None:
        self._retention_ms = int(settings.retention_s * 1000)
        self._keep_prompt = int(settings.keep_prompt)
        self._streams = streams
        self._queue = queue
        self._writer = writer

    async def end(self, carried: Carried, status: str, data: dict[str, Any], course: Course) -> None:
        """Write the terminal event (with the finish reason in front of it, where that is all that is unsaid), the
        record (what was used, too) and the last of the snapshot: one script.

        An attempt that was stopped because the log refused it (out of memory) ends behind its last written
        event; one that was stopped for another reason has no say any more.
        """
        if carried.stopped.done():
            carried.cut()
        last_word = carried.take_last_word()
        if not carried.stopped.done() and not await self._writer.settled(carried):
            return
        raw = encode_data(data)
        fields: tuple[str | bytes | int, ...] = ("result", raw)
        if course.usage is not None:
            usage, cost = _told(course)
            fields += (f"usage:{carried.attempt}", usage, f"cost:{carried.attempt}", cost)
        head = (new_nonce(), carried.epoch, carried.next_n, status, raw, self._retention_ms, self._keep_prompt)
        try:
            answer = await self._finish(carried, head, (last_word, *fields))
        except asyncio.CancelledError:
            self._writer.take_back(carried)
            raise
        if answer == "finished":
            course.charged = True
            self._writer.retire(carried, (*head, *carried.snapshot_step(anew=True), 1, last_word, *fields))
        _tell(carried.stream_id, status, answer)

    async def _finish(
        self, carried: Carried, head: tuple[str | bytes | int, ...], tail: tuple[str | bytes | int, ...]
    ) -> str:
        """Call ``finish.lua`` with what stands in front of the snapshot's step, and behind it. Out: its answer."""
        anew = False
        while True:
            step = carried.snapshot_step(anew=anew)
            answer = await self._writer.call(carried, "finish", *head, *step, 0, *tail)
            if answer[0] == "mismatch" and not anew:
                anew = True
            elif answer[0] == "behind" and not carried.stopped.done():
                self._writer.doubt(carried)
                await asyncio.sleep(BEHIND_S)
            else:
                return answer[0]

    async def end_for_another(self, stream_id: str, claim: Claim) -> None:
        """Close a stream whose last worker is gone: its end is all that is missing, or all that is left."""
        if claim.why == FINISHING:
            reason = decode_data(claim.request).get("finish_reason")
            status, data = DONE, {"finish_reason": reason, "usage": None, "cost": None}
        else:
            status, data = FAILED, {"code": claim.why, "message": END_TEXTS[claim.why], "retryable": True}
        raw = encode_data({**data, "attempt": claim.attempt, "timings": None})
        answer: bytes = await self._streams.call(
            "finish", stream_id, new_nonce(), claim.epoch, 0, status, raw,
            self._retention_ms, self._keep_prompt, "", 0, b"", 0, b"", "result", raw,
        )  # fmt: skip
        await self._queue.hint(stream_id)
        _tell(stream_id, status, answer.decode().split()[0])

    async def hand_over(self, carried: Carried) -> None:
        """Give the stream to another worker, without a lease wait. Where that fails, the lease tells."""
        stream_id = carried.stream_id
        try:
            async with asyncio.timeout(HANDOVER_S):
                if not await self._writer.settled(carried):
                    return
                answer = await self._streams.release(stream_id, carried.epoch, "handover")
                if answer[0] != "released":
                    return
                await self._queue.put(stream_id, carried.attempt + 1, await self._queue.now_ms())
                log.info("handed_over", stream=stream_id, job=job_id(stream_id, carried.attempt + 1))
        except (*AWAY, RedisError) as error:
            log.warning("hand_over_failed", stream=stream_id, error=type(error).__name__)

    async def give_back(self, carried: Carried) -> None:
        """Give the stream back for another try (by whoever claims it first)."""
        await self._writer.settled(carried)
        await self._streams.release(carried.stream_id, carried.epoch, "retry")

    async def fall_back(self, carried: Carried, request: dict[str, Any]) -> None:
        """Give the stream back, moved to this request: whoever claims it next asks that one's provider."""
        await self._writer.settled(carried)
        moved: dict[str, str | bytes] = {"request": msgspec.json.encode(request), **speaker(request)}
        await self._streams.release(carried.stream_id, carried.epoch, "fallback", moved)

    async def charge(self, carried: Carried, course: Course) -> None:
        """Note what this attempt used and cost, whatever became of it."""
        if course.usage is None or course.charged:
            return
        try:
            async with asyncio.timeout(HANDOVER_S):
                await self._streams.charge(carried.stream_id, carried.attempt, *_told(course))
        except (*AWAY, RedisError) as error:
            log.warning("usage_not_noted", stream=carried.stream_id, error=type(error).__name__)


def _tell(stream_id: str, status: str, answer: str) -> None:
    if answer in ("finished", "ended", "gone"):
        log.info("stream_ended", stream=stream_id, status=status, answer=answer)
    else:
        log.info("end_refused", stream=stream_id, answer=answer)


def _told(course: Course) -> tuple[bytes, bytes]:
    """What was used and what it cost (``null``: unknown), as JSON."""
    return msgspec.json.encode(course.usage), msgspec.json.encode(course.cost)
