"""Streams in Redis: each step of a stream's life as one call, and its record.

Every method is one script (see :mod:`shared.redis.scripts`) or one plain command. A call whose reply was lost is
sent again with the same nonce, a bounded number of times. After the last try it raises one of
:data:`shared.redis.AWAY`; then the step may or may not have happened.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import stamina
from redis.asyncio import Redis

from shared.protocol.cursor import Cursor, entry_cursor
from shared.protocol.events import MESSAGE, OPENINGS, Delta, decode_data
from shared.protocol.transcript import Transcript
from shared.redis import AWAY, Script, ScriptRunner
from shared.store.claims import Claim, read_claim
from shared.store.keys import Keys
from shared.store.log import Entry, page_command, read_entries
from shared.store.new_stream import NewStream, new_nonce
from shared.store.queue import Lane

FIRST_WAIT_S = 0.05
NO_KEY = -2
"""The reply of PTTL for a key that does not exist."""
LARGE_SNAPSHOT = 256 * 1024
"""A snapshot of more bytes is decoded in a thread: 4 MiB would block everything else for 50 ms."""
RECORD_BYTES = 3000
"""The most bytes that a finished stream takes in Redis besides its text (a test measures it)."""
ENTRY_BYTES = 60
"""The bytes that an entry of a log takes besides its text."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The record, the snapshot and the tail behind it, read in one step."""

    record: dict[str, str]
    """Its fields, without the request and the input."""
    snapshot: bytes
    tail: list[Entry]

    @property
    def as_of(self) -> str:
        """The id of the last event that ``snapshot`` contains; '' where there is no snapshot, only the tail."""
        return self.record.get("snapshot_id", "")

    @property
    def index(self) -> int:
        """The index of the entry ``as_of`` in the log. Indexes begin at 0, and trimmed entries count too. Without a
        snapshot: the index of the entry before the tail."""
        if not self.as_of:
            return int(self.record.get("text_index", 0)) - 1
        opening = int(self.record.get("index", 0))
        behind = [place for place, entry in enumerate(self.tail) if entry.type in OPENINGS]
        return opening - behind[-1] - 1 if behind else opening + entry_cursor(self.as_of.encode()).n

    @property
    def attempt(self) -> int:
        return int(self.record["attempt"])

    def deltas(self) -> list[Delta]:
        """The deltas behind the snapshot."""
        return [decode_data(entry.data) for entry in self.tail if entry.type == MESSAGE]

    def transcript(self) -> Transcript:
        """Everything said so far: snapshot and tail together."""
        transcript = Transcript()
        transcript.add_lines(self.snapshot)
        for entry in self.tail:
            transcript.apply(entry.type, entry.data)
        return transcript


class Liveness(NamedTuple):
    """A stream's state, for the sweep. ``status``: None where there is no record."""

    status: str | None
    attempt: int = 0
    lane: Lane = Lane()
    lease: bool = False


class Streams:
    """The streams of one log server (or cluster)."""

    def __init__(self, client: Redis, keys: Keys, scripts: Mapping[str, Script], tries: int = 3) -> None:
        self._client = client
        self._keys = keys
        self._scripts = scripts
        self._runner = ScriptRunner(client)
        self._tries = tries

    async def record(self, new: NewStream, nonce: str, until_ms: int) -> tuple[str, ...]:
        """Make the record of a new stream. Out: the script's reply, split (see ``record.lua``)."""
        return await self._reply("record", new.stream_id, *new.args(nonce, until_ms))

    async def claim(
        self, stream_id: str, worker: str, lease_ms: int, max_tries: int, how: str = "", seen: str = ""
    ) -> Claim:
        """Take a stream for one attempt (see ``claim.lua``, also for ``how`` and ``seen``)."""
        nonce = new_nonce()
        raw, extra = await self.call("claim", stream_id, nonce, worker, lease_ms, max_tries, how, seen)
        return read_claim(raw, extra, nonce)

    async def release(
        self, stream_id: str, epoch: int, how: str, fields: Mapping[str, str | bytes] | None = None
    ) -> tuple[str, ...]:
        """Release a stream before its end. ``how``: ``handover``, ``retry`` or ``fallback`` (with the record's
        fields that change)."""
        pairs = [part for pair in (fields or {}).items() for part in pair]
        return await self._reply("release", stream_id, new_nonce(), epoch, how, *pairs)

    async def cancel(self, stream_id: str, data: bytes, retention_ms: int, keep_prompt: bool) -> tuple[str, ...]:
        """End a stream from outside. Out: the script's reply, split (see ``cancel.lua``)."""
        return await self._reply("cancel", stream_id, new_nonce(), data, retention_ms, int(keep_prompt))

    async def charge(self, stream_id: str, attempt: int, usage: bytes, cost: bytes = b"null") -> None:
        """Note the usage and cost of one attempt (both as JSON)."""
        await self.call("charge", stream_id, attempt, usage, cost)

    async def renew(self, worker: str, held: Sequence[tuple[str, int]], lease_ms: int) -> list[str]:
        """Renew the leases of all (stream, epoch) pairs in one round trip. Out: ``held`` or ``lost`` for each.

        Without pairs the server gets a PING: the caller wants to know whether it replies.
        """
        if not held:
            await self._client.ping()
            return []
        calls = [(self._keys.stream(stream_id), (worker, epoch, lease_ms)) for stream_id, epoch in held]
        replies = await self._runner.run_all(self._scripts["renew"], calls)
        return [reply.decode() for reply in replies]

    async def read(self, stream_id: str) -> Reading | None:
        """Everything said so far; None where the stream does not exist."""
        record, snapshot, raw = await self.call("read", stream_id)
        if not record:
            return None
        return Reading(_texts(record), snapshot, read_entries(raw))

    async def fields(self, stream_id: str, *names: str) -> list[str | None]:
        """Some fields of the record; None for each that does not exist."""
        meta = self._keys.stream(stream_id).meta
        raw: list[bytes | None] = await self._repeat(lambda: self._client.hmget(meta, list(names)))
        return [None if value is None else value.decode() for value in raw]

    async def fields_from(
        self, stream_id: str, cursor: Cursor | None, *names: str
    ) -> tuple[list[str | None], Cursor | None]:
        """As :meth:`fields`, and the id of the log's first entry from this cursor on (None: no such entry, or no
        cursor), in one round trip."""
        if cursor is None:
            return await self.fields(stream_id, *names), None
        keys = self._keys.stream(stream_id)

        async def ask() -> list[Any]:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.hmget(keys.meta, list(names))
                pipe.execute_command(*page_command(keys.log, cursor.encode(), 1))
                return await pipe.execute()

        raw, entries = await self._repeat(ask)
        found = next(iter(read_entries(entries)), None)
        return [None if value is None else value.decode() for value in raw], found and found.cursor

    async def liveness(self, stream_ids: Sequence[str], lease_ms: int = 0) -> list[Liveness]:
        """For the sweep: the state of each of these streams, in one round trip.

        ``lease_ms``: a lease with a longer life is cut to this; its worker, if it lives, renews it. (Such leases
        exist after the server's clock went back, because the server stores the time at which a key expires.) 0: cut
        none.
        """
        async with self._client.pipeline(transaction=False) as pipe:
            for stream_id in stream_ids:
                keys = self._keys.stream(stream_id)
                pipe.hmget(keys.meta, ["status", "attempt", "provider", "owner"])
                pipe.pttl(keys.lease)
            raw = await pipe.execute()
        if lease_ms and any(left_ms > lease_ms for left_ms in raw[1::2]):
            async with self._client.pipeline(transaction=False) as pipe:
                for stream_id in stream_ids:
                    pipe.pexpire(self._keys.stream(stream_id).lease, lease_ms, lt=True)
                await pipe.execute()
        return [
            Liveness(
                status and status.decode(),
                int(attempt or 0),
                Lane((provider or b"").decode(), (owner or b"").decode()),
                left_ms != NO_KEY,
            )
            for (status, attempt, provider, owner), left_ms in zip(raw[::2], raw[1::2], strict=True)
        ]

    async def sizes(self, stream_ids: Sequence[str]) -> list[int]:
        """The bytes that each of these streams takes now, rounded up a little, in one round trip."""
        async with self._client.pipeline(transaction=False) as pipe:
            for stream_id in stream_ids:
                keys = self._keys.stream(stream_id)
                pipe.strlen(keys.snapshot)
                pipe.xlen(keys.log)
                pipe.hget(keys.meta, "kept_bytes")
            raw = await pipe.execute()
        # The text counts twice: the log repeats the snapshot's text, or the end of it.
        return [
            RECORD_BYTES + 2 * int(text) + ENTRY_BYTES * int(entries) + int(kept or 0)
            for text, entries, kept in zip(raw[::3], raw[1::3], raw[2::3], strict=True)
        ]

    async def erase(self, stream_id: str) -> bool:
        """Delete all keys of a stream at once. Out: whether any existed."""
        keys = self._keys.stream(stream_id)
        return bool(await self._repeat(lambda: self._client.delete(*keys)))

    async def call(self, name: str, stream_id: str, *args: str | bytes | int, more: Sequence[str] = ()) -> Any:
        """Run one script by its name; while the server is away, repeat it with the same arguments. ``more``: keys
        after the stream's five."""
        script = self._scripts[name]
        keys = (*self._keys.stream(stream_id), *more)
        return await self._repeat(lambda: self._runner.run(script, keys, args))

    async def _reply(self, name: str, stream_id: str, *args: str | bytes | int) -> tuple[str, ...]:
        raw: bytes = await self.call(name, stream_id, *args)
        return tuple(raw.decode().split())

    async def _repeat(self, call: Any) -> Any:
        try:
            return await call()
        except AWAY:
            if self._tries == 1:
                raise
        # stamina comes in only for a repetition: setting it up costs as much as the call.
        await asyncio.sleep(FIRST_WAIT_S)
        async for attempt in stamina.retry_context(
            on=AWAY, attempts=self._tries - 1, timeout=None, wait_initial=2 * FIRST_WAIT_S, wait_max=1.0
        ):
            with attempt:
                return await call()
        raise AssertionError("stamina ends with a result or an error")


def _texts(flat: Sequence[bytes]) -> dict[str, str]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): value.decode("utf-8", "replace") for name, value in pairs}


def json_field(record: Mapping[str, str], name: str) -> Any:
    """A field of the record that holds JSON; None where it is missing."""
    value = record.get(name)
    return json.loads(value) if value else None
