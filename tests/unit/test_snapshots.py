"""A viewer's snapshot is read once for all who want it now, and not kept when it is stale."""

import asyncio
import gc
import weakref

import pytest

from api.viewing import snapshots
from api.viewing.snapshots import Recent


class Value:
    pass


async def test_what_is_read_is_shared_for_a_moment_and_then_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SHARED_S", 0.3)
    recent: Recent[Value] = Recent()
    reads = 0

    async def read() -> Value:
        nonlocal reads
        reads += 1
        return Value()

    first, second = await asyncio.gather(recent.get(read), recent.get(read))
    assert first is second
    assert reads == 1
    kept = weakref.ref(first)
    del first, second
    assert kept() is not None
    async with asyncio.timeout(60):
        while kept() is not None:
            await asyncio.sleep(0.05)
            gc.collect()
    await recent.get(read)
    assert reads == 2
