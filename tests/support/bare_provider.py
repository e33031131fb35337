"""A provider that sends bytes as they are: cut inside a character or an event, or megabytes in one write."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
WORDS = ["Über", " den", " Fluß", " 流れ", " 🌊", " é", " end."]
MIB = 1024 * 1024


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


END = _chunk({}, "stop") + b"data: [DONE]\n\n"
WHOLE = b"".join(_chunk({"content": word}) for word in WORDS) + END


def bulk_text(mib: int) -> str:
    """An answer of so many MiB, no two KiB of it alike."""
    return "".join(f"{n:1023d} " for n in range(mib * 1024))


@asynccontextmanager
async def bare_provider() -> AsyncIterator[str]:
    """Out: its base URL. What it sends is said by the prompt, which is JSON.

    ``{"name", "cut", "how"}``: the first call of a name gets the first ``cut`` bytes of WHOLE and then an end, or
    a reset where ``how`` is so; later ones get all of it. ``{"bulk": mib}``: :func:`bulk_text` in pieces of 1 KiB,
    all in one write.
    """
    counts: Counter[str] = Counter()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        asked = json.loads(json.loads(await reader.readexactly(length))["messages"][-1]["content"])
        name = asked.get("name", "")
        counts[name] += 1
        writer.write(HEAD)
        if mib := asked.get("bulk"):
            text = bulk_text(mib)
            writer.write(b"".join(_chunk({"content": text[at : at + 1024]}) for at in range(0, len(text), 1024)))
            writer.write(END)
        else:
            writer.write(WHOLE[: asked["cut"]] if counts[name] == 1 else WHOLE)
        await writer.drain()
        if asked.get("how") == "reset" and counts[name] == 1:
            await asyncio.sleep(0.05)  # a reset throws away what the other side has not read yet
            writer.transport.abort()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
