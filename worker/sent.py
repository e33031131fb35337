"""The entries that one attempt has sent, as long as they may have to be sent again. Pure, no I/O."""

from collections import deque
from typing import Final

from shared.log import Entry, packed_entry

KEEP_S: Final = 3.0
"""A server that restarts from its append-only file may have lost its last seconds (``everysec``: about 2)."""
MARK_S: Final = 0.2
"""How exactly the age of what is kept is known: entries are kept for as much longer."""


class Sent:
    """Packed entries, the newest last: all that were not acknowledged, and those younger than KEEP_S.

    ``mark_at``: when the next mark is due (event loop's clock, s).
    """

    def __init__(self) -> None:
        self.entries: deque[bytes] = deque()
        self.mark_at = 0.0
        self._marks: deque[tuple[float, int]] = deque()
        """(when, up to which number everything was acknowledged), MARK_S apart."""

    def mark(self, now: float, newest: int) -> None:
        """All entries, up to this number, are acknowledged now; forget those that have been for long enough."""
        self.mark_at = now + MARK_S
        self._marks.append((now, newest))
        while self._marks[0][0] < now - KEEP_S:
            _, n = self._marks.popleft()
            while len(self.entries) > max(0, newest - n):
                self.entries.popleft()

    def keep_anew(self, now: float, newest: int) -> None:
        """What is here is as young as if it had been acknowledged now, up to this number."""
        self._marks = deque([(now, newest)])
        self.mark_at = now + MARK_S

    def missing(self, last: Entry, newest: int) -> list[bytes] | None:
        """What a log lacks whose last entry this is, up to this number; None where that can't be told from here."""
        n, first = last.cursor.n, newest + 1 - len(self.entries)
        if not first - 1 <= n <= newest:
            return None
        if n >= first and self.entries[n - first] != packed_entry(*last.cursor, last.type, last.data):
            return None
        return list(self.entries)[n + 1 - first :]

    def cut(self, count: int) -> None:
        """Forget the last ones (all, where there are fewer)."""
        for _ in range(min(len(self.entries), count)):
            self.entries.pop()
