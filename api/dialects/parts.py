"""What the stateful dialects have in common: an answer as a row of parts. Pure, no I/O.

Theory of operation. An answer is a row of *parts*: text, reasoning, and tool calls, in the order in which they
began. A part of text or reasoning ends where the next part begins. A tool call ends with the answer, because
providers may send pieces of several calls in turns. Each part keeps its pieces, and with each piece the *index* of
the entry that brought it: how many entries stood in front of it in the log. From the two everything follows:

- ids: a part is named by its number, ``<stream>-<number>``;
- numbers: each entry is at least one event of a dialect that numbers its events (:meth:`PartsDialect.nothing` where
  it says nothing), and the events that open and close parts come on top, so an event's number is its entry's index
  and the count of those (``extras``);
- the state at an earlier place: the parts that had begun, with the pieces that had come (:meth:`PartsDialect.at`).

Where the answer starts over (``restart``) a dialect ends with its error event. A dialect with an event that takes
back the text since the last beginning (``resets``) goes on instead, with an empty row. It has no twin at a place
before that beginning. A viewer that has seen text and then needs a snapshot gets an error event.

A snapshot tells the same deltas with neighbours merged. So parts, ids and all numbers behind it are as they were;
the merged pieces stand at the first indexes of their range, and ``nothing`` fills the rest.

Text is kept as it stands in the log, JSON escapes and all: it is sent and joined without being decoded (a piece of
text costs 1 µs, not 3). A part's memory is that of its text, and about 60 bytes a piece; an answer is bounded by
``HEADRACE_MAX_ANSWER_BYTES``. A dialect and its twins at other places share all of that.
"""

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from operator import attrgetter, itemgetter
from typing import Any, ClassVar, Final, Literal, Self

import msgspec

from api.dialects.base import About, StartingPoint, Told
from api.dialects.endings import RESTARTED, OneWayDialect
from api.schemas.messages import check_json
from shared.protocol.cursor import Cursor, entry_cursor
from shared.protocol.events import (
    MESSAGE,
    OPENINGS,
    QUEUED,
    RESTART,
    STARTED,
    TERMINAL,
    Delta,
    decode_data,
    encode_data,
)

Kind = Literal["text", "reasoning", "tool"]

WANTED_BACK: Final = frozenset(
    {"thinking", "redacted_thinking", "thoughtSignature", "extra_content", "reasoning_details"}
)
"""Types of what a provider wants back with the next turn (:mod:`shared.protocol.events`)."""

_TEXT: Final = b'{"text":"'
_REASONING: Final = b'{"reasoning":"'
_PROVIDER: Final = b'{"provider":'


class Part:
    """One part of an answer. Twins of a dialect share its pieces: all of them are given the same, and each counts
    how far it has come (:meth:`upto`)."""

    __slots__ = (
        "_count", "_indexes", "_pieces", "call_id", "call_index", "extras", "first", "front", "kind", "name",
        "number",
    )  # fmt: skip

    def __init__(
        self,
        kind: Kind,
        number: int,
        extras: int,
        first: int,
        *,
        call_index: int = 0,
        call_id: str = "",
        name: str = "",
    ) -> None:
        self.kind = kind
        self.number = number
        """How many parts stand in front of it."""
        self.extras = extras
        """How many events there were beside one for each entry, its opening ones too."""
        self.first = first
        """The index of the entry that began it."""
        self.call_index = call_index
        self.call_id = call_id
        self.name = name
        self.front = b""
        """What stands in front of the piece in each of its deltas: the dialect's, made once."""
        self._pieces: list[bytes] = []
        """As JSON strings without their quotes."""
        self._indexes = array("Q")
        self._count = 0
        """How many of the pieces are this one's."""

    @property
    def has_made_id(self) -> bool:
        """Whether the provider gave this tool call no id."""
        return self.call_id == _made_id(self.call_index)

    def add(self, index: int, raw: bytes) -> None:
        """One more piece, of the entry of this index."""
        count = self._count
        if count < len(self._pieces):  # a twin was here before
            if self._indexes[count] == index and self._pieces[count] == raw:
                self._count = count + 1
                return
            self._pieces, self._indexes = self._pieces[:count], self._indexes[:count]
        self._pieces.append(raw)
        self._indexes.append(index)
        self._count = count + 1

    def raw(self) -> bytes:
        """All of it as a JSON string, with its quotes."""
        own = self._pieces if self._count == len(self._pieces) else self._pieces[: self._count]
        return b'"%b"' % b"".join(own)

    def text(self) -> str:
        """All of it."""
        return msgspec.json.decode(self.raw(), type=str)

    def arguments(self) -> bytes | None:
        """The arguments of a tool call, as JSON; None where the model wrote no JSON, or JSON that no client could
        read."""
        try:
            return msgspec.json.encode(check_json(msgspec.json.decode(self.text().strip() or "{}")))
        except (ValueError, msgspec.EncodeError, RecursionError):
            return None

    def upto(self, index: int) -> "Part":
        """As it was behind the entry of this index."""
        about = {"call_index": self.call_index, "call_id": self.call_id, "name": self.name}
        twin = Part(self.kind, self.number, self.extras, self.first, **about)  # type: ignore[arg-type]
        twin.front = self.front
        twin._pieces, twin._indexes = self._pieces, self._indexes
        twin._count = bisect_right(self._indexes, index, 0, self._count)
        return twin


def _made_id(call_index: int) -> str:
    return f"call_{call_index}"


class PartsDialect(OneWayDialect):
    """See :class:`api.dialects.base.Dialect`. A dialect gives its own events by the methods from :meth:`fresh` on,
    and by those of :class:`OneWayDialect`. Each returns whole SSE events, of which the last has the id ``cursor``
    (b'': none has). :meth:`done` closes what is open.
    """

    name: str
    stateful = True
    resets = False
    """Whether it goes on behind a ``restart``, by :meth:`reset`; its ``last_words`` are then without that."""
    OPENS: ClassVar[Mapping[Kind, int]] = {"text": 0, "reasoning": 0, "tool": 0}
    """How many events open a part of this kind, beside its first delta."""
    CLOSES: ClassVar[Mapping[Kind, int]] = {"text": 0, "reasoning": 0, "tool": 0}
    """How many events close one, where the next part begins."""

    def __init__(self, about: About) -> None:
        self.about = about
        self._index = about.text_index - 1
        """Of the last entry that was said."""
        self._runs: list[tuple[Cursor, int]] = []
        """The first entry of each epoch, and its index."""
        self.parts: list[Part] = []
        self._open: Part | None = None
        """The part of text or reasoning that goes on."""
        self.calls: list[Part] = []
        """The tool calls among the parts."""
        self._last_calls: dict[int, Part] = {}
        """The last call of each index."""
        self.extras = 0
        self.provided: list[tuple[int, bytes]] = []
        """What only the provider understands, each with the index of its entry."""
        self._ended_at: int | None = None
        """The index at which it ended with an error of its own, where the log goes on."""
        self._reset_at = -1
        """The index at which it started over last."""

    # -- what a followed log and a viewer ask ---------------------------------------------------------

    def entry(self, cursor: bytes, kind: str, data: bytes) -> bytes:
        """One event of the log, ready to be sent."""
        self._index += 1
        if self._ended_at is not None:
            return b""
        if kind == MESSAGE:
            if not self._runs:
                self._enter(cursor)
            return self._message(cursor, data)
        self._enter(cursor)
        if kind == QUEUED:
            return self.begin(cursor)
        if kind in TERMINAL:
            return self.ending(cursor, kind, data)
        if kind == RESTART or (kind == STARTED and self.parts):
            return self._start_over(cursor, data)
        return self._attempt(cursor, data) if kind in OPENINGS else self.nothing(cursor)

    def snapshot(self, told: Told) -> bytes:
        """Everything said so far, as the events that said it. Merged pieces are one event. Empty events before the
        last one take their other numbers (up to 100,000): they are shortest there."""
        said = [self.greeting()]
        deltas = list(told.deltas)
        if self._index < told.index - len(deltas):  # the opening
            said.append(self._fill(self._index + 1))
        for delta in deltas[:-1]:
            self._index += 1
            said.append(self._message(b"", encode_data(delta)))
        said.append(self._fill(told.index - len(deltas[-1:])))
        self._index = told.index
        if deltas:
            as_of = b"" if told.as_of is None else told.as_of.encode()
            said.append(self._message(as_of, encode_data(deltas[-1])))
        if told.as_of is not None:
            self._runs = [(told.as_of, told.index)]
        return b"".join(said)

    def _fill(self, index: int) -> bytes:
        """Nothing, for all entries up to this index."""
        said = []
        while self._index < index:
            self._index += 1
            said.append(self.nothing(b""))
        return b"".join(said)

    def at(self, cursor: Cursor | None) -> Self | None:
        """As it stood behind that event."""
        twin = self.fresh()
        if cursor is None:
            return twin
        run = bisect_right(self._runs, cursor, key=itemgetter(0)) - 1
        if run < 0:
            if cursor != Cursor(self.about.created_ms, 0):
                return None
            twin._runs, twin._index = [(cursor, 0)], 0  # behind `queued`, with which every log begins
            return twin
        first, index = self._runs[run]
        index += cursor.n - first.n
        if first.epoch != cursor.epoch or not self._reset_at <= index <= self._index:
            return None
        twin._runs = self._runs[: run + 1]
        twin._index = index
        twin._reset_at = self._reset_at
        if self._ended_at is not None and self._ended_at <= index:
            twin._ended_at = self._ended_at
        twin._begin_as(self, index)
        twin.provided = self.provided[: bisect_right(self.provided, index, key=itemgetter(0))]
        return twin

    def behind(self, number: int) -> StartingPoint | None:
        """The place behind the event with this number, for dialects that number their events; None if there is no
        such event yet. Raises ``LookupError`` if it was trimmed away."""
        if number > self._index + self.extras:
            return None
        begun = bisect_right(self.parts, number, key=lambda part: part.first + part.extras)
        extras = self.parts[begun - 1].extras if begun else 0
        index = number - extras
        if begun < len(self.parts):
            index = min(index, self.parts[begun].first - 1)
        elif extras != self.extras:  # the terminal event's: all of them, or those in front of it
            whole = number == self._index + self.extras
            index, extras = (self._index, self.extras) if whole else (min(index, self._index - 1), extras)
        run = bisect_right(self._runs, index, key=itemgetter(1)) - 1
        if number < self.about.text_index + (run < 0):  # all of that is in what a viewer gets first
            return StartingPoint(None, number + 1)
        if run < 0:
            raise LookupError(number)
        first, at = self._runs[run]
        return StartingPoint(Cursor(first.epoch, first.n + index - at), number - index - extras)

    def greeting(self) -> bytes:
        """What a viewer gets first: :meth:`again` if it comes back, else :meth:`begin` and the events that fill the
        numbers up to here; nothing before ``queued``, whose entry brings :meth:`begin`."""
        if self._runs:
            return self.again()
        if not self.about.text_index:
            return b""
        said = []
        for index in range(self.about.text_index):
            self._index = index
            said.append(self.nothing(b"") if index else self.begin(b""))
        return b"".join(said)

    # -- the row of parts -----------------------------------------------------------------------------

    @property
    def index(self) -> int:
        """The index of the entry that is said, or was said last."""
        return self._index

    @property
    def unclosed(self) -> list[Part]:
        """The parts that go on, or may, in the order in which they began: the open one is the last of all."""
        return self.calls if self._open is None else [*self.calls, self._open]

    def part_id(self, part: Part) -> str:
        """The name of a part, where the protocol asks for no form of its own."""
        return f"{self.about.stream_id}-{part.number}"

    @property
    def place(self) -> Cursor:
        """The id of the entry that was said last; only for a dialect that stands behind one."""
        first, index = self._runs[-1]
        return Cursor(first.epoch, first.n + self._index - index)

    def _enter(self, cursor: bytes) -> None:
        if not cursor:
            return
        entered = entry_cursor(cursor)
        if not self._runs or self._runs[-1][0].epoch != entered.epoch:
            self._runs.append((entered, self._index))

    def _start_over(self, cursor: bytes, data: bytes) -> bytes:
        if not self.resets:
            self._ended_at = self._index
            return self.failed(cursor, RESTARTED)
        said = self.reset() if self.parts else b""
        self.parts, self._open, self.calls, self._last_calls, self.provided = [], None, [], {}, []
        self._reset_at = self._index
        return said + self._attempt(cursor, data)

    def _attempt(self, cursor: bytes, data: bytes) -> bytes:
        """An attempt begins. After a fallback another model speaks from here on."""
        self.about = self.about._replace(model=decode_data(data).get("model") or self.about.model)
        return self.nothing(cursor)

    def _message(self, cursor: bytes, data: bytes) -> bytes:
        if data.startswith(_TEXT):
            return self._piece(cursor, "text", data[len(_TEXT) : -2])
        if data.startswith(_REASONING):
            return self._piece(cursor, "reasoning", data[len(_REASONING) : -2])
        if data.startswith(_PROVIDER):
            raw = data[len(_PROVIDER) : -1]
            self.provided.append((self._index, raw))
            return self.provider(cursor, raw)
        delta = decode_data(data)
        if "tool_call" in delta:
            return self._call(cursor, delta["tool_call"])
        return self.nothing(cursor)

    def _piece(self, cursor: bytes, kind: Kind, raw: bytes) -> bytes:
        part, head = self._open, b""
        if part is None or part.kind != kind:
            head, part = self._turn(kind)
        part.add(self._index, raw)
        return head + self.delta(cursor, part, raw)

    def _call(self, cursor: bytes, piece: Delta) -> bytes:
        index, call_id = piece["index"], piece.get("id") or ""
        part, head = self._last_calls.get(index), b""
        if part is None or (call_id and part.call_id != call_id and not part.has_made_id):
            about = {"call_index": index, "call_id": call_id or _made_id(index), "name": piece.get("name") or ""}
            head, part = self._turn("tool", **about)
        raw = msgspec.json.encode(piece.get("arguments", ""))[1:-1]
        part.add(self._index, raw)
        return head + self.delta(cursor, part, raw)

    def _turn(self, kind: Kind, **about: Any) -> tuple[bytes, Part]:
        """End the open part, and begin the next one."""
        closed = b""
        if self._open is not None:
            closed = self.close(self._open)
            self.extras += self.CLOSES[self._open.kind]
        part = Part(kind, len(self.parts), self.extras + self.OPENS[kind], self._index, **about)
        opened, part.front = self.open(part), self.front(part)
        self._add(part)
        return closed + opened, part

    def _add(self, part: Part) -> None:
        self.parts.append(part)
        self.extras = part.extras
        self._open = part if part.kind != "tool" else None
        if part.kind == "tool":
            self.calls.append(part)
            self._last_calls[part.call_index] = part

    def _begin_as(self, other: "PartsDialect", index: int) -> None:
        """Hold the other's row as it was behind this index. A part that is closed there does not change any
        more, so both rows share it: an answer may have 50,000 of them, and each viewer that comes back needs a
        twin."""
        self.parts = other.parts[: bisect_right(other.parts, index, key=attrgetter("first"))]
        if not self.parts:
            return
        last = self.parts[-1]
        self.extras = last.extras
        if last.kind != "tool":
            self._open = self.parts[-1] = last.upto(index)
        for call in other.calls:
            if call.first > index:
                break
            twin = self.parts[call.number] = call.upto(index)
            self.calls.append(twin)
            self._last_calls[call.call_index] = twin

    # -- a dialect's own events -----------------------------------------------------------------------

    def fresh(self) -> Self:
        """A dialect like this one, in front of everything."""
        return type(self)(self.about)

    def begin(self, cursor: bytes) -> bytes:
        """The stream begins."""
        return b""

    def again(self) -> bytes:
        """A viewer comes back, and goes on behind this place."""
        return b""

    def reset(self) -> bytes:
        """Everything that was said since the last beginning is taken back (where it ``resets``)."""
        return b""

    def open(self, part: Part) -> bytes:
        """A part begins; its first delta follows."""
        return b""

    def front(self, part: Part) -> bytes:
        """What stands in front of the piece in each delta of this part, from ``data:`` to the quote."""
        return b""

    def delta(self, cursor: bytes, part: Part, raw: bytes) -> bytes:
        """A piece of a part, which holds it already. ``raw``: a JSON string without its quotes."""
        if cursor:
            return b'id: %b\n%b%b"}\n\n' % (cursor, part.front, raw)
        return b'%b%b"}\n\n' % (part.front, raw)

    def close(self, part: Part) -> bytes:
        """A part of text or reasoning ends, because another begins."""
        return b""

    def provider(self, cursor: bytes, raw: bytes) -> bytes:
        """What the provider sent that has no word here: ``{"type", "data"}`` as JSON."""
        return self.nothing(cursor)

    def nothing(self, cursor: bytes) -> bytes:
        """An entry for which the dialect has no word."""
        return b""
