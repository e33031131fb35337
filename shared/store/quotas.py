"""The quotas of API keys, kept on the queue's server for all API processes.

Theory of operation. No quota is a counter that must be decreased, because the process that should do it may die:

- *Creations per minute* is one number: the time at which the whole quota is free again (GCRA). A burst of a whole
  minute's creations is allowed, then they pass at the rate. The number expires by itself.
- *Streams at once* is a sorted set of ids. Ids stay in it when their streams end. Once the set is full, the caller
  checks which streams still live, drops the others and asks again. So the usual create costs nothing extra, and a
  stream whose worker, API or record vanished gives its place back.
- *Waiting jobs* is the length of arq's queue without place 0. Creates that run at once on two servers may all pass,
  so the bound can be exceeded by as many. Where there are several keys, a key may add a job as long as it has fewer
  jobs than there is room left: one key alone fills a half, two fill a third each (the rule by which workers share
  their places, see :mod:`shared.store.queue`).
- *Bytes of a key* are the bytes of its requests while their streams are unfinished, and then the bytes of the
  stored answers (:meth:`shared.store.streams.Streams.sizes`). The sweep changes the one into the other when it
  removes an ended stream from the unfinished set. Bytes are given back hour by hour, as streams expire. Before a
  key is refused, its bytes are counted again (at most once a second): requests of streams that are no longer
  unfinished, and hours that are over, are dropped. So a lost or erased stream does not count forever.
- *Viewers of a stream* are counted by each API process itself. It takes seats in blocks (a fiftieth of the limit),
  so that a thousand new viewers are not a thousand round trips. A process's seats expire unless they are renewed.
  The unused seats of a block are at most two in a hundred for each process.

Admission costs one round trip.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from redis.asyncio import Redis

from shared.redis import ScriptRunner, load_script
from shared.store.keys import Keys

STREAMS_LIFE_MS: Final = 48 * 3600 * 1000
"""Longer than a job may wait and its stream run; each creation renews it."""
SEATS_LIFE_MS: Final = 15_000
"""A dead API process holds its viewers' seats for this long at the most."""
PIPELINE: Final = 500
NOTHING: Final = -1
"""A value of ``most_bytes``: no key may store anything now."""


class Ended(NamedTuple):
    """A stream that ended, or is gone: its owner, and the bytes that are kept of it."""

    stream_id: str
    owner: str
    kept: int = 0


class Quotas:
    """The quotas of one deployment; 0 means no limit."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        per_minute: int = 0,
        at_once: int = 0,
        waiting: int = 0,
        shared: bool = False,
    ) -> None:
        """``shared``: there are several keys, and each has its share of the queue."""
        self._client = client
        self._keys = keys
        self._limits = (per_minute, at_once, waiting)
        self._shared = int(shared)
        self.most_bytes = 0
        """The bytes that a key may store now; 0: no limit; or :data:`NOTHING`."""
        self._runner = ScriptRunner(client)
        self._admit = load_script("admit")
        self._seat = load_script("seat")
        self._settle = load_script("settle")

    async def admit(self, owner: str, stream_id: str, size: int = 0) -> tuple[bytes, int]:
        """Ask for one creation with a request of ``size`` bytes; a refusal takes nothing. Out: as ``admit.lua``."""
        word, number = await self._runner.run(self._admit, self.keys(owner), self.args(owner, stream_id, size))
        return word, int(number)

    def keys(self, owner: str) -> tuple[str, ...]:
        """The keys of ``admit.lua``."""
        keys = self._keys
        own = keys.requests_of(owner), keys.kept_of(owner)
        return (
            keys.creations(owner),
            keys.streams_of(owner),
            keys.queue,
            keys.unfinished,
            keys.lanes,
            keys.books,
            *own,
        )

    def args(self, owner: str, stream_id: str, size: int) -> tuple[str | int, ...]:
        """The arguments of ``admit.lua``."""
        return (
            stream_id,
            *self._limits,
            self.most_bytes,
            STREAMS_LIFE_MS,
            owner,
            self._shared,
            size,
            self._keys.lane(""),
        )

    async def settle(self, ended: Iterable[Ended], retention_ms: int) -> None:
        """Remove these streams from the unfinished set, and count their kept bytes. They ended, or are gone."""
        found = list(ended)
        for start in range(0, len(found), PIPELINE):
            part = found[start : start + PIPELINE]
            keys = [
                key for one in part for key in (self._keys.requests_of(one.owner), self._keys.kept_of(one.owner))
            ]
            args = [text for one in part for text in (one.stream_id, one.kept)]
            await self._runner.run(self._settle, (self._keys.unfinished, *keys), (retention_ms, *args))

    async def streams_of(self, owner: str) -> dict[str, int]:
        """The stream ids that count for this owner: id → time of admission (ms)."""
        raw = await self._client.zrange(self._keys.streams_of(owner), 0, -1, withscores=True)
        return {stream_id.decode(): int(score) for stream_id, score in raw}

    async def drop(self, owner: str, stream_ids: Sequence[str]) -> None:
        """Let these streams no longer count for the owner."""
        if stream_ids:
            await self._client.zrem(self._keys.streams_of(owner), *stream_ids)

    async def take_seats(self, stream_id: str, process: str, wanted: int, needed: int, most: int) -> int:
        """Take seats for viewers of a stream. Out: the seats that this process has now; 0: it may have no more."""
        args = (process, wanted, needed, most, SEATS_LIFE_MS)
        return int(await self._runner.run(self._seat, (self._keys.seats(stream_id),), args))

    async def keep_seats(self, process: str, seats: Mapping[str, int], now_ms: int) -> None:
        """Renew the seats of this process for another :data:`SEATS_LIFE_MS`. In: stream id → seats (0: no more)."""
        items = list(seats.items())
        for start in range(0, len(items), PIPELINE):
            async with self._client.pipeline(transaction=False) as pipe:
                for stream_id, count in items[start : start + PIPELINE]:
                    key = self._keys.seats(stream_id)
                    if count:
                        pipe.hset(key, process, f"{count} {now_ms + SEATS_LIFE_MS}")
                        pipe.pexpire(key, SEATS_LIFE_MS)
                    else:
                        pipe.hdel(key, process)
                await pipe.execute()
