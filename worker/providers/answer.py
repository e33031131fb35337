"""One open answer of a provider: reads of bytes in, events of the common vocabulary out.

Theory of operation. An answer is whole when its finish reason was read: whatever ends it before that is an
error; after it nothing is. What still comes then (usage, the end mark) is waited for a short time only.
After the end mark the rest of the body is read and ignored, for a moment, because only a body read to
its end leaves a connection that the next request can use.

Nothing is queued: what one read of at most 16 KiB brought is handed out before the next is made, so a slow
consumer stops the reading, and TCP holds the provider.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Final, cast

import httpx

from shared.providers import Provider
from shared.sse import ServerSentEvent, SseError, SseParser
from worker.providers import failures
from worker.providers.base import End, Finish, ProviderError, ProviderEvent, Reader, Said
from worker.providers.patience import Patience

USAGE_WAIT_S: Final = 5.0
"""Usage comes right behind the finish reason; past this a provider that never closes sends none."""
LINGER_S: Final = 0.2
"""The end of the body comes with the end mark; a new connection costs less than waiting longer."""
MAX_ERROR_BYTES: Final = 64 * 1024
"""An error is a sentence or two; a gateway's HTML page is not worth more."""
ERROR_WAIT_S: Final = 5.0
"""The status alone says what happened; its sentence is worth a short wait."""


class Answer:
    """A response whose headers are there; ``close`` it whatever happens."""

    def __init__(
        self, provider: Provider, reader: Reader, response: httpx.Response, patience: Patience, idle_s: float
    ) -> None:
        self.ended = False
        self._provider = provider
        self._reader = reader
        self._response = response
        self._chunks = _chunks(response)
        self._patience = patience
        self._idle_s = idle_s
        self._parser = SseParser()
        self._said = False
        self._finished = False
        self._over = False

    async def read(self) -> bytes:
        """The next read; b"" is the end. Raises ProviderError for silence and a lost connection."""
        try:
            return await self._patience.wait(anext(self._chunks, b""))
        except TimeoutError:
            silent = failures.upstream_silent if self._said else failures.first_token_timeout
            error = silent(self._provider)
        except httpx.DecodingError:
            error = failures.garbage(self._provider, "in an encoding that can't be read")
        except failures.TRANSPORT_ERRORS:
            error = failures.upstream_cut(self._provider)
        if self._finished:
            return b""
        raise error from None

    def take(self, chunk: bytes) -> Iterator[ProviderEvent]:
        """What one read means, piece by piece. Raises ProviderError at the place where it went wrong."""
        try:
            for event in self._parse(chunk):
                for meaning in () if self._over else self._reader.read(event):
                    yield from self._note(meaning)
        except SseError:
            if not self._finished:
                raise failures.too_large(self._provider) from None
            self.ended = True
        except ProviderError:
            if not self._finished:
                raise
        if not chunk:
            self._stop()
            self.ended = True

    def _parse(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        if chunk:
            return self._parser.feed(chunk)
        last = self._parser.finish()
        return iter(() if last is None else (last,))

    def _note(self, meaning: ProviderEvent) -> Iterator[ProviderEvent]:
        if isinstance(meaning, Said):
            self._said = True
            if not self._finished:
                self._patience.reset(self._idle_s)
        elif isinstance(meaning, Finish):
            if self._finished:  # some gateways repeat it beside the usage
                return
            self._finished = True
            self._patience.reset(USAGE_WAIT_S)
        elif isinstance(meaning, End):
            self._stop()
            self._over = True
            self._patience.reset(LINGER_S)
        yield meaning

    def _stop(self) -> None:
        if not self._finished:
            raise failures.upstream_cut(self._provider)

    async def error_body(self) -> bytes:
        """What a response that is no stream says, as far as it comes within the bounds."""
        body = bytearray()
        self._patience.reset(ERROR_WAIT_S)
        try:
            while len(body) < MAX_ERROR_BYTES:
                chunk = await self._patience.wait(anext(self._chunks, b""))
                if not chunk:
                    break
                body += chunk
        except (TimeoutError, *failures.TRANSPORT_ERRORS):
            pass  # what came so far is what there is
        return bytes(body[:MAX_ERROR_BYTES])

    async def close(self) -> None:
        """Let go of the connection at once: kept if the body was read to its end, closed otherwise."""
        self._patience.close()
        await self._response.aclose()


def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body, read by read. Where nothing is encoded (and we ask for that) the stream itself: two generators and
    two buffers less for every token."""
    if response.headers.get("content-encoding", "identity") != "identity":
        return response.aiter_bytes()
    return aiter(cast(httpx.AsyncByteStream, response.stream))
