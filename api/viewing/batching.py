"""Batches: pieces of the answer that wait for each other, by size and by age. Pure: the clock is handed in.

Nothing is dropped: what waits stays in the log, and only its count is held here. Nothing is held for longer than
the interval either: a batch is due by its age even when no further piece comes. And only pieces wait: any other
event that the viewer is told of (its place in line, a pause, the end) leaves at once, with what was said before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from api.viewing.shared_buffer import SharedBuffer
from shared.protocol.events import MESSAGE, Delta, decode_data, encode_data
from shared.protocol.transcript import merged
from shared.store.log import Entry


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """``size``: pieces of the answer that fill a batch; ``age_s``: how long the first of them may wait."""

    size: int
    age_s: float


class Batching:
    """When a batch is due."""

    def __init__(self, limits: BatchLimits, clock: Callable[[], float]) -> None:
        """``clock``: seconds."""
        self._limits = limits
        self._clock = clock
        self._since: float | None = None

    def due(self, buffer: SharedBuffer, sequence: int) -> int | None:
        """The sequence number behind the last event that is to be sent now; None: nothing is due.

        Starts the clock when the first piece waits.
        """
        pieces = buffer.pieces(sequence)
        if not pieces:
            self._since = None
        elif self._since is None:
            self._since = self._clock()
        news = buffer.behind_news(sequence)
        full = buffer.behind_pieces(sequence, self._limits.size) if pieces >= self._limits.size else None
        if news is not None or full is not None:
            return min(behind for behind in (news, full) if behind is not None)
        old = self._since is not None and self._clock() - self._since >= self._limits.age_s
        return buffer.end if old else None

    def left_s(self) -> float | None:
        """Seconds until what waits is due by its age; None while nothing waits."""
        if self._since is None:
            return None
        return max(0.0, self._since + self._limits.age_s - self._clock())

    def sent(self) -> None:
        """What waited has left."""
        self._since = None


def gather(entries: Sequence[Entry]) -> list[Entry]:
    """The same events with neighbouring deltas of one kind merged, each under the id of its last piece."""
    gathered: list[Entry] = []
    delta: Delta | None = None
    for entry in entries:
        if entry.type != MESSAGE:
            gathered.append(entry)
            delta = None
            continue
        piece = decode_data(entry.data)
        both = None if delta is None else merged(delta, piece)
        if both is not None:
            gathered[-1] = entry._replace(data=encode_data(both))
        else:
            gathered.append(entry)
        delta = both or piece
    return gathered
