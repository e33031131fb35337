"""A stream that is to be made. Pure."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PROVISIONAL_MS: Final = 60_000
"""Life of a record that nobody confirmed: long enough for every retry of its creator, short enough to be no
leftover."""


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
    now_ms: int = 0
    """The queue server's clock, when it was admitted."""
    known: bool = False
    """Whether others may have made a stream of this id before."""

    def args(self, nonce: str, epoch: int = 0) -> tuple[str | bytes | int, ...]:
        """What ``create.lua`` takes."""
        pairs = [part for pair in self.fields.items() for part in pair]
        head = (nonce, PROVISIONAL_MS, self.request_hash, self.owner, self.queued, epoch, int(self.known))
        return *head, *pairs
