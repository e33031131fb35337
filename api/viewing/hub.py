"""The hub, the one reader of an API process: it follows all logs that have a viewer here, over constant
connections.

Theory of operation. Workers publish the names of the logs that they touched on one channel. Those that are followed
here are *dirty*; all dirty logs are read together, by one non-blocking XREAD. A name is only a hint: data always
comes from the log. So a hint that comes twice does no harm, and neither does one that is lost: when a broken
subscription is back all logs are checked, and a slow check of all logs finds the rest.

New entries do not show that a log is gone, or that a position is ahead of its log. So the log's last entry is
*checked*. A position is ahead if the server lost its last seconds, or if another server with an older log of that
name took over. So a log that was not read yet is checked, too. The hub owns its connection (:func:`connect_to_logs`
of :mod:`shared.redis`). Behind a new connection the server may have restarted, so all logs are checked then.

Rejected, with figures (CPU of api + worker + Redis per delivered token at 100 and 400 streams): a blocking
XREAD per viewer (244 and 117 µs; p99 239 ms at 400), one blocking XREAD of all logs (216 and 78 µs, and it
pays for every idle key: 71 against 21 µs with 1,000 idle ones). This one: 76-84 and 58 µs.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from api.dialects.base import Dialect
from api.viewing.followed_log import FollowedLog, FollowedLogs
from shared.protocol.cursor import Cursor, entry_cursor
from shared.redis import AWAY, LogConnection, listen, reason
from shared.store.keys import Keys
from shared.store.log import (
    Entry,
    RawEntry,
    last_command,
    page_command,
    read_entries,
    read_tails,
    tail_commands,
)

READ_COUNT: Final = 500
"""Entries of one log in one XREAD: a late viewer's long log must not hold up the others."""
CHECK_S: Final = 5.0
"""How late a lost hint is noticed at the worst; at 1,000 idle logs the check costs 200 commands a second."""
FIRST_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 1.0

log = structlog.get_logger("api.hub")


class Hub:
    """Follows logs for the viewers of this process."""

    def __init__(
        self,
        connect: Callable[[], LogConnection],
        client: Redis,
        queue_url: str,
        keys: Keys,
        linger_s: float,
        was_read: Callable[[float], None],
    ) -> None:
        """``client`` serves pages to viewers that fell behind; ``queue_url``: the server of the wake-ups;
        ``was_read`` is called for each read with what it took (s)."""
        self._connect = connect
        self._client = client
        self._queue_url = queue_url
        self._keys = keys
        self._connection: LogConnection | None = None
        self._logs = FollowedLogs(keys, linger_s, self._mark, self._unmark)
        self._dirty: dict[FollowedLog, None] = {}
        self._check: dict[FollowedLog, None] = {}
        self._work = asyncio.Event()
        self._was_read = was_read
        self.snapshots_sent = 0
        self.errors: Counter[str] = Counter()
        """How often the connection failed, by the error's name."""

    @property
    def following(self) -> int:
        """How many logs are followed."""
        return len(self._logs)

    def follow(
        self, stream_id: str, dialect: Dialect, text_from: Cursor, created_ms: int
    ) -> AbstractContextManager[FollowedLog]:
        """Follow a log as long as the block lasts (and ``linger_s`` beyond: reconnect storms share it)."""
        return self._logs.viewed(stream_id, dialect, text_from, created_ms)

    async def page(self, stream_id: str, first: bytes, *, after: bool, count: int) -> list[Entry]:
        """Entries of a log from this one on (``after``: from behind it), for a viewer that fell behind."""
        command = page_command(self._keys.log(stream_id), first, count, after=after)
        return read_entries(await self._client.execute_command(*command))  # type: ignore[no-untyped-call]

    def wake_viewers(self) -> None:
        """Let every viewer look around (the process is about to stop)."""
        for followed in self._logs:
            followed.notify()

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(
                    listen(self._queue_url, self._keys.wake_channel, self._woken, self._check_everything)
                )
                group.create_task(self._read())
                group.create_task(self._check_all())
        finally:
            self._logs.close()
            if self._connection is not None:
                await self._connection.close()

    def _mark(self, followed: FollowedLog, *, check: bool = False) -> None:
        (self._check if check else self._dirty)[followed] = None
        self._work.set()

    def _unmark(self, followed: FollowedLog) -> None:
        self._dirty.pop(followed, None)
        self._check.pop(followed, None)

    # -- wake-ups -----------------------------------------------------------------------------------

    def _woken(self, names: bytes) -> None:
        self._dirty.update(dict.fromkeys(self._logs.of(names.decode().split())))
        if self._dirty:
            self._work.set()

    async def _check_all(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            self._check_everything()

    def _check_everything(self) -> None:
        for followed in self._logs:
            if followed.terminal is None:
                self._mark(followed, check=True)

    # -- reading ------------------------------------------------------------------------------------

    async def _read(self) -> None:
        backoff_s, loop = FIRST_BACKOFF_S, asyncio.get_running_loop()
        while True:
            await self._work.wait()
            self._work.clear()
            began = loop.time()
            try:
                connection = self._connection or await self._connected()
                if self._dirty:
                    await self._read_tails(connection)
                    self._was_read(loop.time() - began)
                if self._check:
                    await self._check_last(connection)
                backoff_s = FIRST_BACKOFF_S
            except (*AWAY, RedisError) as error:
                self.errors[type(error).__name__] += 1
                log.warning("log_away", error=type(error).__name__, detail=reason(error))
                if self._connection is not None:
                    await self._connection.close()
                    self._connection = None
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
                self._work.set()

    async def _connected(self) -> LogConnection:
        connection = self._connect()
        await connection.open()
        self._connection = connection
        self._check_everything()
        return connection

    async def _read_tails(self, connection: LogConnection) -> None:
        dirty, self._dirty = self._dirty, {}
        logs = {followed.key: followed for followed in dirty}
        if len(logs) < len(dirty):
            # One log in two dialects, which may stand at different positions: the one that waits longer is read
            # now, and the other one next.
            logs = {followed.key: followed for followed in reversed(dirty)}
            for followed in dirty:
                if logs[followed.key] is not followed:
                    self._mark(followed)
        positions = {key: followed.position for key, followed in logs.items()}
        commands = tail_commands(positions, READ_COUNT, one_each=connection.one_log_a_read)
        brought: dict[bytes, list[RawEntry]] = {}
        try:
            for reply in await connection.exchange(commands):
                if isinstance(reply, ResponseError):
                    raise reply
                brought.update(read_tails(reply))
        except BaseException:
            self._dirty = {**dirty, **self._dirty}
            raise
        for key, followed in logs.items():
            entries = brought.get(key)
            if entries:
                followed.extend(entries)
                if len(entries) >= READ_COUNT:
                    self._mark(followed)
                    continue
            else:  # also one that ended: it may have been erased
                self._mark(followed, check=True)
            followed.loaded.set()

    async def _check_last(self, connection: LogConnection) -> None:
        check, self._check = list(self._check), {}
        try:
            replies = await connection.exchange([last_command(followed.key) for followed in check])
        except BaseException:
            self._check = {**dict.fromkeys(check), **self._check}
            raise
        for followed, reply in zip(check, replies, strict=True):
            if isinstance(reply, ResponseError):
                raise reply
            last = next(iter(read_entries(reply)), None)
            if last is None:
                followed.vanish()
            elif last.cursor < entry_cursor(followed.position):
                log.info("ahead_of_log", stream=followed.stream_id)
                followed.rewind(last.cursor)
            elif last.cursor > entry_cursor(followed.position):
                self._mark(followed)
