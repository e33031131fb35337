"""The body of a response that is not an answer: an error's text."""

import asyncio
from typing import Final

from worker.providers.http.connection import ProviderConnection, ignore_hint
from worker.providers.http.encodings import BadEncoding, inflater

MAX_ERROR_BYTES: Final = 64 * 1024
"""An error is a sentence or two. A gateway's HTML page may be longer, and is not worth more."""
ERROR_WAIT_S: Final = 5.0
"""The status alone says what happened, so the text is worth only a short wait."""


async def beginning(connection: ProviderConnection, encoding: str) -> bytes:
    """The beginning of an error's body, as far as it comes within the bounds; b"" if it can't be unpacked.
    ``encoding``: its ``Content-Encoding``."""
    found = bytearray()
    came = asyncio.Event()
    connection.ready = came.set
    try:
        async with asyncio.timeout(ERROR_WAIT_S):
            while len(found) < MAX_ERROR_BYTES:
                found += connection.read()
                if connection.ended is not None:
                    break
                await came.wait()
                came.clear()
    except TimeoutError:
        pass  # use what came so far
    finally:
        connection.ready = ignore_hint
    inflate = inflater(encoding)
    try:
        return bytes(found[:MAX_ERROR_BYTES]) if inflate is None else inflate(bytes(found[:MAX_ERROR_BYTES]))
    except BadEncoding:
        return b""
