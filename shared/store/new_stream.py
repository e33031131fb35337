"""A stream that is to be made. Pure."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.store.queue import Lane

BEING_MADE_MS: Final = 60_000
"""A stream that was admitted, and has no record yet, is being made for so long; later it was given up. Creates take
less than two seconds."""


def new_nonce() -> str:
    """Tells one caller's call from all others (96 bits)."""
    return secrets.token_hex(12)


@dataclass(frozen=True, slots=True)
class NewStream:
    """What its creator says of it; ``queued`` is the data of its first event."""

    stream_id: str
    request_hash: str
    owner: str
    queued: bytes
    fields: Mapping[str, str | bytes]

    @property
    def lane(self) -> Lane:
        """Where its job waits."""
        return Lane(str(self.fields.get("provider", "")), self.owner)

    @property
    def size(self) -> int:
        """Bytes of its request, and of what is kept of it beyond the stream's end."""
        return len(self.fields["request"]) + int(self.fields.get("kept_bytes", 0))

    def args(self, nonce: str, until_ms: int) -> tuple[str | bytes | int, ...]:
        """What ``record.lua`` takes. ``until_ms``: until when the caller waits, by the server's clock."""
        pairs = [part for pair in self.fields.items() for part in pair]
        return nonce, until_ms, self.request_hash, self.owner, self.queued, *pairs
