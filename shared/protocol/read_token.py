"""Read tokens: the right to read one stream's events for a while, in a URL. Pure, the clock is handed in.

A token is ``<expiry in s>.<mac>``, the MAC being HMAC-SHA256 of the stream's id, of when the stream was created and
of the expiry, under the server's secret. The id is not in it: it stands in the URL anyway, and a token of another
stream fails as a tampered one does. The creation is not in it either: the record tells it. So a token of a stream
that was erased does not open the stream that the same ``Idempotency-Key`` makes later. Nothing is stored.

A token stops new viewers when it expires, but not one that comes back with a cursor: a browser's EventSource
repeats the URL that it was given, and must not lose an answer because it took long. That grace is bounded, and the
caller of this module gives it only for a cursor that is an event of this stream (:mod:`api.streams.links`).
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from typing import Final

MAC_BYTES: Final = 24
"""192 bits: out of reach, and 32 characters without padding."""

_TOKEN = re.compile(r"(0|[1-9][0-9]{0,14})\.([A-Za-z0-9_-]{32})", re.ASCII)


class TokenInvalid(ValueError):
    """No token of this stream: tampered with, of another stream, or signed with another secret."""


class TokenExpired(ValueError):
    """It was a token of this stream."""


def sign_token(secret: bytes, stream_id: str, created_ms: int, expires_s: int) -> str:
    """A token that lets the stream of this id and creation be read until then (s since 1970)."""
    return f"{expires_s}.{_mac(secret, stream_id, created_ms, expires_s)}"


def check_token(
    secret: bytes, stream_id: str, created_ms: int, token: str, now_s: float, grace_s: float = 0
) -> None:
    """Whether this token lets this stream be read now, or did at most ``grace_s`` ago.

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
    # The first word keeps these apart from whatever else is signed with the same secret.
    message = f"read-token:{stream_id}:{created_ms}:{expires_s}".encode()
    return urlsafe_b64encode(hmac.new(secret, message, hashlib.sha256).digest()[:MAC_BYTES]).decode()
