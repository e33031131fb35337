"""What a snapshot of one attempt consists of: everything that was acknowledged, as chunks at offsets. Pure."""

from collections.abc import Iterable
from typing import Any

from shared.events import MESSAGE, Delta, snapshot_lines

Event = tuple[str, dict[str, Any]]
"""Its type, and its data."""


class SnapshotText:
    """Events since the last step wait in ``fresh``; what was stepped over is kept as its bytes."""

    def __init__(self) -> None:
        self.fresh: list[Event] = []
        self._kept: list[bytes] = []
        self._size = 0

    def go_on(self, snapshot: bytes, deltas: Iterable[Delta]) -> None:
        """This attempt continues another one, which said this: snapshots must go on telling it."""
        self._kept = [snapshot] if snapshot else []
        self._size = len(snapshot)
        self.fresh = [(MESSAGE, delta) for delta in deltas]

    def step(self, *, anew: bool = False) -> tuple[int, bytes]:
        """(offset, chunk) that brings the server's snapshot up to date.

        ``anew``: everything again, from offset 0 (the server's snapshot has another length than ours).
        """
        chunk = b""
        if self.fresh:
            chunk = snapshot_lines([data for kind, data in self.fresh if kind == MESSAGE])
            self._kept.append(chunk)
            self.fresh = []
        offset = 0 if anew else self._size
        if anew:
            chunk = b"".join(self._kept)
        self._size = offset + len(chunk)
        return offset, chunk
