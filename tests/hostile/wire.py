"""Raw HTTP for attackers: any bytes, in any order, at any speed, from any loopback address."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

ATTACKER = "127.0.0.66"
"""Where attacks come from: the bystander is at another address, as on another machine."""
ANSWER_S = 8.0
"""Without an answer for so long the outcome is ``no answer``."""


@dataclass
class Answer:
    """What came back: all bytes, and whether the connection was closed (``closed``, ``reset``, or '': open)."""

    data: bytes = b""
    end: str = ""

    @property
    def statuses(self) -> list[int]:
        """The status of each response in it."""
        return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.data)]

    @property
    def outcome(self) -> str:
        """The first status, with the problem's code where there is one; else how the connection ended."""
        return outcome_of(self.statuses[0], self.data) if self.statuses else self.end or "no answer"


def outcome_of(status: int, body: bytes) -> str:
    """``429 rate_limited``; the status alone without a problem's code."""
    code = re.search(rb'"code": ?"([a-z_]+)"', body) if status >= 400 else None
    return f"{status} {code[1].decode()}" if code else str(status)


def address(url: str) -> tuple[str, int]:
    """Host and port of a base URL."""
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 80)


async def connect(url: str, source: str = ATTACKER) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the API at this base URL. Raises ``OSError``."""
    host, port = address(url)
    return await asyncio.wait_for(asyncio.open_connection(host, port, local_addr=(source, 0)), ANSWER_S)


def head(method: str, path: str, *headers: str, host: str = "127.0.0.1") -> bytes:
    """A request's head, with ``Connection: close``."""
    lines = (f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape")


def post(path: str, body: object, *headers: str) -> bytes:
    """A whole POST with a JSON body (or with these bytes)."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head("POST", path, "Content-Type: application/json", f"Content-Length: {len(data)}", *headers) + data


async def ask(
    url: str, pieces: bytes | Iterable[bytes] | AsyncIterator[bytes], *, within_s: float = ANSWER_S
) -> Answer:
    """Send these pieces on a new connection, and read until it is closed or ``within_s`` have passed.

    It stops sending when the server closes. It does not wait for an answer before it sends on.
    """
    answer = Answer()
    try:
        reader, writer = await connect(url)
    except OSError:
        return Answer(end="reset")
    sending = asyncio.create_task(_send(writer, pieces))
    try:
        async with asyncio.timeout(within_s):
            while piece := await reader.read(65536):
                answer.data += piece
        answer.end = "closed"
    except TimeoutError:
        pass
    except OSError:
        answer.end = "reset"
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()
    return answer


async def _send(writer: asyncio.StreamWriter, pieces: bytes | Iterable[bytes] | AsyncIterator[bytes]) -> None:
    with contextlib.suppress(OSError):
        if isinstance(pieces, bytes):
            writer.write(pieces)
        elif isinstance(pieces, AsyncIterator):
            async for piece in pieces:
                writer.write(piece)
                await writer.drain()
        else:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        await writer.drain()
