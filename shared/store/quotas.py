"""Quotas per key, held on the queue's server for all API processes.

Theory of operation. Nothing here is a counter that somebody must count down, for whoever should may die:

- *Creations per minute* is one number, the moment at which all that was taken is given back (GCRA): a burst
  of a whole minute's worth is fine, then it flows at the rate. It expires by itself.
- *Streams at once* is a sorted set of ids. Ids are not taken out when streams end; once the set is full the
  caller looks which of them still live, drops the others and asks again. So the usual create pays nothing,
  and a stream whose worker, API or record vanished gives its place back.
- *Jobs that wait* is the length of arq's queue, as it is. Creates that run at the same moment on two servers may
  pass together, so the bound is exact up to as many. Where there is more than one key, a key may have one more job
  there as long as it has fewer than there is room for: one key alone fills a half, two a third each (the rule by
  which workers share their places, see :mod:`shared.store.queue`).
- *Bytes of a key* are those of its requests while their streams are unfinished, and then the bytes of the answers
  that are kept (:meth:`shared.store.streams.Streams.sizes`). The sweep, which takes ended streams out of
  the unfinished, counts them over. Bytes are given back hour by hour, as streams expire. Before a key is refused,
  its bytes are counted anew (once a second at most): requests of streams that are no longer unfinished, and hours
  that are over, go. So what was lost or erased heals.
- *Viewers of a stream* are counted by each API process itself, which takes seats in blocks (a fiftieth of the
  limit), so that a storm of a thousand viewers is not a thousand round trips. What a process holds runs out
  unless renewed. Seats that are in a block and not used are at most two in a hundred for each process.

Admission costs one round trip, in which the server's clock comes along (the queue needs it anyway).
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
"""As the bytes that a key may store: nobody may store anything now."""


class Ended(NamedTuple):
    """A stream that ended, or is gone: whose it was, and the bytes that are kept of it."""

    stream_id: str
    owner: str
    kept: int = 0


class Quotas:
    """The limits of one deployment; a limit of 0 is none."""

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
        """``shared``: there is more than one key, and each has its share of the queue."""
        self._client = client
        self._keys = keys
        self._limits = (per_minute, at_once, waiting)
        self._shared = int(shared)
        self.most_bytes = 0
        """What a key may store, as it is now; 0: any number; :data:`NOTHING`."""
        self._runner = ScriptRunner(client)
        self._admit = load_script("admit")
        self._seat = load_script("seat")
        self._settle = load_script("settle")

    async def admit(self, owner: str, stream_id: str, size: int = 0) -> tuple[bytes, int]:
        """Ask for one creation, whose request has so many bytes; what is refused takes nothing. Out: the script's
        answer (see ``admit.lua``)."""
        word, number = await self._runner.run(self._admit, self.keys(owner), self.args(owner, stream_id, size))
        return word, int(number)

    def keys(self, owner: str) -> tuple[str, ...]:
        """What ``admit.lua`` takes."""
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
        """What ``admit.lua`` takes."""
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
        """These streams ended, or are gone: they leave the unfinished, and what is kept of them counts."""
        found = list(ended)
        for start in range(0, len(found), PIPELINE):
            part = found[start : start + PIPELINE]
            keys = [
                key for one in part for key in (self._keys.requests_of(one.owner), self._keys.kept_of(one.owner))
            ]
            args = [text for one in part for text in (one.stream_id, one.kept)]
            await self._runner.run(self._settle, (self._keys.unfinished, *keys), (retention_ms, *args))

    async def streams_of(self, owner: str) -> dict[str, int]:
        """The ids that count for this owner, each with the ms at which it was admitted."""
        raw = await self._client.zrange(self._keys.streams_of(owner), 0, -1, withscores=True)
        return {stream_id.decode(): int(score) for stream_id, score in raw}

    async def drop(self, owner: str, stream_ids: Sequence[str]) -> None:
        """These count no longer."""
        if stream_ids:
            await self._client.zrem(self._keys.streams_of(owner), *stream_ids)

    async def take_seats(self, stream_id: str, process: str, wanted: int, needed: int, most: int) -> int:
        """Seats for viewers of a stream. Out: how many this process has now; 0: it may have no more."""
        args = (process, wanted, needed, most, SEATS_LIFE_MS)
        return int(await self._runner.run(self._seat, (self._keys.seats(stream_id),), args))

    async def keep_seats(self, process: str, seats: Mapping[str, int], now_ms: int) -> None:
        """Note what this process holds (0: nothing any more), for another :data:`SEATS_LIFE_MS`."""
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
