"""How long a provider may keep silent: one timer for many reads.

Theory of operation. A limit counts only the time spent waiting for the provider, so a consumer that is slow
(backpressure) never makes the provider look silent; keep-alive comments that mean nothing do not refill it,
:meth:`Patience.reset` does. ``asyncio.timeout`` around each read would create and cancel a timer per token.
Here one timer is armed and left alone: a read only writes down its deadline, and the timer, when it
fires before that, arms itself again. So a stream costs one timer per limit, not one per token.

When the limit is over while a read waits, the timer cancels the task that reads, as ``asyncio.timeout``
does, and the cancellation becomes ``TimeoutError``. It can't hit anything else: the timer cancels only while
``_task`` is set, which is while the task is suspended in that very ``await``. A cancellation from outside
that comes with it wins (``uncancel`` stays above what it was).
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Patience:
    """The time left for a provider to say something; used by one task at a time."""

    def __init__(self, limit_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._left_s = limit_s
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._expired = False

    def reset(self, limit_s: float) -> None:
        """The provider said something of meaning: so long may the next silence be."""
        self._left_s = limit_s

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await it within the time left. Raises ``TimeoutError`` when that is over."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a provider is read inside a task")
        cancelling = task.cancelling()
        started = self._loop.time()
        self._deadline = started + self._left_s
        if self._timer is None or self._deadline < self._timer.when():
            self._arm()
        self._task = task
        try:
            return await awaitable
        except BaseException as error:
            expired, self._expired = self._expired, False
            if expired and task.uncancel() <= cancelling and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from None
            raise
        finally:
            self._task = None
            self._left_s -= self._loop.time() - started

    def close(self) -> None:
        """Drop the timer; nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.close()
        self._timer = self._loop.call_at(self._deadline, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._deadline:
            self._arm()
            return
        self._expired = True
        self._task.cancel()
