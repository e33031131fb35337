"""Read tokens: the right to read one stream's events for a while, in a URL. Pure, the clock is handed in.

A token is ``<expiry in s>.<mac>``. The MAC is HMAC-SHA256 of the stream's id, its time of creation and the expiry,
under the server's secret. The token does not contain the id: that stands in the URL anyway, and the token of
another stream fails like a tampered one. It does not contain the time of creation: the record has it. So the token
of an erased stream does not open the stream that the same ``Idempotency-Key`` makes later. Nothing is stored.

An expired token stops new viewers, but not a viewer that comes back with a cursor: a browser's EventSource repeats
the URL that it was given, and must not lose an answer because it took long. This grace is bounded, and the caller
of this module grants it only for a cursor that is an event of this stream (:mod:`api.streams.links`).
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from typing import Final

MAC_BYTES: Final = 24
"""192 bits: can't be guessed, and 32 characters without padding."""

_TOKEN = re.compile(r"(0|[1-9][0-9]{0,14})\.([A-Za-z0-9_-]{32})", re.ASCII)


class TokenInvalid(ValueError):
    """Not a token of this stream: tampered with, made for another stream, or signed with another secret."""


class TokenExpired(ValueError):
    """A token of this stream whose time is over."""


def sign_token(secret: bytes, stream_id: str, created_ms: int, expires_s: int) -> str:
    """A token for reading the stream with this id and time of creation. ``expires_s``: s since 1970."""
    return f"{expires_s}.{_mac(secret, stream_id, created_ms, expires_s)}"


def check_token(
    secret: bytes, stream_id: str, created_ms: int, token: str, now_s: float, grace_s: float = 0
) -> None:
    """Check that this token is valid for this stream now, or was valid at most ``grace_s`` ago.

    Raises :class:`TokenInvalid` or :class:`TokenExpired`.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise TokenInvalid
    expires_s = int(match[1])
    if not hmac.compare_digest(_mac(secret, stream_id, created_ms, expires_s), match[2]):
        raise TokenInvalid
    if now_s >= expires_s + grace_s:
        raise TokenExpired


def _mac(secret: bytes, stream_id: str, created_ms: int, expires_s: int) -> str:
    # The first word keeps these MACs apart from others that are made with the same secret.
    message = f"read-token:{stream_id}:{created_ms}:{expires_s}".encode()
    return urlsafe_b64encode(hmac.new(secret, message, hashlib.sha256).digest()[:MAC_BYTES]).decode()
