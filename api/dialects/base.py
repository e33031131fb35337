"""What every dialect offers."""

from typing import Any, Protocol

from shared.ids import Cursor
from shared.log import Entry


class Dialect(Protocol):
    """Encodes what a viewer gets. Stateless: one shared buffer serves all viewers of a log and dialect."""

    name: str

    def entry(self, entry: Entry) -> bytes:
        """One event of the log, ready to be sent; b'' where this dialect has no word for it."""
        ...

    def snapshot(self, data: dict[str, Any], as_of: Cursor | None) -> bytes:
        """Everything said so far, as of an id."""
        ...

    def gone(self) -> bytes:
        """The log vanished (erased, or expired) under its viewer."""
        ...
