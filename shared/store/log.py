"""The log: every XADD, XREAD and XRANGE of the project outside the scripts. Builds commands, decodes replies.

Theory of operation. Entry ids are explicit: an attempt with epoch *e* writes ``e-0`` (its opening, by the claim
script), then ``e-1``, ``e-2``, … without holes. Redis refuses an id that is not larger than the last one. Three
rules follow from that. A later epoch fences every older writer. A write that is sent again is either refused as
already there, or fills exactly the place that it was meant for. A missing number is a lost or trimmed entry, never
a guess. Appends carry NOMKSTREAM (a deleted stream stays deleted) and MAXLEN ~ cap. All entries of one flush for
one stream are one XADD or one MULTI/EXEC: in a bare pipeline, a refused XADD before an accepted one would make a
hole forever.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from shared.protocol.cursor import Cursor, entry_cursor
from shared.redis import Command, command

RawEntry = tuple[bytes, list[bytes]]
"""An entry as Redis returns it: its id, and its fields, in the order in which they were written."""
TYPE: Final = 1
DATA: Final = 3
AFTER: Final = 5
CLAIM: Final = 7
"""The positions of the values among a raw entry's fields. Those from AFTER on exist only where an epoch opens."""


class Entry(NamedTuple):
    """One event as it stands in the log."""

    cursor: Cursor
    type: str
    data: bytes
    after: Cursor | None = None
    """On an entry that opens an epoch: the log's last id before it."""
    claim: bytes = b""
    """On an entry that opens an attempt: the nonce of its claim."""


_ENTRY: Final = b"$%d\r\n%b\r\n$1\r\ne\r\n$%d\r\n%b\r\n$1\r\nd\r\n$%d\r\n%b\r\n"
_MULTI: Final = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC: Final = b"*1\r\n$4\r\nEXEC\r\n"


def packed_entry(epoch: int, n: int, kind: str, data: bytes) -> bytes:
    """One event as it stands at the end of its XADD. The same event always becomes the same bytes."""
    cursor, name = b"%d-%d" % (epoch, n), kind.encode()
    return _ENTRY % (len(cursor), cursor, len(name), name, len(data), data)


def unpacked(entry: bytes) -> tuple[str, bytes]:
    """Type and data of an entry that :func:`packed_entry` made. (Neither holds a line break.)"""
    parts = entry.split(b"\r\n")
    return parts[5].decode(), parts[9]


class Log:
    """One log, for its writer. ``cap``: about this many entries stay in the log.

    The parts that are the same in each XADD of the log are packed once: an entry costs 0.8 µs, and 2.0 with a tuple
    and hiredis.
    """

    def __init__(self, key: str, cap: int) -> None:
        self.key = key
        self.cap = cap
        parts = [part.encode() for part in ("XADD", key, "NOMKSTREAM", "MAXLEN", "~", str(cap))]
        self._add = b"*11\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)

    def append(self, entries: Sequence[bytes]) -> Command:
        """The command that appends these packed entries: one XADD, or one MULTI/EXEC of several."""
        add = self._add
        if len(entries) == 1:
            return Command(self.key, add + entries[0])
        return Command(self.key, _MULTI + add + add.join(entries) + _EXEC, len(entries) + 2)


def append_outcome(reply: Any) -> ResponseError | bool | None:
    """The meaning of an append's reply: True (written), None (the stream is gone), or the refusal.

    A MULTI whose first XADD is refused with "equal or smaller" may have written its later ones: the writer must
    then read the log itself.
    """
    if isinstance(reply, bytes):
        return True
    if reply is None or isinstance(reply, ResponseError):
        return reply
    *queued, executed = reply
    written = executed if isinstance(executed, list) else [executed]
    refused = next((one for one in (*queued, *written) if isinstance(one, ResponseError)), None)
    return refused or all(written) or None


def last_command(key: str | bytes, upto: Cursor | None = None) -> Command:
    """The command that reads the log's last entry (up to this id)."""
    return command(key, "XREVRANGE", key, "+" if upto is None else upto.encode(), "-", "COUNT", 1)


def page_command(key: str, first: bytes, count: int, *, after: bool = False) -> tuple[str | bytes | int, ...]:
    """The command that reads ``count`` entries from ``first`` on (``after``: behind it), for the pooled client."""
    return ("XRANGE", key, b"(" + first if after else first, "+", "COUNT", count)


def tail_commands(positions: Mapping[bytes, bytes], count: int, *, one_each: bool) -> list[Command]:
    """One non-blocking XREAD of several logs. In: key → entry id, behind which to read; ``count``: the most entries
    of each log; ``one_each``: make an XREAD for each log instead."""
    reads = [{key: position} for key, position in positions.items()] if one_each else [positions]
    return [command(next(iter(one)), "XREAD", "COUNT", count, "STREAMS", *one, *one.values()) for one in reads]


def read_entries(raw: Iterable[Any] | None) -> list[Entry]:
    """The entries in the reply of an XRANGE or XREVRANGE."""
    return [read_entry(item) for item in raw or ()]


def read_entry(raw: RawEntry) -> Entry:
    """Decode a raw entry."""
    raw_id, fields = raw
    after = entry_cursor(fields[AFTER]) if len(fields) > AFTER and fields[AFTER] else None
    claim = fields[CLAIM] if len(fields) > CLAIM else b""
    return Entry(entry_cursor(raw_id), fields[TYPE].decode(), fields[DATA], after, claim)


def read_tails(raw: Iterable[tuple[bytes, list[RawEntry]]] | None) -> dict[bytes, list[RawEntry]]:
    """The logs with new entries in the reply of an XREAD, by their keys."""
    return dict(raw or ())
