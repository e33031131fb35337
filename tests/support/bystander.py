"""A bystander: reads a stream in a process of its own, and tells its longest gap.

    python -m tests.support.bystander URL

It reads until its input ends, and then prints the gap (s), the number of pieces, and how long the same short piece
of work took at most (s).

In a process of its own, so that it is not held up by whoever attacks the API in the test's. A token on its way
passes five processes, each of which needs a core. The work shows how long one waits for a core here and now: a busy
machine is not taken for a busy API.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.sse_socket import SseSocket
from tests.support.stack import Stack

TOKENS = 100_000
INTERVAL_MS = 50
OPENING = 5
"""Pieces until tokens come at their pace; before, the stream waits for its worker."""
GAP_S = 1.0
"""That a bystander may wait; 0.5 s is the bar of `make hostile`, which has the machine to itself."""
WORK = 100_000
"""Numbers to add up: 3 ms of work."""
WORKS_EACH_S = 0.1
WORKS_IN_A_GAP = 20
"""Waits for a core that may add up in one gap: four in each process."""
ROOT = Path(__file__).parents[2]


class Bystander:
    """What it saw; known when the block of :func:`beside` has ended."""

    longest_gap_s = 0.0
    longest_work_s = 0.0
    pieces = 0

    @property
    def allowed_s(self) -> float:
        """How long the gap may be."""
        return GAP_S + WORKS_IN_A_GAP * self.longest_work_s


@asynccontextmanager
async def beside(stack: Stack, headers: Mapping[str, str] | None = None) -> AsyncIterator[Bystander]:
    """A stream of 20 tokens/s, created with these headers, and its reader beside the block."""
    script = {"tokens": TOKENS, "interval_ms": INTERVAL_MS, "name": "bystander"}
    made = await stack.create(script, headers=headers or {})
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
        seen.longest_gap_s, seen.longest_work_s, seen.pieces = answer["gap_s"], answer["work_s"], answer["pieces"]
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        await stack.client.delete(f"/v1/streams/{made['id']}", headers=headers)


async def _read(url: str) -> None:
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    gap_s, work_s, pieces, last = 0.0, 0.0, 0, 0.0

    async with await SseSocket.open(url) as response:

        async def read() -> None:
            nonlocal gap_s, pieces, last
            async for _ in response.body():
                now = time.monotonic()
                pieces += 1
                if pieces > OPENING:
                    gap_s = max(gap_s, now - last)
                elif pieces == OPENING:
                    print("reading", flush=True)
                last = now

        async def work() -> None:
            nonlocal work_s
            while True:
                began = time.monotonic()
                sum(range(WORK))
                work_s = max(work_s, time.monotonic() - began)
                await asyncio.sleep(WORKS_EACH_S)

        tasks = [asyncio.create_task(read()), asyncio.create_task(work())]
        await ended
        gap_s = max(gap_s, time.monotonic() - last)
        for task in tasks:
            task.cancel()
    print(json.dumps({"gap_s": gap_s, "work_s": work_s, "pieces": pieces}))


if __name__ == "__main__":
    asyncio.run(_read(sys.argv[1]))
