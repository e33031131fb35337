"""A provider that means harm: raw bytes, without an end where it likes, as the prompt asks.

The prompt is ``{"harm": NAME, "name": …}`` with a name of HARMS; ``name`` tells the calls apart. ``calls`` holds
for each name how many bytes went out, and when the other side closed.
"""

import asyncio
import contextlib
import gzip
import json
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
PIECE: Final = 64 * 1024


@dataclass
class HostileCall:
    """All calls of one name, together."""

    calls: int = 0
    sent: int = 0
    open: int = 0
    closed_at: float | None = None
    """When the last of them was closed (s, monotonic)."""
    heads: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    """One event of a chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() + b"\n\n"


FINISH: Final = chunk({}, "stop")
DONE: Final = b"data: [DONE]\n\n"
_TEXT: Final = chunk({"content": "flood " * 100})
_MANY: Final = _TEXT * (PIECE // len(_TEXT))


async def _forever(*pieces: bytes) -> AsyncIterator[bytes]:
    """The last piece without an end."""
    for piece in pieces:
        yield piece
    while True:
        yield pieces[-1]


def _call(index: int, tool_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"index": index, "id": tool_id, "type": "function", "function": {"name": name, "arguments": arguments}}


async def _large_ids() -> AsyncIterator[bytes]:
    yield HEAD
    for n in range(300):
        yield chunk({"tool_calls": [_call(n, f"{n}-" + "x" * 900_000)]})
    yield FINISH + DONE


async def _many_calls() -> AsyncIterator[bytes]:
    yield HEAD
    for at in range(0, 100_000, 100):
        yield b"".join(chunk({"tool_calls": [_call(n, f"c{n}")]}) for n in range(at, at + 100))
    yield FINISH + DONE


async def _endless_name() -> AsyncIterator[bytes]:
    yield HEAD + chunk({"tool_calls": [_call(0, "c0", "n")]})
    more = chunk({"tool_calls": [{"index": 0, "function": {"name": "n" * 4000}}]})
    async for piece in _forever(more * 16):
        yield piece


async def _dripping_nothing() -> AsyncIterator[bytes]:
    yield HEAD + chunk({"content": "a"})
    while True:
        yield b": still here\n\n" + chunk({"content": ""})
        await asyncio.sleep(0.05)


def _bomb() -> bytes:
    return gzip.compress(_TEXT * 50_000)


async def _gzip_bomb() -> AsyncIterator[bytes]:
    bomb = await asyncio.to_thread(_bomb)
    yield HEAD.replace(b"Connection", b"Content-Encoding: gzip\r\nConnection") + bomb


async def _late_retry() -> AsyncIterator[bytes]:
    body = b'{"error": {"message": "later"}}'
    yield b"HTTP/1.1 429 No\r\nRetry-After: %s\r\nContent-Length: %d\r\n\r\n" % (b"9" * 300, len(body)) + body


async def _year_retry() -> AsyncIterator[bytes]:
    body = b'{"error": {"message": "later"}}'
    date = b"Fri, 31 Dec 9999999999999999999 23:59:59 GMT"
    yield b"HTTP/1.1 429 No\r\nRetry-After: %s\r\nContent-Length: %d\r\n\r\n" % (date, len(body)) + body


async def _escapes() -> AsyncIterator[bytes]:
    body = json.dumps({"error": {"message": "\x1b]0;owned\x07\x1b[2J\r\nfake log line"}}).encode()
    yield b"HTTP/1.1 400 \x1b[31mNo\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def _large_and_slow() -> AsyncIterator[bytes]:
    """3.4 MB of text, and then a word now and then."""
    yield HEAD
    for _ in range(64):
        yield _MANY
    while True:
        yield chunk({"content": "and "})
        await asyncio.sleep(0.3)


async def _silence() -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield b""


HARMS: Final[dict[str, Callable[[], AsyncIterator[bytes]]]] = {
    "endless text": lambda: _forever(HEAD, _MANY),
    "text behind the finish": lambda: _forever(HEAD + chunk({"content": "a"}) + FINISH, _MANY),
    "bytes behind [DONE]": lambda: _forever(HEAD + chunk({"content": "a"}) + FINISH + DONE, _MANY),
    "comments behind [DONE]": lambda: _forever(HEAD + chunk({"content": "a"}) + FINISH + DONE, b": x\n\n" * 1000),
    "empty deltas": lambda: _forever(HEAD + chunk({"content": "a"}), chunk({"content": ""}) * 400),
    "dripping nothing": _dripping_nothing,
    "comments": lambda: _forever(HEAD + chunk({"content": "a"}), b": x\n\n" * 10_000),
    "large tool ids": _large_ids,
    "many tool calls": _many_calls,
    "an endless tool name": _endless_name,
    "an endless line": lambda: _forever(HEAD + b"data: ", b"x" * PIECE),
    "an endless head": lambda: _forever(b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 4000 + b"\r\n"),
    "an endless status line": lambda: _forever(b"HTTP/1.1 200 ", b"x" * PIECE),
    "endless informational heads": lambda: _forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "an endless error": lambda: _forever(b"HTTP/1.1 500 No\r\nContent-Type: text/html\r\n\r\n", b"x" * PIECE),
    "a gzip bomb": _gzip_bomb,
    "a late Retry-After": _late_retry,
    "the year 10^19": _year_retry,
    "terminal escapes": _escapes,
    "silence": _silence,
    "large and slow": _large_and_slow,
}


class HostileProvider:
    """The server. ``elsewhere`` counts requests for any other path: where a redirect pointed, for example."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, HostileCall] = defaultdict(HostileCall)
        self.elsewhere: list[str] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if not head.startswith("POST /v1/chat/completions"):
                self.elsewhere.append(head.partition("\r\n")[0])
                writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
                return
            asked = json.loads(body)
            script = json.loads(asked["messages"][-1]["content"])
            await self._harm(script, head, asked, reader, writer)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # the other side has left, or asked something else
        finally:
            writer.transport.abort()

    async def _harm(
        self,
        script: dict[str, Any],
        head: str,
        asked: dict[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        call = self.calls[script["name"]]
        call.calls += 1
        call.open += 1
        call.heads.append(head)
        call.bodies.append(asked)
        leaving = asyncio.create_task(reader.read(-1))
        answering = asyncio.create_task(self._say(script, call, writer))
        try:
            await asyncio.wait({leaving, answering}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            call.open -= 1
            call.closed_at = time.monotonic()
            for task in (leaving, answering):
                task.cancel()
            await asyncio.gather(leaving, answering, return_exceptions=True)

    async def _say(self, script: dict[str, Any], call: HostileCall, writer: asyncio.StreamWriter) -> None:
        if script["harm"] == "redirect":
            writer.write(f"HTTP/1.1 307 Go\r\nLocation: {script['to']}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return
        with contextlib.suppress(OSError):
            async for piece in HARMS[script["harm"]]():
                writer.write(piece)
                await writer.drain()
                call.sent += len(piece)
                await asyncio.sleep(0)  # drain returns at once while the kernel has room
