"""The record of a stream in the form that callers see."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from pydantic import BaseModel, Field

from api.http.problems import Problem
from api.http.unsent import Unsent
from api.viewing.snapshots import SingleFlight
from shared.protocol.events import PAUSED, WAITING
from shared.store.streams import LARGE_SNAPSHOT, Reading, Streams, json_field

UNSENT_WAIT_S: Final = 1


class Created(BaseModel):
    """The response to a create (202) and to a cancel. Every record has these fields, too."""

    id: str
    status: str
    model: str
    events_url: str = Field(description="read the answer here, as SSE; with keys it carries a read token")
    url: str = Field(description="the record")


class Links(BaseModel):
    """The links to a stream, with a new read token where keys are set."""

    id: str
    events_url: str = Field(description="read the answer here, as SSE")
    url: str = Field(description="the record")
    expires_in_s: float | None = Field(description="life of the read token in events_url; null: it needs none")


def record_of(stream_id: str, reading: Reading) -> bytes:
    """The whole record without its links, as a JSON object."""
    return msgspec.json.encode(describe(stream_id, reading))


Tell = Callable[[str, Reading], bytes]
"""What callers are told of a stream, by its id and what was read of it."""


class Records:
    """The records of streams, in the form that callers see, for callers who take them at their own pace."""

    def __init__(self, streams: Streams, unsent: Unsent) -> None:
        self._streams = streams
        self._unsent = unsent
        self._flights = SingleFlight(self._read)

    async def get(self, owner: str, stream_id: str, tell: Tell = record_of) -> bytes | None:
        """The record as it is now or later; None where the stream is gone. Raises :class:`Problem` (429) where too
        much of this key waits to be sent. ``tell``: a fixed function for each form; calls with
        the same one share a read."""
        self.admit(owner, b"")
        record = await self._flights.get((owner, stream_id, tell))
        return None if record is None else self.admit(owner, record)

    def sent(self, owner: str, record: bytes) -> AbstractContextManager[None]:
        """The record is held for one caller as long as the block lasts."""
        return self._unsent.held(owner, record)

    def admit(self, owner: str, record: bytes) -> bytes:
        """These bytes, or equal ones that are held already. Raises :class:`Problem` (429), as :meth:`get`."""
        admitted = self._unsent.admit(owner, record)
        if admitted is None:
            raise Problem(
                429,
                "rate_limited",
                f"Answers of {self._unsent.waiting(owner) // 2**20} MiB wait for callers with this key to take "
                f"them. Read those, and try again in {UNSENT_WAIT_S} s.",
                headers={"Retry-After": str(UNSENT_WAIT_S)},
            )
        return admitted

    async def _read(self, key: tuple[str, str, Tell]) -> bytes | None:
        owner, stream_id, tell = key
        async with self._unsent.reading(owner):
            return await read_record(self._streams, stream_id, tell)


async def read_record(streams: Streams, stream_id: str, tell: Tell) -> bytes | None:
    """What is told of a stream; None where it does not exist."""
    reading = await streams.read(stream_id)
    if reading is None:
        return None
    in_thread = len(reading.snapshot) > LARGE_SNAPSHOT
    return await asyncio.to_thread(tell, stream_id, reading) if in_thread else tell(stream_id, reading)


def describe(stream_id: str, reading: Reading) -> dict[str, Any]:
    """The whole record without its links, with everything said so far."""
    record = reading.record
    result = json_field(record, "result") or {}
    transcript = reading.transcript()
    usage, costs = (
        {name.partition(":")[2]: json_field(record, name) for name in record if name.startswith(kind)}
        for kind in ("usage:", "cost:")
    )
    # Only a ``done`` event carries usage and cost. For a failed or stopped stream, those of its last attempt are
    # shown.
    attempt = str(reading.attempt)
    last = reading.tail[-1].cursor if reading.tail else reading.as_of
    error = None
    if record["status"] == "failed":
        error = {key: result.get(key) for key in ("code", "message", "retryable")}
    return {
        "id": stream_id,
        "status": _status(reading),
        "model": record.get("model"),
        "provider": record.get("provider"),
        "attempt": reading.attempt,
        "on_failure": record.get("on_failure"),
        **transcript.as_data(),
        "finish_reason": result.get("finish_reason"),
        "limit": result.get("limit"),
        "usage": result.get("usage", usage.get(attempt)),
        "attempts": _attempts(record, usage, costs),
        "usage_by_attempt": usage,
        "cost": result.get("cost", costs.get(attempt)),
        "cost_by_attempt": costs,
        "timings": result.get("timings"),
        "error": error,
        "last_event_id": str(last),
        "created_at": _moment(record.get("created_ms")),
        "started_at": _moment(record.get("started_ms")),
        "finished_at": _moment(record.get("finished_ms")),
    }


def _attempts(
    record: Mapping[str, str], usage: Mapping[str, Any], costs: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """For each attempt: why it ended (None: it runs), its usage and its cost, as far as they are known."""
    numbers = map(str, range(1, int(record["attempt"]) + 1))
    return [
        {"attempt": int(n), "ended": record.get(f"end:{n}"), "usage": usage.get(n), "cost": costs.get(n)}
        for n in numbers
    ]


def _status(reading: Reading) -> str:
    """The record's status; for a running stream that is held back, ``waiting`` or ``paused``."""
    status = reading.record["status"]
    last = reading.tail[-1].type if reading.tail else ""
    return last if status == "running" and last in (WAITING, PAUSED) else status


def _moment(ms: str | None) -> str | None:
    if not ms:
        return None
    return datetime.fromtimestamp(int(ms) / 1000, UTC).isoformat(timespec="milliseconds")
