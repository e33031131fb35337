"""The log writer: all that a worker's streams say, in one round trip, over one connection that it owns.

Theory of operation. One flush is in flight at a time. It takes the pending events of the streams that have
some, appends them (see :mod:`shared.log`), and names the streams it touched in one PUBLISH behind them, so
that a wake-up never overtakes its append. Flushes are at least ``flush_s`` apart, and at once when the last
is older: at 100 streams of 50 tokens/s that halves a token's cost for a p99 of 7 ms (5 ms apart), not 1.1; 9 ms
apart it is another tenth less, with a p99 of 12 ms. Under load not everybody speaks in each of them
(:mod:`worker.speakers`).

A connection that fails is never reused. On every new one all carried streams, idle ones and ones that ended
within the last seconds too, are compared with their log's last entry before anything is appended: what the
log lost is written again, a later epoch stops the attempt, and what can't be mended is LOST. A refused
append is *doubtful* and goes the same way: "equal or smaller" may be a repeated write whose reply was lost,
and only the log itself can tell.

Calls (scripts behind a stream's appends) wait for all that their own stream has to say; repeating is harmless.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from redis.exceptions import RedisError

from shared.claims import Claim
from shared.log import Log
from shared.redis import AWAY, Script, is_trouble
from worker.batch import SETTLING_S, Batch, Call, Line
from worker.carried import FENCED, GONE, Carried
from worker.doubts import DOUBT_S, Doubts, may_come_back
from worker.link import Link
from worker.reconcile import Outcome, Reconciler, stays_doubtful
from worker.sent import KEEP_S
from worker.snapshots import Snapshots
from worker.speakers import Speakers

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.05, 1.0
"""A server that comes back is noticed within a second."""

log = structlog.get_logger("worker.log")


class LogWriter:
    """Writes the logs of all streams that this worker carries."""

    def __init__(
        self,
        link: Link,
        reconciler: Reconciler,
        scripts: Mapping[str, Script],
        flush_s: float,
        hint: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        """``hint`` publishes wake-ups that live on another server; without it they go behind the appends."""
        self._link = link
        self._scripts = scripts
        self._keys = reconciler.keys
        self._flush_s = flush_s
        self._hint = hint
        self._reconciler = reconciler
        self._carried: dict[str, Carried] = {}
        self._ended: list[Carried] = []
        self._speakers = Speakers()
        self._doubts = Doubts()
        self._line = Line()
        self._work = asyncio.Event()
        self._snapshots = Snapshots(self._line_up, self.doubt)

    def carry(self, stream_id: str, claim: Claim) -> Carried:
        """Begin to write an attempt whose opening event the claim has written."""
        if stream_id in self._carried:
            self._carried[stream_id].stop(FENCED)
        self._carried[stream_id] = Carried(stream_id, claim, Log(self._keys.log(stream_id), self._reconciler.cap))
        return self._carried[stream_id]

    def drop(self, carried: Carried) -> None:
        """Stop writing this attempt. What was said is kept for a while: the server's last seconds may be lost."""
        if carried.ended_at is not None:
            return
        if self._carried.get(carried.stream_id) is carried:
            del self._carried[carried.stream_id]
        self._speakers.discard(carried)
        if self._doubts.discard(carried):
            carried.cut()
        self._line.drop(carried)
        self._ended.append(carried.end(asyncio.get_running_loop().time()))

    def retire(self, carried: Carried, end_args: tuple[str | bytes | int, ...]) -> None:
        """The stream ended by ``finish`` with these arguments: kept until no restart can lose it."""
        self.drop(carried)
        carried.end_args = end_args

    def touch(self, carried: Carried) -> None:
        """This attempt has something to say."""
        self._speakers.add(carried)
        self._work.set()

    def held(self) -> list[Carried]:
        """All attempts that are carried now."""
        return list(self._carried.values())

    async def settled(self, carried: Carried) -> bool:
        """Wait until everything said was acknowledged. Out: False if the attempt was stopped before."""
        while not carried.settled and not carried.stopped.done():
            self.touch(carried)
            await carried.moved()
        return not carried.stopped.done()

    def doubt(self, carried: Carried) -> None:
        """Compare this attempt with its log before anything else is written."""
        self._doubts.add(carried)
        self._work.set()

    async def call(self, carried: Carried, name: str, *args: str | bytes | int) -> tuple[str, ...]:
        """Run a script behind all appends of this attempt. Out: its answer, split into words."""
        if carried.settled and not carried.has_pending:
            self._speakers.discard(carried)  # or the call would wait for its turn to say nothing
        self._line_up(call := Call(carried, name, args))
        return tuple((await call.answer).decode().split())

    def take_back(self, carried: Carried) -> None:
        """Its end is not waited for any more: the log tells whether it was written, or what is to be said now."""
        self._line.drop(carried)
        carried.take_back()
        self.doubt(carried)

    def _line_up(self, call: Call) -> None:
        self._line.add(call)
        self._work.set()

    async def run(self) -> None:
        """Flush until cancelled."""
        loop = asyncio.get_running_loop()
        backoff_s, last_flush = FIRST_BACKOFF_S, 0.0
        try:
            while True:
                await self._work.wait()
                await asyncio.sleep(max(0.0, last_flush + self._flush_s - loop.time()))
                self._work.clear()
                last_flush = loop.time()
                try:
                    if not self._link.is_open:
                        await self._link.open()
                        self._doubts.add(*self._ended, *self._carried.values())
                        for carried in self._doubts.all():
                            carried.keep_anew(loop.time())
                    await self._reconcile()
                    await self._flush(loop.time())
                except (*AWAY, RedisError) as error:
                    log.warning("log_away", error=type(error).__name__, detail=str(error)[:200])
                    await self._link.close()
                    self._work.set()
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
                else:
                    backoff_s = FIRST_BACKOFF_S
        finally:
            await self._link.close()

    async def tick(self) -> None:
        """Once a second: forget what ended long enough ago, and notice a dead connection while idle."""
        since = asyncio.get_running_loop().time() - KEEP_S
        if self._link.is_open and await self._link.is_alive():
            waiting = self._doubts.all() | self._line.waiting()
            self._ended = [c for c in self._ended if c in waiting or (c.ended_at or since) > since]
        else:
            self._work.set()

    async def _reconcile(self) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        doubtful = self._doubts.due(asked_at)
        if not doubtful:
            return
        loop.call_later(DOUBT_S, self._work.set)
        async for carried, outcome in self._reconciler.reconcile(self._link.connection, doubtful):
            self._link.answered(asked_at)
            if outcome == GONE and may_come_back(carried, self._link.trouble.calm_ms(), loop.time()):
                continue
            if isinstance(outcome, str):
                self._doubts.discard(carried)
                carried.stop(outcome)
            elif outcome is not True:
                self._refused(carried, outcome, loop.time())
            else:
                self._doubts.discard(carried)
                carried.written(loop.time())
                carried.keep_anew(loop.time())
                if carried.has_pending:
                    self.touch(carried)
                if carried.ended_at is None:
                    self._snapshots.keep(carried, anew=True)
                elif carried.end_args is not None:  # where the end is there, its nonce makes this change nothing
                    self._line_up(Call(carried, "finish", carried.end_args))

    def _refused(self, carried: Carried, outcome: Outcome, now: float) -> None:
        """An append was not (or perhaps not) written. Raises what speaks of the server, not of the stream."""
        self._doubts.discard(carried)
        if stays_doubtful(carried, outcome, now):
            self._doubts.keep(carried)

    async def _flush(self, now: float) -> None:
        batch = Batch(self._keys, self._scripts)
        doubtful = self._doubts.all()
        for carried in self._speakers.take(doubtful):
            if entries := carried.take():
                batch.append(carried, entries)
            if carried.has_pending and not carried.stopped.done():
                self.touch(carried)
        if self._speakers.any_but(doubtful):
            self._work.set()  # they speak in the next one
        for call in self._line.due(now):
            if call.carried not in doubtful and call.carried not in self._speakers:
                batch.call(call)
        if not batch.commands:
            return
        if self._hint is None:
            batch.publish()
        replies = await self._link.connection.exchange(batch.commands)
        now = asyncio.get_running_loop().time()
        self._read_appends(batch, replies, now)
        self._read_calls(batch, replies, now)
        if self._hint is not None:
            await self._hint(batch.touched)

    def _read_appends(self, batch: Batch, replies: list[Any], now: float) -> None:
        trouble: RedisError | None = None
        for carried, outcome in batch.appended(replies):
            if outcome is True:
                if carried.written(now):
                    self._snapshots.keep(carried)
                continue
            try:
                self._refused(carried, outcome, now)
            except RedisError as error:
                trouble = error
        if trouble is not None:
            raise trouble

    def _read_calls(self, batch: Batch, replies: list[Any], now: float) -> None:
        for call, reply in batch.answered(replies):
            if is_trouble(reply):
                raise reply
            if self._line.answer(call, reply, now):
                call.carried.keep_anew(now)
            else:
                asyncio.get_running_loop().call_later(SETTLING_S, self._work.set)
