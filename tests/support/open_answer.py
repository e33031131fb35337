"""An answer of a provider that is open, over a socket without a peer."""

import asyncio

from tests.support.provider_calls import at
from worker.providers.decoder import AnswerLimits, StreamDecoder
from worker.providers.formats.openai_stream import OpenAIReader
from worker.providers.http.connection import DirectConnection
from worker.providers.stream import ProviderStream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'


def said(text: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text.encode()


class Wire(asyncio.Transport):
    """A socket without a peer, whose bytes come from a test."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        return None

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def abort(self) -> None:
        self.reads = False


async def opened(wire: Wire, encoding: str = "") -> tuple[DirectConnection, ProviderStream]:
    """An answer whose head has come; it may keep silent for 0.2 s between tokens."""
    upstream = DirectConnection(lambda upstream, _: upstream.abort())
    upstream.connection_made(wire)
    asking = asyncio.create_task(upstream.ask(b""))
    await asyncio.sleep(0)
    upstream.data_received(HEAD)
    await asking
    limits, now = AnswerLimits(5.0, 0.2, 0.2, 1 << 30), asyncio.get_running_loop().time()
    answer = StreamDecoder(at("http://x"), OpenAIReader(), limits, now, encoding=encoding)
    return upstream, ProviderStream(answer, upstream)
