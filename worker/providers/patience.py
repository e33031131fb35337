"""How long a provider may keep silent: one timer for a whole answer.

Theory of operation. A limit counts only the time in which the provider is waited for, so a consumer that holds it
back (backpressure) never makes it look silent; keep-alive comments that mean nothing do not refill it,
:meth:`Patience.reset` does. What came and waits to be read may be of meaning, so nothing expires before that was
looked at. A timer for each read would be created and cancelled for each token. Here one is armed and left alone:
what is said only moves the deadline, and the timer, when it fires before that, arms itself again.
"""

import asyncio
from collections.abc import Callable


class Patience:
    """The time left for a provider to say something."""

    def __init__(self, limit_s: float, has_unread: Callable[[], bool], expired: Callable[[], object]) -> None:
        """``expired`` is called once, when the limit is over while the provider is waited for; ``has_unread`` says
        whether something came that was not read yet."""
        self._loop = asyncio.get_running_loop()
        self._has_unread = has_unread
        self._expired = expired
        self._left_s = limit_s
        self._since: float | None = None
        self._overdue = False
        self._timer: asyncio.TimerHandle | None = None

    def reset(self, limit_s: float) -> None:
        """The provider said something of meaning: so long may the next silence be."""
        shorter = limit_s < self._left_s
        self._left_s = limit_s
        if self._since is not None:
            if shorter or self._timer is None:
                self.begin()
            else:
                self._since = self._loop.time()

    def nothing_new(self) -> None:
        """What had come was read, and nothing of it was of meaning."""
        if self._overdue and self._since is not None:
            self._since = None
            self._expired()

    def begin(self) -> None:
        """The provider is waited for from now on."""
        self._overdue = False
        self._since = self._loop.time()
        deadline = self._since + self._left_s
        if self._timer is None or deadline < self._timer.when():
            self._arm(deadline)

    def hold(self) -> None:
        """It is not waited for any more."""
        if self._since is not None:
            self._left_s -= self._loop.time() - self._since
            self._since = None

    def close(self) -> None:
        """Drop the timer, and whoever was to be told: nothing is waited for any more."""
        self._since = None
        self._has_unread = self._expired = lambda: False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._since is None:
            return
        deadline, now = self._since + self._left_s, self._loop.time()
        if now < deadline:
            self._arm(deadline)
        elif self._has_unread():
            self._overdue = True
        else:
            self._since = None
            self._expired()
