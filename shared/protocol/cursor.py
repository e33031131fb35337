"""Cursors and stream ids: pure, no I/O.

A cursor is an event's id, ``<epoch>-<n>``. The same text is the Redis entry id and the SSE ``id``; it is never
translated. Redis compares ids as two unsigned 64-bit numbers, and so does :class:`Cursor`, because a tuple of two
integers compares the same way.
"""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from typing import NamedTuple

MAX_PART = 2**64 - 1
"""Redis entry ids are two unsigned 64-bit integers."""

STREAM_ID_BYTES = 18
"""144 bits: unguessable, and 24 characters of base64url without padding."""

_CURSOR = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", re.ASCII)
_STREAM_ID = re.compile(r"[A-Za-z0-9_-]{24}", re.ASCII)


class Cursor(NamedTuple):
    """The position of an event in its log. Ordered as Redis orders entry ids."""

    epoch: int
    n: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.n}"

    def encode(self) -> bytes:
        """The Redis entry id, as bytes."""
        return b"%d-%d" % self


class BadCursor(ValueError):
    """The text is no ``<epoch>-<n>``. The client must send the id of an event that it received, or no id."""


def parse_cursor(text: str) -> Cursor | None:
    """Read a client's ``Last-Event-ID``.

    In: the text of the header or query. Out: the cursor, or None for an empty text (the HTML standard lets a client
    without an id send an empty one). Raises :class:`BadCursor` for any other text.
    """
    if not text:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise BadCursor(text)
    epoch, n = int(match[1]), int(match[2])
    if epoch > MAX_PART or n > MAX_PART:
        raise BadCursor(text)
    return Cursor(epoch, n)


def entry_cursor(raw: bytes) -> Cursor:
    """The cursor of an entry id that Redis returned (trusted, so it is only split, not validated)."""
    epoch, _, n = raw.partition(b"-")
    return Cursor(int(epoch), int(n))


def follows(before: Cursor | None, entry: Cursor, after: Cursor | None) -> bool:
    """Whether ``entry`` comes right behind ``before``, with no entry missing between them.

    In: the last event seen; the new one; and, for an entry that opens an epoch, the log's last id before it, as its
    writer saw it. Out: False means that an entry between them was trimmed or lost.
    """
    if before is None:
        return True
    if entry.epoch == before.epoch:
        return entry.n == before.n + 1
    return entry.n == 0 and after == before


def new_stream_id() -> str:
    """An unguessable stream id (144 bits from the system's CSPRNG), safe in URLs and in a Redis hash tag."""
    return secrets.token_urlsafe(STREAM_ID_BYTES)


def idempotent_stream_id(secret: bytes, owner: str, key: str) -> str:
    """The stream id that belongs to this ``Idempotency-Key`` of this owner.

    HMAC-SHA256 over (owner, key), cut to the size of a random id. So Redis needs no second key, and no crash can
    come between two writes. The owner's length stands in front, so that two pairs never make the same text.
    """
    message = f"{len(owner)}:{owner}:{key}".encode()
    digest = hmac.new(secret, message, hashlib.sha256).digest()[:STREAM_ID_BYTES]
    return urlsafe_b64encode(digest).decode()


def is_stream_id(text: str) -> bool:
    """Whether the text has the form of a stream id (the stream need not exist)."""
    return _STREAM_ID.fullmatch(text) is not None
