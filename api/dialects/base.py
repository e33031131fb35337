"""What every dialect offers."""

from collections.abc import Sequence
from typing import Any, Protocol

from shared.store.log import Entry


class Dialect(Protocol):
    """Encodes what a viewer gets. Stateless: one shared buffer serves all viewers of a log and dialect."""

    name: str
    last_words: frozenset[str]
    """Types of events behind which a viewer gets nothing more."""
    restarts: bool
    """Whether it can take back what was said, by ``restart`` and ``snapshot``."""

    def entry(self, cursor: bytes, kind: str, data: bytes) -> bytes:
        """One event of the log, ready to be sent; b'' where this dialect has no word for it.

        In: its id and data as the log holds them, and its type."""
        ...

    def batch(self, entries: Sequence[Entry]) -> bytes:
        """Events that leave together; for a viewer that asked for batches, gathered."""
        ...

    def snapshot(self, data: dict[str, Any], as_of: bytes | None) -> bytes:
        """Everything said so far, as of an id. A viewer that saw something gets it only where the dialect
        ``restarts``."""
        ...

    def gone(self) -> bytes:
        """The log vanished (erased, or expired) under its viewer."""
        ...

    def lost(self) -> bytes:
        """The last event of a viewer that saw what can neither be joined to the log nor be taken back."""
        ...
