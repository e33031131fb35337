"""What a snapshot of one attempt consists of: everything that was acknowledged, as chunks at offsets. Pure.

The entries themselves wait here, as the very bytes that are kept to be sent again, and are read when a step is due.
A dict for each would live for half a cap of tokens and be cold when it is let go: without them the writing side of
a token takes a fifteenth less.
"""

from collections.abc import Iterable

from shared.events import MESSAGE, Delta, decode_many, snapshot_lines
from shared.log import unpacked

Event = tuple[str, Delta]
"""Its type, and its data."""


class SnapshotText:
    """Entries since the last step wait in ``fresh``, packed; what was stepped over is kept as its bytes."""

    def __init__(self) -> None:
        self.fresh: list[bytes] = []
        self._inherited: list[Delta] = []
        self._kept: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        """How many entries the next step is about."""
        return len(self._inherited) + len(self.fresh)

    def go_on(self, snapshot: bytes, deltas: Iterable[Delta]) -> None:
        """This attempt continues another one, which said this: snapshots must go on telling it."""
        self._kept = [snapshot] if snapshot else []
        self._size = len(snapshot)
        self._inherited = list(deltas)

    def cut(self, count: int) -> None:
        """Forget the last ones (all, where there are fewer)."""
        del self.fresh[max(0, len(self.fresh) - count) :]

    def step(self, in_flight: int, *, anew: bool = False) -> tuple[int, bytes]:
        """(offset, chunk) that brings the server's snapshot up to date, but for the last ``in_flight`` entries.

        ``anew``: everything again, from offset 0 (the server's snapshot has another length than ours).
        """
        upto = len(self.fresh) - in_flight
        said = [data for kind, data in map(unpacked, self.fresh[:upto]) if kind == MESSAGE]
        chunk = snapshot_lines([*self._inherited, *decode_many(said)])
        self.fresh = self.fresh[upto:]
        self._inherited = []
        if chunk:
            self._kept.append(chunk)
        offset = 0 if anew else self._size
        if anew:
            chunk = b"".join(self._kept)
        self._size = offset + len(chunk)
        return offset, chunk
