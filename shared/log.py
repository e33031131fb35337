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


def last_command(key: str, upto: Cursor | None = None) -> Command:
    """What reads the log's last entry (up to this id)."""
    return ("XREVRANGE", key, "+" if upto is None else upto.encode(), "-", "COUNT", 1)


def page_command(key: str, first: Cursor, count: int, *, after: bool = False) -> Command:
    """What reads up to ``count`` entries from ``first`` on (``after``: from behind it)."""
    start = first.encode()
    return ("XRANGE", key, b"(" + start if after else start, "+", "COUNT", count)


def tail_commands(positions: Iterable[tuple[str, Cursor]], count: int, *, one_each: bool) -> list[Command]:
    """One non-blocking XREAD of several logs, each from behind its cursor, ``count`` entries each at most;
    ``one_each``: an XREAD for each of them instead."""
    pairs = list(positions)
    return [_tails([pair], count) for pair in pairs] if one_each else [_tails(pairs, count)]


def _tails(pairs: Sequence[tuple[str, Cursor]], count: int) -> Command:
    return (
        "XREAD", "COUNT", count, "STREAMS", *(key for key, _ in pairs), *(cursor.encode() for _, cursor in pairs),
    )  # fmt: skip


def read_entries(raw: Iterable[Any] | None) -> list[Entry]:
    """The entries of an XRANGE or XREVRANGE reply."""
    return [_entry(item) for item in raw or ()]


def read_tails(raw: Iterable[Any] | None) -> list[tuple[str, list[Entry]]]:
    """The logs that brought something in an XREAD reply: (key, entries)."""
    return [(key.decode(), read_entries(items)) for key, items in raw or ()]


def _entry(item: Any) -> Entry:
    raw_id, fields = item
    after = entry_cursor(fields[5]) if len(fields) > 5 and fields[5] else None
    return Entry(entry_cursor(raw_id), fields[1].decode(), fields[3], after)


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
