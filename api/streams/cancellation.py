"""Cancelling and erasing streams."""

import structlog

from api.metrics import ApiMetrics
from api.schemas.requests import REQUESTED
from shared.config.settings import Settings
from shared.protocol.events import encode_data
from shared.store.erasures import Erasures
from shared.store.queue import Queue
from shared.store.quotas import Ended, Quotas
from shared.store.streams import Streams

log = structlog.get_logger("api")


class Cancellation:
    """Cancels and erases streams."""

    def __init__(
        self,
        settings: Settings,
        streams: Streams,
        queue: Queue,
        quotas: Quotas,
        erasures: Erasures,
        metrics: ApiMetrics,
    ) -> None:
        self._quotas = quotas
        self._retention_ms = int(settings.retention_s * 1000)
        self._keep_prompt = settings.keep_prompt
        self._erasures = erasures
        self._streams = streams
        self._queue = queue
        self._metrics = metrics

    async def cancel(self, stream_id: str, reason: str = REQUESTED) -> tuple[str, ...]:
        """Write the terminal event with this reason, and tell the worker and the readers. Out: the reply of
        ``cancel.lua``."""
        data = encode_data({"by": "client", "reason": reason})
        await self._erasures.note()
        reply = await self._streams.cancel(stream_id, data, self._retention_ms, self._keep_prompt)
        if reply[0] == "cancelled":
            await self._queue.cancelled(stream_id)
            (model,) = await self._streams.fields(stream_id, "model")
            self._metrics.cancelled(model or "")
            log.info("stream_ended", stream=stream_id, status="cancelled", model=model)
        return reply

    async def erase(self, stream_id: str, owner: str) -> bool:
        """Delete all data of a stream, running or not. Out: whether it existed."""
        await self._erasures.note()
        erased = await self._streams.erase(stream_id)
        if erased:
            await self._queue.cancelled(stream_id)
            # At once: a later sweep would remove a new stream that the same Idempotency-Key makes meanwhile.
            await self._quotas.settle([Ended(stream_id, owner)], self._retention_ms)
        return erased
