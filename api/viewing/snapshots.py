"""Reading everything that a stream has said: once for all who want it at once.

Theory of operation. A snapshot of a long answer is megabytes: reading it, taking it apart and writing it out again
costs ten milliseconds and more, and four hundred callers may want the same one. So there are two ways to share it:

- *The record* must show whatever its caller knows (a cancel that was just answered). Callers that come while a read
  is under way share the next one, which begins when that has ended: at most one read of a stream runs at a time,
  and none is older than its caller's question.
- *A viewer's snapshot* may be older, because the viewer goes on behind it. It is read at most once in
  :data:`SHARED_S`, and all its viewers hold the same bytes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

SHARED_S: Final = 1.0

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class SingleFlight(Generic[_Key, _Value]):
    """Reads by key, each shared by all who ask before it begins."""

    def __init__(self, read: Callable[[_Key], Awaitable[_Value]]) -> None:
        self._read = read
        self._running: dict[_Key, asyncio.Task[_Value]] = {}
        self._next: dict[_Key, asyncio.Task[_Value]] = {}

    async def get(self, key: _Key) -> _Value:
        """What a read brings that begins now or later. Raises what the read raises."""
        waiting = self._next.get(key)
        if waiting is None:
            before = self._running.get(key)
            waiting = asyncio.create_task(self._fly(key, before))
            (self._running if before is None else self._next)[key] = waiting
        return await asyncio.shield(waiting)

    async def _fly(self, key: _Key, before: "asyncio.Task[_Value] | None") -> _Value:
        me = asyncio.current_task()
        if before is not None:
            await asyncio.wait((before,))
            self._running[key] = self._next.pop(key)
        try:
            return await self._read(key)
        finally:
            if self._running.get(key) is me and key not in self._next:
                del self._running[key]


class Recent(Generic[_Value]):
    """One value that is read at most once in :data:`SHARED_S`."""

    __slots__ = ("_began", "_task")

    def __init__(self) -> None:
        self._began = 0.0
        self._task: asyncio.Task[_Value] | None = None

    async def get(self, read: Callable[[], Awaitable[_Value]]) -> _Value:
        """What was read a moment ago, or what ``read`` brings. Raises what the read raises."""
        now, task = asyncio.get_running_loop().time(), self._task
        stale = task is None or now - self._began > SHARED_S
        if task is None or stale or (task.done() and (task.cancelled() or task.exception() is not None)):
            self._began = now
            self._task = task = asyncio.create_task(_run(read))
            asyncio.get_running_loop().call_later(SHARED_S, self._drop, task)
        return await asyncio.shield(task)

    def _drop(self, task: asyncio.Task[_Value]) -> None:
        """It may be megabytes, and is stale now."""
        if self._task is task:
            self._task = None

    def forget(self) -> None:
        """What was read is not to be used any more."""
        self._task = None


async def _run(read: Callable[[], Awaitable[_Value]]) -> _Value:
    return await read()
