"""Bodies of responses that are no stream of events, or come packed."""

import asyncio
import zlib
from collections.abc import Callable
from typing import Final

from worker.providers.upstream import Head, Upstream

MAX_INFLATED_BYTES: Final = 1024 * 1024
MAX_RATIO: Final = 64
"""What is taken at once of a packed body may unpack to so many bytes (as much as one event may hold), and to so
many times as much as it was: events pack to a tenth or a twentieth, but a few bytes may unpack to gigabytes."""
MAX_ERROR_BYTES: Final = 64 * 1024
"""An error is a sentence or two; a gateway's HTML page is not worth more."""
ERROR_WAIT_S: Final = 5.0
"""The status alone says what happened; its sentence is worth a short wait."""

Inflate = Callable[[bytes], bytes]


def inflater(head: Head) -> Inflate | None:
    """What unpacks a body; None where nothing is packed, as we ask for. Its calls raise ``zlib.error``."""
    if head.headers.get("content-encoding", "identity").strip().lower() == "identity":
        return None
    unpacking = zlib.decompressobj(wbits=47)  # gzip or zlib, by its head

    def inflate(chunk: bytes) -> bytes:
        unpacked = unpacking.decompress(chunk, MAX_INFLATED_BYTES + MAX_RATIO * len(chunk))
        if unpacking.unconsumed_tail:
            raise zlib.error("more than events unpack to")
        return unpacked

    return inflate


async def beginning(upstream: Upstream, head: Head) -> bytes:
    """What an error's body says, as far as it comes within the bounds; b"" for what can't be unpacked."""
    body = _Beginning(upstream)
    upstream.listen(body)
    try:
        async with asyncio.timeout(ERROR_WAIT_S):
            await body.here
    except TimeoutError:
        pass  # what came so far is what there is
    finally:
        upstream.pause()
    found = bytes(body.found[:MAX_ERROR_BYTES])
    inflate = inflater(head)
    try:
        return found if inflate is None else inflate(found)
    except zlib.error:
        return b""


class _Beginning:
    """Listens until there is enough."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.found = bytearray()
        self.here: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ready(self) -> None:
        self._upstream.read()

    def take(self, chunk: bytes) -> None:
        self.found += chunk
        if len(self.found) >= MAX_ERROR_BYTES:
            self.end(cut=True)

    def end(self, *, cut: bool) -> None:
        if not self.here.done():
            self.here.set_result(None)
