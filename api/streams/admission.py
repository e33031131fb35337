"""Admission: the responses to creates that a quota refuses (see :mod:`shared.store.quotas`).

A refusal is a 429 whose code names the limit, with ``Retry-After``. A repeated create whose stream exists already
is never refused: it takes nothing.
"""

import math
from typing import Final

from api.http.problems import Problem, redis_full
from shared.config.settings import Settings
from shared.protocol.status import TRANSITIONS
from shared.store.new_stream import BEING_MADE_MS
from shared.store.queue import Queue
from shared.store.quotas import Quotas
from shared.store.streams import Streams

QUEUE_WAIT_S: Final = 5
STREAMS_WAIT_S: Final = 2
BYTES_WAIT_S: Final = 30


class Admission:
    """The quotas of API keys, as creates meet them."""

    def __init__(self, settings: Settings, quotas: Quotas, streams: Streams, queue: Queue) -> None:
        self._settings = settings
        self._quotas = quotas
        self._streams = streams
        self._queue = queue

    async def forget(self, owner: str, stream_id: str) -> None:
        """The stream was erased: it no longer counts, and no trace of it is left."""
        await self._quotas.drop(owner, [stream_id])

    async def make_room(self, owner: str) -> bool:
        """Drop the owner's streams that ended or are gone from its quota. Out: whether there is room now, also if
        another create made the room at the same moment."""
        admitted = await self._quotas.streams_of(owner)
        found = await self._streams.liveness(list(admitted))
        now_ms = await self._queue.now_ms()
        dead = [
            stream_id
            for (stream_id, since_ms), stands in zip(admitted.items(), found, strict=True)
            # A stream that is being created has no record yet. (since_ms > now_ms: the clock went back.)
            if (
                not now_ms - BEING_MADE_MS <= since_ms <= now_ms
                if stands.status is None
                else not TRANSITIONS[stands.status]  # type: ignore[index]
            )
        ]
        await self._quotas.drop(owner, dead)
        return len(admitted) - len(dead) < self._settings.streams_per_key

    def refusal(self, limit: str, number: int) -> Problem:
        """The problem for a create that this limit refused: 429, or 503 at full memory.

        ``number``: the number in the reply of ``admit.lua``.
        """
        if limit == "redis_full":
            return redis_full()
        settings = self._settings
        share = (
            f"{number} streams of this key wait for a worker, which is its share of the {settings.max_queue} that "
            "may wait (HEADRACE_MAX_QUEUE)"
        )
        wait_s, sentence = {
            "queue_full": (
                QUEUE_WAIT_S,
                share if number else f"{settings.max_queue} streams wait for a worker already",
            ),
            "too_many_streams": (
                STREAMS_WAIT_S,
                f"This key has {settings.streams_per_key} streams at once, and may not have more",
            ),
            "too_many_bytes": (
                BYTES_WAIT_S,
                f"This key may store {number} bytes more, and this request is larger. A stream that ends frees the "
                "bytes of its request, and one that expires or is erased frees all of its bytes",
            ),
            "rate_limited": (
                math.ceil(number / 1000),
                f"This key may create {settings.creations_per_minute} streams in a minute",
            ),
        }[limit]
        return Problem(
            429,
            limit,
            f"{sentence}. Nothing was started; try again in {wait_s} s.",
            headers={"Retry-After": str(wait_s)},
        )
