"""Erased text must leave the log server's append-only file, too: when a rewrite is due, and the rewrite.

Theory of operation. An append-only file still holds text that was deleted: the prompt that is removed at a stream's
end, a stream that a ``DELETE`` erased, a stream that expired. The text leaves the disk when the server rewrites the
file (``BGREWRITEAOF``). A rewrite forks the server and writes all of its data, so there is at most one in each
interval (``HEADRACE_REWRITE_S``), and none without a reason.

The reasons are stored in one sorted set: times at which a rewrite is due, all of them multiples of the interval. A
process that deletes text notes the next such time, and those at which the text that is left has expired. For the
rest of the interval this note also covers all other text that the process deletes. So noting costs one round
trip in ten minutes, and the set has at most as many members as intervals fit into the retention. The first worker
that sees a due time takes the turn, starts the rewrite, and removes the time from the set when the server reports
that the rewrite went well. A failed rewrite is tried again in the next interval's turn.

The API writes the note before it deletes text, a worker after ``finish.lua`` deleted the prompt. The rewrite is
due later than the note by a margin, which must be longer than deleting takes: otherwise the new file could still
hold the text.
"""

import asyncio
import time
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from shared.config.settings import Settings
from shared.redis import AWAY, ScriptRunner, load_script, node_urls, open_client, reason
from shared.store.keys import Keys

MARGIN_MS: Final = 5000
"""Longer than a ``DELETE`` takes with all its tries."""
EXPIRY_MARGIN_MS: Final = 60_000
"""The server deletes expired keys in the background, most of them within a second. Keys that it deletes after this
margin leave the file with the next rewrite."""
LOOK_S: Final = 0.5
"""Time between two looks at a running rewrite."""
REWRITE_WITHIN_S: Final = 300.0
"""A rewrite that takes longer is given up."""
ASK_WITHIN_S: Final = 5.0

log = structlog.get_logger("erasures")


class Erasures:
    """The times at which the file of one deployment's log server must be rewritten."""

    def __init__(self, settings: Settings, client: Redis, keys: Keys) -> None:
        """``client``: of the queue's server."""
        self._url = settings.redis_url
        self._interval_ms = settings.rewrite_s * 1000
        self._left_ms = int(settings.retention_s * 1000) + EXPIRY_MARGIN_MS
        self._client = client
        self._key = keys.erasures
        self._turn = keys.rewriter
        self._runner = ScriptRunner(client)
        self._script = load_script("erasure")
        self._noted_until_s = 0.0

    async def note(self) -> None:
        """Note that text of a stream was just deleted, or will be at once. If the note fails, that is logged, and
        the next call tries again."""
        began_s = time.monotonic()
        if not self._interval_ms or began_s < self._noted_until_s:
            return
        # Calls that come meanwhile need no note of their own.
        self._noted_until_s = began_s + ASK_WITHIN_S
        try:
            args = (self._interval_ms, MARGIN_MS, self._left_ms)
            self._noted_until_s = began_s + await self._runner.run(self._script, (self._key,), args) / 1000
        except (*AWAY, RedisError) as error:
            self._noted_until_s = 0.0
            log.warning("erasure_not_noted", error=type(error).__name__)

    async def overdue_s(self) -> float:
        """For how long a rewrite has been overdue (s); 0: none is. Raises one of AWAY, or a RedisError."""
        now_ms, first = await self._first()
        return max(0.0, now_ms - first) / 1000 if first else 0.0

    async def tick(self) -> None:
        """Rewrite the file, if a rewrite is due and it is this worker's turn."""
        try:
            now_ms, first = await self._first()
            if not first or first > now_ms:
                return
            if not await self._client.set(self._turn, b"1", nx=True, px=self._interval_ms):
                # If the server's clock went back, the turn would last longer by as much.
                await self._client.pexpire(self._turn, self._interval_ms, lt=True)
                return
            for url in await node_urls(self._url):
                if not await _rewrite(url):
                    return
            await self._client.zremrangebyscore(self._key, "-inf", now_ms)
        except NoPermissionError as error:
            log.warning("rewrite_refused", why=f"{reason(error)}; erased text stays on disk")
        except (TimeoutError, *AWAY, RedisError) as error:
            log.warning("rewrite_failed", error=type(error).__name__)

    async def _first(self) -> tuple[int, int]:
        """The server's clock, and the time at which the first rewrite is due (0: none is), in ms."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(self._key, 0, 0)
            (seconds, micros), members = await pipe.execute()
        return int(seconds) * 1000 + int(micros) // 1000, int(members[0]) if members else 0


async def _rewrite(url: str) -> bool:
    """Let the server of this URL rewrite its file. Out: whether that succeeded (or there is no file). Raises the
    server's refusal, or one of AWAY."""
    client = open_client(url, ASK_WITHIN_S)
    try:
        info: dict[str, Any] = await client.info("persistence")
        if not int(info.get("aof_enabled", 0)):
            return True
        await _last_rewrite(client)  # One that runs now may have begun before the text was deleted.
        await client.bgrewriteaof()  # type: ignore[no-untyped-call]
        began_s = time.monotonic()
        status = await _last_rewrite(client)
        log.info("file_rewritten", status=status, took_s=round(time.monotonic() - began_s, 1))
        return status == "ok"
    finally:
        await client.aclose()


async def _last_rewrite(client: Redis) -> str:
    """Wait until no rewrite runs. Out: the result of the last one (``ok``, ``err``)."""
    async with asyncio.timeout(REWRITE_WITHIN_S):
        while True:
            info: dict[str, Any] = await client.info("persistence")
            if not int(info["aof_rewrite_in_progress"]) and not int(info["aof_rewrite_scheduled"]):
                return str(info["aof_last_bgrewrite_status"])
            await asyncio.sleep(LOOK_S)
