"""What every dialect offers.

Theory of operation. A dialect turns events of a log into bytes. One dialect object stands at one place of one log:
it is given each event behind that place, in order, and a *followed log* holds one for all of its viewers, whose
bytes are the same. A dialect whose bytes depend on what it said before (open parts, numbers) is *stateful*: an
object of it can be asked for its twin at an earlier place (:meth:`Dialect.at`), for a viewer that fell behind or
comes back; and it can begin at a snapshot of a log whose beginning is trimmed away. Every object that was given the
same events, or a snapshot and the events behind it, says the same from there on: numbers, ids and parts follow from
the log alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from shared.protocol.cursor import Cursor
from shared.protocol.events import Delta
from shared.protocol.transcript import Transcript
from shared.store.log import Entry


@dataclass(frozen=True, slots=True)
class Told:
    """Everything that a stream said up to one of its events.

    ``as_of``: that event's id, None where nothing was said; ``index``: how many of the log's entries stood in front
    of it, trimmed or not; ``deltas``: in order, neighbours of one kind merged.
    """

    as_of: Cursor | None
    index: int
    attempt: int
    deltas: Sequence[Delta]

    def as_data(self) -> dict[str, Any]:
        """The data of a native ``snapshot``."""
        transcript = Transcript()
        for delta in self.deltas:
            transcript.add(delta)
        return {**transcript.as_data(), "attempt": self.attempt}


class About(NamedTuple):
    """The stream that a dialect speaks of, as its record tells it."""

    stream_id: str
    model: str = ""
    """``provider/name``."""
    created_ms: int = 0
    text_index: int = 0
    """How many entries stood in front of the opening from which the text counts; 0: the stream has not begun."""
    asked: str = ""
    """What is kept of its request for one dialect (JSON): ``{"<name>": {…}}``; see :meth:`kept`."""

    @property
    def provider(self) -> str:
        """The name of the model's provider."""
        return self.model.partition("/")[0]

    def kept(self, name: str) -> dict[str, Any] | None:
        """What is kept of the request under this name; None where nothing is."""
        found: dict[str, Any] | None = msgspec.json.decode(self.asked or "{}").get(name)
        return found


class StartingPoint(NamedTuple):
    """Where a viewer goes on: behind ``cursor`` (None: at the start), and without the first ``seen`` events there,
    which it has."""

    cursor: Cursor | None
    seen: int


class Dialect(Protocol):
    """Encodes what a viewer gets."""

    name: str
    """With all options on which the bytes depend: viewers of one name share their bytes."""
    last_words: frozenset[str]
    """Types of events behind which a viewer gets nothing more."""
    restarts: bool
    """Whether it can take back what was said, by ``restart`` and ``snapshot``."""
    stateful: bool
    """Whether its bytes depend on what it said before."""

    def entry(self, cursor: bytes, kind: str, data: bytes) -> bytes:
        """One event of the log, ready to be sent; b'' where this dialect has no word for it.

        In: its id and data as the log holds them, and its type."""
        ...

    def batch(self, entries: Sequence[Entry]) -> bytes:
        """Events that leave together; for a viewer that asked for batches, gathered."""
        ...

    def snapshot(self, told: Told) -> bytes:
        """Everything said so far; a stateful dialect stands behind that afterwards. A viewer that saw something
        gets it only where the dialect ``restarts``."""
        ...

    def at(self, cursor: Cursor | None) -> Self | None:
        """This dialect as it stood behind that event (None: in front of all); None where that is not known."""
        ...

    def greeting(self) -> bytes:
        """What a viewer gets first that begins or comes back at this place."""
        ...

    def parting(self) -> bytes:
        """The last bytes of a connection that ends before its stream does, behind ``retry:``. They are an error,
        because most clients take the end of the bytes for that of the answer; b'' where all clients come back by
        themselves."""
        ...

    def gone(self) -> bytes:
        """The log vanished (erased, or expired) under its viewer."""
        ...

    def lost(self) -> bytes:
        """The viewer's last event: the text that it saw does not fit the log, and can't be taken back."""
        ...
