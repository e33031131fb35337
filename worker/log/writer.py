"""The log writer writes the events of all attempts of a worker in one round trip, over one connection that it owns.

Theory of operation. One flush is in flight at a time. It takes the attempts that have something to write
(:mod:`worker.log.flush_policy`), appends their entries (see :mod:`shared.store.log`), and names the streams in one
PUBLISH after them, so that a wake-up never overtakes its append. A flush starts at once if the last one is at least
``flush_s`` ago; otherwise it waits until then. At 100 streams of 50 tokens/s, flushes 5 ms apart halve a token's
cost, for a p99 of 7 ms instead of 1.1; flushes 9 ms apart save another tenth, with a p99 of 12 ms. Under
``appendfsync always`` a flush costs one fsync, for any number of streams.

A connection that fails is never reused. On every new connection all attempts, idle ones too, are compared with
their logs before anything is appended (:mod:`worker.log.recovery`). The same is done for each attempt that begins:
its claim went over another connection, and a log that lacks its opening event would still accept its entries.
Nothing is appended to a doubtful log.

Calls (scripts that follow a stream's appends) wait until their own stream has nothing more to append. They are sent
again on a new connection. A snapshot grows at an offset that the script checks. If the server's snapshot has
another length (its last moments were lost, or it had no memory for a script), the whole snapshot is written anew.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY, LogConnection, Script, command, is_trouble, reason, teach
from shared.store.claims import Claim
from shared.store.keys import Keys
from shared.store.log import Log
from worker.log.attempt_log import FENCED, AttemptLog
from worker.log.flush import Flush, ScriptCall
from worker.log.flush_policy import FlushPolicy
from worker.log.recovery import reconcile, stays_doubtful
from worker.metrics import WorkerMetrics

MAX_CALL_BYTES: Final = 512 * 1024
"""The most bytes of the calls in one flush (the last call may exceed it), because the next tokens wait for them."""
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.05, 1.0
"""Pauses between tries to connect. A server that comes back is noticed within a second."""
DOUBT_S: Final = 0.1
"""How often an attempt that stays doubtful (its server is out of memory) is compared again. Others do not wait for
it."""

log = structlog.get_logger("worker.log")


class LogWriter:
    """Writes the logs of all attempts that this worker runs."""

    def __init__(
        self,
        connect: Callable[[], LogConnection],
        keys: Keys,
        scripts: Mapping[str, Script],
        cap: int,
        flush_s: float,
        publish: Callable[[bytes], Awaitable[None]] | None = None,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """``connect`` makes an unopened connection. ``cap``: the entries that a log keeps. ``publish`` sends
        wake-ups to another server; without it they follow the appends."""
        self._connect = connect
        self._keys = keys
        self._scripts = scripts
        self._cap = cap
        self._flush_s = flush_s
        self._publish = publish
        self._metrics = metrics or WorkerMetrics()
        self.errors: Counter[str] = Counter()
        """How often the connection failed, by the name of the error."""
        self._connection: LogConnection | None = None
        self._running: dict[str, AttemptLog] = {}
        self._policy = FlushPolicy()
        self._doubtful: dict[AttemptLog, None] = {}
        self._doubt_at = 0.0
        self._calls: dict[ScriptCall, None] = {}
        self._work = asyncio.Event()

    def begin(self, stream_id: str, claim: Claim) -> AttemptLog:
        """Begin to write an attempt whose opening event the claim has written."""
        if stream_id in self._running:
            self._running[stream_id].stop(FENCED)
        attempt = AttemptLog(stream_id, claim, Log(self._keys.log(stream_id), self._cap))
        self._running[stream_id] = attempt
        # The claim went over another connection. While two masters serve behind Sentinel, this connection may lead
        # to the other one.
        self.doubt(attempt)
        return attempt

    def drop(self, attempt: AttemptLog) -> None:
        """Stop writing this attempt."""
        if self._running.get(attempt.stream_id) is attempt:
            del self._running[attempt.stream_id]
        attempt.source = None
        self._policy.discard(attempt)
        self._doubtful.pop(attempt, None)
        self.drop_calls(attempt)

    def drop_calls(self, attempt: AttemptLog) -> None:
        """Cancel this attempt's calls."""
        for call in [call for call in self._calls if call.attempt is attempt]:
            del self._calls[call]
            call.reply.cancel()

    def running(self) -> list[AttemptLog]:
        """All attempts that this worker runs now."""
        return list(self._running.values())

    def touch(self, attempt: AttemptLog) -> None:
        """This attempt has something to write, or its source may have."""
        self._policy.add(attempt)
        self._work.set()

    def doubt(self, attempt: AttemptLog) -> None:
        """Compare this attempt with its log before anything else is written."""
        self._doubtful[attempt] = None
        self._doubt_at = 0.0
        self._work.set()

    async def acknowledged(self, attempt: AttemptLog) -> bool:
        """Wait until all events of this attempt are acknowledged. Out: False if it was stopped before that."""
        while not attempt.all_acknowledged and not attempt.stopped.done():
            self.touch(attempt)
            await attempt.moved()
        return not attempt.stopped.done()

    async def call(self, attempt: AttemptLog, name: str, *args: str | bytes | int) -> tuple[str, ...]:
        """Run a script after all appends of this attempt. Out: its reply, split into words."""
        if attempt.all_acknowledged:
            self._policy.discard(attempt)  # or the call would wait for a flush in which nothing is appended
        self._enqueue(call := ScriptCall(attempt, name, args))
        return tuple((await call.reply).decode().split())

    def _enqueue(self, call: ScriptCall) -> None:
        self._calls[call] = None
        self._work.set()

    # -- the connection -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Flush until cancelled."""
        loop = asyncio.get_running_loop()
        backoff_s, last_flush = FIRST_BACKOFF_S, 0.0
        try:
            while True:
                await self._work.wait()
                waits_since = loop.time()
                await asyncio.sleep(max(0.0, last_flush + self._flush_s - loop.time()))
                self._work.clear()
                last_flush = loop.time()
                try:
                    connection = self._connection or await self._open()
                    await self._reconcile(connection)
                    written = await self._flush(connection)
                except (*AWAY, RedisError) as error:
                    self.errors[type(error).__name__] += 1
                    log.warning("log_away", error=type(error).__name__, detail=reason(error))
                    await self._close()
                    self._work.set()
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
                else:
                    backoff_s = FIRST_BACKOFF_S
                    if written:
                        self._metrics.flushed(written, loop.time() - waits_since)
        finally:
            await self._close()

    async def tick(self) -> None:
        """Called once a second, to notice a dead connection while idle."""
        if self._connection is None:
            self._work.set()
            return
        try:
            await self._connection.exchange([command(None, "PING")])
        except AWAY:
            await self._close()
            self._work.set()

    async def _open(self) -> LogConnection:
        """Open a new connection, and load the scripts, because a server that restarted has lost them. Raises one of
        AWAY, or a RedisError; then nothing is open."""
        connection = self._connect()
        await connection.open()
        try:
            await teach(connection, self._scripts.values())
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        now = asyncio.get_running_loop().time()
        for attempt in self._running.values():
            attempt.keep_anew(now)
            self.doubt(attempt)
        return connection

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # -- doubts -------------------------------------------------------------------------------------

    async def _reconcile(self, connection: LogConnection) -> None:
        loop = asyncio.get_running_loop()
        if not self._doubtful or loop.time() < self._doubt_at:
            return
        # Half of DOUBT_S: if the timer fires a little early, its comparison must still happen.
        self._doubt_at = loop.time() + DOUBT_S / 2
        loop.call_later(DOUBT_S, self._work.set)
        async for attempt, outcome, mended in reconcile(connection, list(self._doubtful)):
            if isinstance(outcome, str):
                attempt.stop(outcome)
            elif outcome is not True:
                if stays_doubtful(attempt, outcome, loop.time()):
                    continue
            else:
                attempt.acknowledged(loop.time())
                if attempt.has_pending:
                    self.touch(attempt)
                if mended:
                    self._snapshot(attempt, anew=True)
            self._doubtful.pop(attempt, None)

    # -- a flush ------------------------------------------------------------------------------------

    async def _flush(self, connection: LogConnection) -> int:
        """Write what is due. Out: how many events were written."""
        flush, events = Flush(self._keys, self._scripts), 0
        doubtful = self._doubtful
        for attempt in self._policy.take(doubtful):
            if entries := attempt.take():
                flush.append(attempt, entries)
                events += len(entries)
            if attempt.has_pending and not attempt.stopped.done():
                self.touch(attempt)
        if self._policy.any_but(doubtful):
            self._work.set()  # the next flush takes the others
        called = 0
        for call in self._calls:
            if call.attempt in doubtful or call.attempt in self._policy:
                continue
            if called > MAX_CALL_BYTES:
                self._work.set()  # the next flush takes the other calls
                break
            flush.call(call)
            called += call.size
        if not flush.commands:
            return 0
        if self._publish is None:
            flush.publish()
        replies = await connection.exchange(flush.commands)
        self._read_appends(flush, replies, asyncio.get_running_loop().time())
        self._read_calls(flush, replies)
        if self._publish is not None:
            await self._publish(flush.touched)
        return events

    def _read_appends(self, flush: Flush, replies: list[Any], now: float) -> None:
        trouble: RedisError | None = None
        for attempt, outcome in flush.appended(replies):
            if outcome is True:
                if attempt.acknowledged(now):
                    self._snapshot(attempt)
                continue
            try:
                if stays_doubtful(attempt, outcome, now):
                    self.doubt(attempt)
            except RedisError as error:
                trouble = error
        if trouble is not None:
            raise trouble

    def _read_calls(self, flush: Flush, replies: list[Any]) -> None:
        for call, reply in flush.answered(replies):
            if is_trouble(reply):
                raise reply
            self._calls.pop(call, None)
            call.tell(reply)

    # -- snapshots ----------------------------------------------------------------------------------

    def _snapshot(self, attempt: AttemptLog, *, anew: bool = False) -> None:
        """Bring this attempt's snapshot up to all that was acknowledged."""
        call = ScriptCall(attempt, "snapshot", (attempt.epoch, *attempt.snapshot_step(anew=anew)))
        call.reply.add_done_callback(lambda done: self._snapshot_replied(attempt, done))
        self._enqueue(call)

    def _snapshot_replied(self, attempt: AttemptLog, done: "asyncio.Future[bytes]") -> None:
        if done.cancelled() or attempt.stopped.done():
            return
        error = done.exception()
        if error is not None:
            # The next step will find another length than it expects, and write the snapshot anew.
            log.warning("snapshot_refused", stream=attempt.stream_id, detail=reason(error))
        elif done.result().startswith(b"mismatch"):
            self._snapshot(attempt, anew=True)
        elif done.result() != b"ok":
            self.doubt(attempt)
