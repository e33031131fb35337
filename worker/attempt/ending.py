"""How an attempt ends: its end is written, its stream is given back, or a stream whose worker is gone is closed.

Each step can be repeated safely (by a nonce, or because a second run of the script changes nothing). Each step may
also be lost together with this worker: then the lease expires, and the sweep brings another worker, which continues
from what the log holds.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog
from redis.exceptions import RedisError

from shared.config.settings import Settings
from shared.protocol.events import DONE, FAILED, encode_data
from shared.protocol.fallbacks import speaker
from shared.redis import AWAY
from shared.store.claims import Claim
from shared.store.erasures import Erasures
from shared.store.new_stream import new_nonce
from shared.store.queue import FIRST, Lane, Queue, job_id
from shared.store.streams import Streams
from worker.attempt.outcome import Outcome
from worker.log.attempt_log import AttemptLog
from worker.log.writer import LogWriter
from worker.metrics import WorkerMetrics

HANDOVER_S: Final = 2.0
"""The limit for writing the last events and giving the stream back. Otherwise the lease expires after 3 s."""

BEHIND_S: Final = 0.25
"""The pause before ``finish.lua`` is called again, if the log lacks entries that must stand before the end."""

END_TEXTS: Final = {
    "worker_lost": "The worker was lost in the middle of the answer, and this stream's on_failure does not let "
    "another one start over. Try again.",
    "attempts_exhausted": "Several workers were lost while they ran this stream, and no tries are left. Try again. "
    "If this repeats, the workers' logs say what ends them.",
}

log = structlog.get_logger("worker.endings")


class AttemptEnding:
    """Ends attempts for one worker process."""

    def __init__(
        self,
        settings: Settings,
        streams: Streams,
        queue: Queue,
        writer: LogWriter,
        erasures: Erasures,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self._erasures = erasures
        self._retention_ms = int(settings.retention_s * 1000)
        self._keep_prompt = int(settings.keep_prompt)
        self._streams = streams
        self._queue = queue
        self._writer = writer
        self._metrics = metrics or WorkerMetrics()

    async def end(self, attempt: AttemptLog, status: str, data: dict[str, Any], outcome: Outcome) -> None:
        """Write the finish reason, the terminal event, the record with its usage, and the end of the snapshot by
        one script.

        An attempt that was stopped because Redis is out of memory ends after its last written event. An attempt
        that was stopped for another reason may not write any more.
        """
        if attempt.stopped.done():
            attempt.cut()
        elif not await self._writer.acknowledged(attempt):
            return
        raw = encode_data(data)
        finishing = encode_data({"finish_reason": outcome.reason}) if status == DONE else b""
        fields: tuple[str | bytes | int, ...] = ("result", raw)
        if status == FAILED:
            fields += (f"end:{attempt.attempt}", data["code"])
        if outcome.usage is not None:
            usage, cost = _paid(outcome)
            fields += (f"usage:{attempt.attempt}", usage, f"cost:{attempt.attempt}", cost)
        head = (new_nonce(), attempt.epoch, attempt.next_n, status, raw, self._retention_ms, self._keep_prompt)
        finish = asyncio.ensure_future(self._finish(attempt, head, (finishing, *fields)))
        try:
            reply = await asyncio.shield(finish)
        except asyncio.CancelledError:
            # The worker stops at this moment. The end has been sent, and usually still arrives.
            await asyncio.wait({finish}, timeout=HANDOVER_S)
            finish.cancel()
            raise
        outcome.charged = reply == "finished"
        # After the end, so that the end does not wait for it. The prompt is deleted, and the rest has its expiry.
        await self._erasures.note()
        about = {**log_fields(attempt, outcome), **(data.get("timings") or {})}
        self._tell(attempt.stream_id, status, reply, data.get("code", ""), about)

    async def _finish(
        self, attempt: AttemptLog, head: tuple[str | bytes | int, ...], tail: tuple[str | bytes | int, ...]
    ) -> str:
        """Call ``finish.lua`` with the arguments before and after the snapshot's step. Out: its reply."""
        anew = False
        while True:
            step = attempt.snapshot_step(anew=anew)
            reply = await self._writer.call(attempt, "finish", *head, *step, *tail)
            if reply[0] == "mismatch" and not anew:
                anew = True
            elif reply[0] == "behind" and not attempt.stopped.done():
                self._writer.doubt(attempt)
                await asyncio.sleep(BEHIND_S)
            else:
                return reply[0]

    async def end_for_another(self, stream_id: str, claim: Claim) -> None:
        """Close a stream whose last worker is gone, and which may not be tried again."""
        data = {"code": claim.why, "message": END_TEXTS[claim.why], "retryable": True}
        raw = encode_data({**data, "attempt": claim.attempt, "timings": None})
        reply: bytes = await self._streams.call(
            "finish", stream_id, new_nonce(), claim.epoch, 0, FAILED, raw,
            self._retention_ms, self._keep_prompt, "", 0, b"", b"", "result", raw,
        )  # fmt: skip
        await self._queue.hint(stream_id)
        await self._erasures.note()
        provider, model = await self._streams.fields(stream_id, "provider", "model")
        name = (model or "").partition("/")[2]
        about = {"provider": provider or "", "model": name, "attempt": claim.attempt}
        self._tell(stream_id, FAILED, reply.decode().split()[0], claim.why, about)

    async def hand_over(self, attempt: AttemptLog, lane: Lane) -> None:
        """Give the stream to another worker at once. If that fails, the lease expires, and the sweep does it."""
        try:
            await asyncio.wait_for(self._hand_over(attempt, lane), HANDOVER_S)
        except (*AWAY, RedisError) as error:
            log.warning("hand_over_failed", stream=attempt.stream_id, error=type(error).__name__)

    async def _hand_over(self, attempt: AttemptLog, lane: Lane) -> None:
        stream_id = attempt.stream_id
        if not await self._writer.acknowledged(attempt):
            return
        reply = await self._streams.release(stream_id, attempt.epoch, "handover")
        if reply[0] != "released":
            return
        await self._queue.put(stream_id, attempt.attempt + 1, lane, FIRST)
        self._metrics.handed_over()
        log.info("handed_over", stream=stream_id, job=job_id(stream_id, attempt.attempt + 1, lane))

    async def give_back(self, attempt: AttemptLog, code: str) -> None:
        """Give the stream back for another try, by the first worker to claim it. ``code``: why this one ended."""
        await self._writer.acknowledged(attempt)
        ended = {f"end:{attempt.attempt}": code}
        await self._streams.release(attempt.stream_id, attempt.epoch, "retry", ended)

    async def fall_back(self, attempt: AttemptLog, code: str, request: dict[str, Any]) -> None:
        """Give the stream back with this new request: the next attempt asks the provider that it names."""
        await self._writer.acknowledged(attempt)
        moved: dict[str, str | bytes] = {
            f"end:{attempt.attempt}": code,
            "request": msgspec.json.encode(request),
            **speaker(request),
        }
        await self._streams.release(attempt.stream_id, attempt.epoch, "fallback", moved)

    async def charge(self, attempt: AttemptLog, outcome: Outcome) -> None:
        """Add what this attempt used and cost to the record, however it ended."""
        if outcome.usage is None or outcome.charged:
            return
        try:
            charge = self._streams.charge(attempt.stream_id, attempt.attempt, *_paid(outcome))
            await asyncio.wait_for(charge, HANDOVER_S)
        except (*AWAY, RedisError) as error:
            log.warning("usage_not_noted", stream=attempt.stream_id, error=type(error).__name__)

    def _tell(self, stream_id: str, status: str, reply: str, code: str, about: Mapping[str, Any]) -> None:
        """Log one line for each stream that ended. ``reply``: of ``finish.lua``."""
        if reply != "finished":
            # The stream had already ended, was erased, or belongs to another worker.
            log.info("end_refused", stream=stream_id, status=status, answer=reply, **about)
            return
        self._metrics.ended(status, code, about["provider"], about["model"])
        if status == FAILED:
            log.warning("stream_ended", stream=stream_id, status=status, code=code, **about)
        else:
            log.info("stream_ended", stream=stream_id, status=status, **about)


def log_fields(attempt: AttemptLog, outcome: Outcome) -> dict[str, str | int]:
    """The provider, model and number of an attempt, for a log line."""
    return {"provider": outcome.provider, "model": outcome.model, "attempt": attempt.attempt}


def _paid(outcome: Outcome) -> tuple[bytes, bytes]:
    """What was used and what it cost (``null``: unknown), as JSON."""
    return msgspec.json.encode(outcome.usage), msgspec.json.encode(outcome.cost)
