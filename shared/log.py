"""The log: every XADD, XREAD and XRANGE of the project outside the scripts. Builds commands, reads replies.

Theory of operation. Entry ids are explicit: an attempt with epoch *e* writes ``e-0`` (its opening, by the
claim script), then ``e-1``, ``e-2``, … without holes. Redis refuses an id that is not larger than the last
one, and everything follows from that: a later epoch fences every older writer; a write that is sent again
is either refused as already there or fills the very place it was meant for; and a missing number is a lost
or trimmed entry, never a guess. Appends carry NOMKSTREAM (a deleted stream stays deleted) and MAXLEN ~ cap.
What one flush brings for one stream is one XADD or one MULTI/EXEC: in a bare pipeline one refused XADD
followed by an accepted one would make a hole for ever.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from shared.ids import Cursor, entry_cursor
from shared.resp import Command

RAW_REPLIES: Final = ("XRANGE", "XREVRANGE", "XREAD")
"""Commands whose replies are read here, as they come, and not by the client library."""


RawEntry = tuple[bytes, list[bytes]]
"""An entry as Redis tells it: its id, and its fields, whose order is their writers'."""
TYPE: Final = 1
DATA: Final = 3
AFTER: Final = 5
"""Where a raw entry's fields have their values."""


class Entry(NamedTuple):
    """One event as the log holds it."""

    cursor: Cursor
    type: str
    data: bytes
    after: Cursor | None = None
    """On an entry that opens an epoch: the id that was the log's last one before it."""


def _add(key: str, cap: int, entry: Entry) -> Command:
    return (
        "XADD", key, "NOMKSTREAM", "MAXLEN", "~", cap, entry.cursor.encode(), "e", entry.type, "d", entry.data,
    )  # fmt: skip


def append_commands(key: str, cap: int, entries: Sequence[Entry]) -> list[Command]:
    """What appends these entries: one XADD, or one MULTI/EXEC of several. Replies: one a command."""
    adds = [_add(key, cap, entry) for entry in entries]
    if len(adds) == 1:
        return adds
    return [("MULTI",), *adds, ("EXEC",)]


def append_outcome(replies: Sequence[Any]) -> ResponseError | bool | None:
    """What an append's replies mean: True (written), None (the stream is gone), or the refusal.

    A MULTI whose first write is refused with "equal or smaller" may have written its later ones: whoever
    appends must then look at the log itself.
    """
    for reply in replies:
        if isinstance(reply, ResponseError):
            return reply
    last = replies[-1]
    if isinstance(last, list):
        for reply in last:
            if isinstance(reply, ResponseError):
                return reply
        return True if all(last) else None
    return True if last else None


def last_command(key: str | bytes, upto: Cursor | None = None) -> Command:
    """What reads the log's last entry (up to this id)."""
    return ("XREVRANGE", key, "+" if upto is None else upto.encode(), "-", "COUNT", 1)


def page_command(key: str, first: bytes, count: int, *, after: bool = False) -> Command:
    """What reads up to ``count`` entries from ``first`` on (``after``: from behind it)."""
    return ("XRANGE", key, b"(" + first if after else first, "+", "COUNT", count)


def tail_commands(positions: Iterable[tuple[bytes, bytes]], count: int, *, one_each: bool) -> list[Command]:
    """One non-blocking XREAD of several logs, each from behind its entry id, ``count`` entries each at most;
    ``one_each``: an XREAD for each of them instead."""
    pairs = list(positions)
    return [_tails([pair], count) for pair in pairs] if one_each else [_tails(pairs, count)]


def _tails(pairs: Sequence[tuple[bytes, bytes]], count: int) -> Command:
    keys, positions = zip(*pairs, strict=True)
    return ("XREAD", "COUNT", count, "STREAMS", *keys, *positions)


def read_entries(raw: Iterable[Any] | None) -> list[Entry]:
    """The entries of an XRANGE or XREVRANGE reply."""
    return [read_entry(item) for item in raw or ()]


def read_entry(raw: RawEntry) -> Entry:
    """A raw entry's meaning."""
    raw_id, fields = raw
    after = entry_cursor(fields[AFTER]) if len(fields) > AFTER and fields[AFTER] else None
    return Entry(entry_cursor(raw_id), fields[TYPE].decode(), fields[DATA], after)


def read_tails(raw: Iterable[tuple[bytes, list[RawEntry]]] | None) -> dict[bytes, list[RawEntry]]:
    """The logs that brought something in an XREAD reply, by their keys."""
    return dict(raw or ())


def key_of(command: Command) -> bytes | None:
    """The first key of a command, which says where on a cluster it goes; None for one that goes everywhere."""
    name = command[0]
    if name in ("PING", "SCRIPT"):
        return None
    place = 1
    if name in ("EVALSHA", "EVAL"):
        place = 3
    elif name == "XREAD":
        place = command.index("STREAMS") + 1
    key = command[place]
    return key if isinstance(key, bytes) else str(key).encode()
