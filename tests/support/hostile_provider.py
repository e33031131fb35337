"""A provider that never ends its answers, each without end in its own way and as fast as it is read.

As a program, so that its work is not its test's: ``python -m tests.support.hostile_provider`` prints its port and
ends when its stdin closes. The model names the way: one of HABITS.
"""

import asyncio
import contextlib
import json
import sys
from typing import Any, Final

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
AT_ONCE: Final = 64 * 1024


def chunk(reason: str | None = None, **delta: Any) -> bytes:
    """One event of the OpenAI format."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def _calls(first: int, count: int, **function: str) -> bytes:
    calls = [{"index": n, "id": f"call_{n}", "function": function} for n in range(first, first + count)]
    return chunk(tool_calls=calls)


_FINISHED: Final = chunk(content="Hello") + chunk("stop")

HABITS: Final[dict[str, tuple[bytes, bytes]]] = {
    "text": (b"", chunk(content="x" * 1000)),
    "crumbs": (b"", chunk(content="x") + chunk(reasoning="y")),
    "reasoning": (b"", chunk(reasoning="x" * 1000)),
    "behind_the_reason": (_FINISHED, chunk(content="x" * 1000)),
    "reason_on_all": (b"", chunk("stop", content="x" * 1000)),
    "long_ids": (b"", chunk(tool_calls=[{"index": 0, "id": "x" * 900_000, "function": {"name": "f"}}])),
    "many_calls": (b"".join(_calls(n, 100, name="f", arguments="{}") for n in range(0, 100_000, 100)), b""),
    "call_pieces": (_calls(0, 1000, name="f", arguments='{"a":"}'), _calls(0, 1000, arguments="{}")),
    "parts": (b"", chunk(odd=[[]] * 100)),
    "empty": (chunk(content="Hello"), chunk(content="")),
    "empty_first": (b"", chunk(content="")),
    "pings": (chunk(content="Hello"), b":\n"),
    "blank": (chunk(content="Hello"), b"\n"),
    "wide": (
        chunk(content="Hello"),
        b"data: " + json.dumps({"choices": [{"delta": {}}] * 5000}).encode() + b"\n\n",
    ),
    "behind_done": (_FINISHED + b"data: [DONE]\n\n", chunk(content="late")),
    "pings_behind_the_reason": (_FINISHED, b": ping\n\n"),
    "framing": (chunk(content="Hello"), b""),
}
"""What comes first, and what then comes without an end."""


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        habit = json.loads(await reader.readexactly(length))["model"]
        first, endless = HABITS[habit]
        writer.write(HEAD + (_framed(first) if first else b""))
        more = _framed(endless * max(1, AT_ONCE // len(endless))) if endless else b""
        if habit == "framing":
            writer.write(b"5;x=")
            more = b"y" * AT_ONCE
        while more:
            writer.write(more)
            await writer.drain()
        await reader.read(-1)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()


async def main() -> None:
    """Serve until stdin closes."""
    async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
