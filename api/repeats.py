"""What this process wrote lately, to be written again where the server lost it.

A server that restarts from its append-only file may have lost its last seconds (``everysec`` can lose about
2), although the callers were answered. So whoever wrote keeps what it wrote until it is safe: until a server
that has been up since before the write still answers KEEP_S after it. A server that is younger than a write
gets it again: a create that was answered with 202 must lead to a stream, and what was cancelled or erased must
not come back to life. Each write can be repeated without harm, under its first id. They are repeated in order and
at once, but for cancels. These are announced at once, which keeps the stream from being claimed or ended by
anybody else, and written a moment later: the workers first write again what was said before.

What nobody answered may have been written all the same, and seen, and lost since then. So a cancel is remembered
before it is sent, under the id that it will have, and written as soon as may be where no answer came: one that
was answered with 503 may still happen. It counts no more where the stream has ended otherwise meanwhile.

The server's age decides, and not the moment when a connection broke: that is noticed late (a server may stand
still before it dies) or not at all (nobody follows anything). On a cluster, where a replica that was promoted
does not tell how young it is, a connection that came back is all that there is to go by.

What the server refuses for now (it is full, read-only or loading) stays due, and is dropped after GIVE_UP_S.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY

KEEP_S: Final = 3.0
MOST: Final = 10_000
"""Writes within KEEP_S: far more than one process can take."""

LOOK_S: Final = 0.5
"""How often the server's age is asked while anything is kept."""

ENDS_AFTER_S: Final = 4.0
ENDS_UP_S: Final = 4
"""Workers are back within a second (their longest backoff) and compare at once, which takes a slow network a few
round trips of a second. Nobody claims or ends an older
stream before the server is up for five seconds (``prelude.lua``)."""

GIVE_UP_S: Final = 60.0
"""A provisional record lives as long."""

log = structlog.get_logger("api.repeats")


@dataclass(slots=True, eq=False)
class _Write:
    """``at``: when it was sent or acknowledged last; ``refused_at``: the first time (loop time, s)."""

    stream_id: str
    at: float
    again: Callable[[], Awaitable[object]]
    announce: Callable[[], Awaitable[bool]] | None = None
    refused_at: float | None = None
    due: bool = False
    announced: bool = False
    under_way: bool = False
    """Somebody waits for the answer, and sends it again."""

    def ends(self, stream_id: str) -> bool:
        return self.announce is not None and self.stream_id == stream_id


class Repeats:
    """Remembers writes until they are safe."""

    def __init__(self, up_s: Callable[[], Awaitable[int]], trouble: Callable[[], None]) -> None:
        """``up_s`` asks for how many whole seconds the youngest server has been up; ``trouble`` is told of writes
        that are refused."""
        self._up_s = up_s
        self._trouble = trouble
        self._writes: deque[_Write] = deque(maxlen=MOST)
        self._ends_after = 0.0
        self._one_at_a_time = asyncio.Lock()

    def remember(self, stream_id: str, again: Callable[[], Awaitable[object]]) -> None:
        """Something was written and acknowledged; ``again`` writes it once more."""
        self._writes.append(_Write(stream_id, asyncio.get_running_loop().time(), again))

    @contextmanager
    def writing(
        self, stream_id: str, again: Callable[[], Awaitable[bool]], announce: Callable[[], Awaitable[bool]]
    ) -> Iterator[Callable[[bool], None]]:
        """Remember a write before it is sent: as long as the block lasts its caller sends it, afterwards this does.

        ``again`` writes it, and ``announce`` has to go before, for the workers' sake; they answer whether it still
        counts. Out: what to tell the answer, whether it was written, where there is one.
        """
        loop = asyncio.get_running_loop()
        write = _Write(stream_id, loop.time(), again, announce, under_way=True)
        self._writes.append(write)
        answers: list[bool] = []
        try:
            yield answers.append
        finally:
            write.under_way = False
            if not answers:
                write.due, write.announced = True, False
                self._ends_after = loop.time() + ENDS_AFTER_S
            elif answers[-1]:
                write.at = loop.time()
                # An earlier one of this stream that nobody answered never came to be.
                self._drop(lambda other: other.ends(stream_id) and other is not write)
            else:
                self._drop(partial(is_, write))

    def forget(self, stream_id: str) -> None:
        """What was written of this stream counts no more."""
        self._drop(lambda write: write.stream_id == stream_id)

    def _drop(self, unwanted: Callable[[_Write], bool]) -> None:
        kept = []
        for write in self._writes:
            if unwanted(write):
                write.due = False  # it may stand in a list that is being written just now
            else:
                kept.append(write)
        self._writes.clear()
        self._writes.extend(kept)

    async def returned(self) -> None:
        """The server can be reached again, and may have lost anything: write (or announce) it at once.

        What is under way is left to its caller. Raises one of AWAY if the server goes away again; what was not
        written yet stays due.
        """
        for write in self._writes:
            write.due, write.announced = True, False
        self._ends_after = asyncio.get_running_loop().time() + ENDS_AFTER_S
        async with self._one_at_a_time:
            await self._repeat(ends=False)

    async def run(self) -> None:
        """Look after what is kept, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._writes:
                continue
            try:
                async with self._one_at_a_time:
                    await self._look()
            except (*AWAY, RedisError) as error:
                log.info("server_not_ready", error=type(error).__name__)
                self._ends_after = asyncio.get_running_loop().time() + ENDS_AFTER_S

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        up_s = await self._up_s()
        # Whole seconds on both sides: it may have started up to one second later than they say.
        started_at = loop.time() - up_s + 1
        for write in list(self._writes):
            if write.at < started_at and not write.due:
                write.due, write.announced = True, False
            elif not write.due and not write.under_way and write.at < asked_at - KEEP_S:
                self._writes.remove(write)
        await self._repeat(ends=up_s >= ENDS_UP_S and asked_at >= self._ends_after)

    async def _repeat(self, *, ends: bool) -> None:
        """Write what is due; ``ends``: also what was only announced so far."""
        due = [
            write for write in self._writes if write.due and not write.under_way and (ends or not write.announced)
        ]
        if due:
            log.info("written_again", count=len(due))
        for write in due:
            if write.due:
                await self._write_again(write, ends=ends)

    async def _write_again(self, write: _Write, *, ends: bool) -> None:
        loop = asyncio.get_running_loop()
        write.due = False
        try:
            if write.announce is not None and not (ends and write.announced):
                counts = await write.announce()
                write.due = write.announced = counts
            else:
                counts = await write.again() is not False
                # Written again it is young again: the server may be lost once more.
                write.at = loop.time()
        except AWAY:
            write.due = True
            raise
        except Exception as error:
            if write.refused_at is None:
                write.refused_at = loop.time()
            counts = write.due = loop.time() < write.refused_at + GIVE_UP_S
            self._trouble()
            log.warning("not_written_again", stream=write.stream_id, error=type(error).__name__, tries_on=counts)
        else:
            write.refused_at = None
        if not counts:
            self._drop(partial(is_, write))
