"""How a response's body is packed (``Content-Encoding``). Pure, no I/O.

``identity`` is what we ask for; some gateways pack all the same. Read are gzip (several members behind each other,
as RFC 1952, section 2.2 allows) and deflate, both as RFC 9110 says (zlib) and raw, as some servers send it.
"""

import zlib
from collections.abc import Callable
from typing import Final

MAX_INFLATED_BYTES: Final = 1024 * 1024
MAX_RATIO: Final = 32
"""One read of a packed body may unpack to so many bytes (as much as one event may hold), and to so many times its
size: events pack to a tenth or a twentieth, but a few bytes may unpack to gigabytes."""
MAX_MEMBERS: Final = 10_000
"""Of gzip in one read: an empty member is 20 bytes, and each costs a new state."""

Inflate = Callable[[bytes], bytes]


class BadEncoding(ValueError):
    """The body can't be unpacked, or not within the bounds."""


def inflater(encoding: str) -> Inflate | None:
    """What unpacks a body with this header ('': none); its calls raise :class:`BadEncoding`. None: it is not
    packed."""
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
        raise BadEncoding("what is not packed so") from None
    if unpacking.unconsumed_tail:
        raise BadEncoding("more than events unpack to")
    return unpacked


class _Members:
    """gzip: members until the body ends; zeros behind the last one are padding."""

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
            # At least 1, for 0 means "without a bound".
            unpacked.append(_decompress(self._unpacking, chunk, max(1, most)))
            most -= len(unpacked[-1])
            if not self._unpacking.eof:
                return b"".join(unpacked)
            chunk, self._unpacking = self._unpacking.unused_data, None
        raise BadEncoding("more members than events need")


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
