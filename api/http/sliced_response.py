"""The sliced response: a large, ready body, of which the process holds no more than its peer takes.

The server takes whatever is written, and keeps what the socket does not take: a body of 4 MB would be 4 MB more for
each caller that reads nothing. So it is written slice by slice, each when the one before it is gone. The body
itself can be held once for all who are sent the same.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.http.connections import CONNECTION

SLICE_BYTES: Final = 64 * 1024
TAKE_S: Final = 30.0
"""A peer that does not take a slice within this time is cut off."""


class SlicedResponse(Response):
    """JSON of several parts, one behind the other. ``held`` is open while they are sent."""

    media_type = "application/json"

    def __init__(
        self,
        parts: Sequence[bytes | memoryview],
        held: AbstractContextManager[None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={**(headers or {}), "Content-Length": str(sum(map(len, parts)))})
        self._parts = parts
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                for body in self._slices():
                    async with asyncio.timeout(TAKE_S):
                        await send({"type": "http.response.body", "body": body, "more_body": True})
            except TimeoutError:
                if (connection := scope[CONNECTION]()) is not None:
                    connection.transport.abort()
                return
            await send({"type": "http.response.body"})

    def _slices(self) -> Iterator[bytes]:
        if sum(map(len, self._parts)) <= SLICE_BYTES:
            yield b"".join(self._parts)
            return
        for part in self._parts:
            for at in range(0, len(part), SLICE_BYTES):
                yield bytes(part[at : at + SLICE_BYTES])
