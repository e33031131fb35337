"""Unpacking a response's body (``Content-Encoding``). Pure, no I/O.

We ask for ``identity``, but some gateways pack the body all the same. Two encodings are read: gzip (with several
members, which RFC 1952, section 2.2 allows), and deflate, both as RFC 9110 says (zlib) and raw, as some servers
send it.
"""

import zlib
from collections.abc import Callable
from typing import Final

MAX_INFLATED_BYTES: Final = 1024 * 1024
MAX_RATIO: Final = 32
"""The bounds on what one read of a packed body may unpack to: MAX_INFLATED_BYTES (as much as one event may hold)
plus MAX_RATIO times its size. Events pack to a tenth or a twentieth, but a few bytes may unpack to gigabytes."""
MAX_MEMBERS: Final = 10_000
"""The most gzip members in one read: an empty member is 20 bytes, and each costs a new state."""

Inflate = Callable[[bytes], bytes]


class BadEncoding(ValueError):
    """The body can't be unpacked, or not within the bounds."""


def inflater(encoding: str) -> Inflate | None:
    """A function that unpacks a body with this header ('': none), and raises :class:`BadEncoding`. None: the body
    is not packed."""
    names = [name for part in encoding.lower().split(",") if (name := part.strip()) not in ("", "identity")]
    match names:
        case []:
            return None
        case ["gzip" | "x-gzip"]:
            return _Members().inflate
        case ["deflate"]:
            return _Deflate().inflate
    return _unknown


def _unknown(chunk: bytes) -> bytes:
    raise BadEncoding("an encoding that was not asked for")


def _decompress(unpacking: "zlib._Decompress", chunk: bytes, most: int) -> bytes:
    try:
        unpacked = unpacking.decompress(chunk, most)
    except zlib.error:
        raise BadEncoding("the body does not have this encoding") from None
    if unpacking.unconsumed_tail:
        raise BadEncoding("the body unpacks to more than events do")
    return unpacked


class _Members:
    """gzip: members until the body ends. Zeros after the last one are padding."""

    def __init__(self) -> None:
        self._unpacking: zlib._Decompress | None = None

    def inflate(self, chunk: bytes) -> bytes:
        most = MAX_INFLATED_BYTES + MAX_RATIO * len(chunk)
        unpacked: list[bytes] = []
        for _ in range(MAX_MEMBERS):
            if self._unpacking is None:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    return b"".join(unpacked)
                self._unpacking = zlib.decompressobj(wbits=31)
            # At least 1, because zlib reads 0 as "without a bound".
            unpacked.append(_decompress(self._unpacking, chunk, max(1, most)))
            most -= len(unpacked[-1])
            if not self._unpacking.eof:
                return b"".join(unpacked)
            chunk, self._unpacking = self._unpacking.unused_data, None
        raise BadEncoding("the body has more members than events need")


class _Deflate:
    """zlib or raw: the first two bytes tell which (RFC 1950, section 2.2)."""

    def __init__(self) -> None:
        self._head = b""
        self._unpacking: zlib._Decompress | None = None

    def inflate(self, chunk: bytes) -> bytes:
        if self._unpacking is None:
            chunk = self._head + chunk
            if len(chunk) < 2:
                self._head = chunk
                return b""
            is_zlib = chunk[0] & 0x0F == 8 and int.from_bytes(chunk[:2], "big") % 31 == 0
            self._unpacking = zlib.decompressobj(wbits=15 if is_zlib else -15)
        if self._unpacking.eof:
            return b""
        return _decompress(self._unpacking, chunk, MAX_INFLATED_BYTES + MAX_RATIO * len(chunk))
