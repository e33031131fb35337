"""What an API process holds of each key's answers for callers who have not taken it yet: records and snapshots.

Theory of operation. Either may be as large as the largest answer, and reading one takes several times its size for
a moment. So of one key two are read at a time, and :data:`MAX_UNSENT` bytes may wait for callers to take them.
Callers to whom the same bytes are sent share them, so these count once. A key that has more waiting is refused; no
other key feels that.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Final

READ_AT_ONCE: Final = 2
MAX_UNSENT: Final = 32 * 1024 * 1024
"""Of one key in one process: eight answers of the largest size, or thousands of usual ones."""


class Unsent:
    """The bytes of each key that wait for callers."""

    def __init__(self) -> None:
        self._lanes: dict[str, asyncio.Semaphore] = {}
        self._held: dict[str, dict[bytes, list[bytes]]] = {}
        """By key, then by the bytes: the same bytes once for each caller who is sent them."""

    def reading(self, owner: str) -> AbstractAsyncContextManager[None]:
        """Read an answer of this key inside the block. At most :data:`READ_AT_ONCE` such blocks of a key run at
        once; others wait."""
        return self._lanes.setdefault(owner, asyncio.Semaphore(READ_AT_ONCE))

    def waiting(self, owner: str) -> int:
        """The number of this key's bytes that wait."""
        return sum(map(len, self._held.get(owner, ())))

    def admit(self, owner: str, data: bytes) -> bytes | None:
        """These bytes, or equal ones that are held already; None where there is no room for them. A key that has
        nothing waiting is always admitted."""
        if held := self._held.get(owner, {}).get(data):
            return held[0]
        waiting = self.waiting(owner)
        return None if waiting and waiting + len(data) > MAX_UNSENT else data

    @contextmanager
    def held(self, owner: str, data: bytes) -> Iterator[None]:
        """Hold these bytes, as they were admitted, for one caller as long as the block lasts."""
        of_key = self._held.setdefault(owner, {})
        callers = of_key.setdefault(data, [])
        callers.append(data)
        try:
            yield
        finally:
            callers.pop()
            if not callers:
                del of_key[data]
