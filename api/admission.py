"""Admission: a create passes the limits of its key before anything is spent or written (see :mod:`shared.limits`).

Refused is a 429 whose code names the limit, with ``Retry-After``. A repeated create whose stream is already there
is never refused: it takes nothing.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Final

from api.problems import Problem
from shared.limits import Admission, Limits
from shared.new_stream import PROVISIONAL_MS
from shared.queue import Queue
from shared.settings import Settings
from shared.streams import Streams
from shared.transitions import TRANSITIONS

QUEUE_WAIT_S: Final = 5
STREAMS_WAIT_S: Final = 2


class Admitting:
    """Admits creates."""

    def __init__(self, settings: Settings, limits: Limits, streams: Streams, queue: Queue) -> None:
        self._settings = settings
        self._limits = limits
        self._streams = streams
        self._queue = queue

    async def admit(self, owner: str, stream_id: str, *, repeatable: bool) -> int:
        """Let a create in. Out: the queue server's clock in ms. Raises :class:`Problem` (429).

        ``repeatable``: it carries an Idempotency-Key, so its stream may be there already.
        """
        if repeatable and (await self._streams.fields(stream_id, "status"))[0] is not None:
            return await self._queue.now_ms()
        return (await self.admitted(owner, lambda: self._limits.admit(owner, stream_id))).now_ms

    async def admitted(self, owner: str, ask: Callable[[], Awaitable[Admission]]) -> Admission:
        """Let in what asks for it by itself, once more if there is room then. Raises :class:`Problem` (429)."""
        found = await ask()
        if found.refusal == "too_many_streams" and await self._make_room(owner):
            found = await ask()
        if found.refusal:
            raise self._refusal(found)
        return found

    async def forget(self, owner: str, stream_id: str) -> None:
        """The stream was erased: nothing tells any more that it once was."""
        await self._limits.drop(owner, [stream_id])

    async def _make_room(self, owner: str) -> bool:
        """Drop the streams that ended or are gone. Out: whether there is room now, also where another create that
        came at the same moment was the one that made it."""
        admitted = await self._limits.streams_of(owner)
        found = await self._streams.liveness(list(admitted))
        now_ms = await self._queue.now_ms()
        dead = [
            stream_id
            for (stream_id, since_ms), (status, *_) in zip(admitted.items(), found, strict=True)
            # One that is being created has no record yet.
            if (since_ms < now_ms - PROVISIONAL_MS if status is None else not TRANSITIONS[status])  # type: ignore[index]
        ]
        await self._limits.drop(owner, dead)
        return len(admitted) - len(dead) < self._settings.streams_per_key

    def _refusal(self, found: Admission) -> Problem:
        settings = self._settings
        wait_s, sentence = {
            "queue_full": (QUEUE_WAIT_S, f"{settings.max_queue} streams wait for a worker already"),
            "too_many_streams": (
                STREAMS_WAIT_S,
                f"This key has {settings.streams_per_key} streams at once, and may not have more",
            ),
            "rate_limited": (
                math.ceil(found.wait_ms / 1000),
                f"This key may create {settings.creations_per_minute} streams in a minute",
            ),
        }[found.refusal]
        return Problem(
            429,
            found.refusal,
            f"{sentence}. Nothing was started; try again in {wait_s} s.",
            headers={"Retry-After": str(wait_s)},
        )
