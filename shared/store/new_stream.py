"""A stream that is about to be created. Pure."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.store.queue import Lane

BEING_MADE_MS: Final = 60_000
"""A stream that was admitted and has no record yet counts as being created for this long; after that its create has
failed. Creates take less than two seconds."""


def new_nonce() -> str:
    """A random name for one call, by which a repetition of it is recognised (96 bits)."""
    return secrets.token_hex(12)


@dataclass(frozen=True, slots=True)
class NewStream:
    """A new stream's record. ``queued``: the data of its first event."""

    stream_id: str
    request_hash: str
    owner: str
    queued: bytes
    fields: Mapping[str, str | bytes]

    @property
    def lane(self) -> Lane:
        """The lane in which its job waits."""
        return Lane(str(self.fields.get("provider", "")), self.owner)

    @property
    def size(self) -> int:
        """The size of its request, and of what is kept of that beyond the stream's end (bytes)."""
        return len(self.fields["request"]) + int(self.fields.get("kept_bytes", 0))

    def args(self, nonce: str, until_ms: int) -> tuple[str | bytes | int, ...]:
        """The arguments of ``record.lua``. ``until_ms``: the caller's deadline, by the server's clock."""
        pairs = [part for pair in self.fields.items() for part in pair]
        return nonce, until_ms, self.request_hash, self.owner, self.queued, *pairs
