"""A bystander: reads a stream in a process of its own, and tells its longest gap.

    python -m tests.support.bystander URL

It reads until its input ends, and then prints the gap (s) and the number of pieces.

In a process of its own, so that it is not held up by whoever attacks the API in the test's.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.sse_socket import SseSocket
from tests.support.stack import Stack

TOKENS = 100_000
INTERVAL_MS = 50
ROOT = Path(__file__).parents[2]


class Bystander:
    """What it saw; known when the block of :func:`beside` has ended."""

    longest_gap_s = 0.0
    pieces = 0


@asynccontextmanager
async def beside(stack: Stack, **create: object) -> AsyncIterator[Bystander]:
    """A stream of 20 tokens/s, and its reader beside the block."""
    made = await stack.create({"tokens": TOKENS, "interval_ms": INTERVAL_MS, "name": "bystander"}, **create)
    await stack.until_said(made["id"])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.bystander",
        stack.apis[0].url + made["events_url"],
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    seen = Bystander()
    try:
        assert await process.stdout.readline() == b"reading\n"
        yield seen
        process.stdin.close()
        answer = json.loads(await process.stdout.read())
        seen.longest_gap_s, seen.pieces = answer["gap_s"], answer["pieces"]
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        await stack.client.delete(f"/v1/streams/{made['id']}")


async def _read(url: str) -> None:
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    gap_s, pieces, last = 0.0, 0, 0.0

    async with await SseSocket.open(url) as response:

        async def read() -> None:
            nonlocal gap_s, pieces, last
            async for _ in response.body():
                now = time.monotonic()
                if last:
                    gap_s = max(gap_s, now - last)
                else:
                    print("reading", flush=True)
                last = now
                pieces += 1

        reading = asyncio.create_task(read())
        await ended
        gap_s = max(gap_s, time.monotonic() - last)
        reading.cancel()
    print(json.dumps({"gap_s": gap_s, "pieces": pieces}))


if __name__ == "__main__":
    asyncio.run(_read(sys.argv[1]))
