"""The flush policy: which attempts a flush takes. Under load it lets tokens gather. Pure, no I/O.

Theory of operation. Everything after a flush (Redis, the API, a viewer's socket) costs by the entry, not by the
token. While at most FLUSH_STREAMS streams a flush have something to write, a flush takes all of them, and none
waits. Above that, a flush takes only the attempts that have new tokens for the second time, those that have written
nothing yet, and those that have waited for MOST_FLUSHES flushes. The others wait for the next flush. So two tokens
share an entry. The first of them waits until the second one comes, but for MOST_FLUSHES flushes at most. At 200
streams of 50 tokens/s a token then costs a fifth less than in an entry of its own, with a p99 of 35 ms; at 400
streams the p99 is 38 ms. Three tokens to an entry would take more than 50 ms.

The load is a mean over flushes, because streams that began together write together: 100 of them may all fall into
one flush, and none into the next. (Two other measures were tried. With the number that waits in this flush, 100
streams gathered in some runs, with a p99 of 18 to 28 ms instead of 13. With the sum of this flush and the last,
they did so in fewer runs.)

Rejected: a fixed number of streams a flush, the longest-waiting first. That gathers 1.7 tokens for a p99 of 39 ms.
"""

from collections.abc import Collection
from itertools import chain, takewhile
from typing import Final

from worker.log.attempt_log import AttemptLog

FLUSH_STREAMS: Final = 72
"""The most streams a flush without gathering. It is reached by some 160 streams of 50 tokens/s, at flushes 9 ms
apart."""
LOAD_FLUSHES: Final = 8
"""The length of the mean, in flushes: one flush counts for an eighth. That is four times as long as the time
between two tokens of a stream."""
MOST_FLUSHES: Final = 4
"""The most flushes for which an attempt waits."""


class FlushPolicy:
    """The attempts of one log writer that wait for a flush."""

    def __init__(self) -> None:
        self._waiting: dict[AttemptLog, int] = {}
        """Each waiting attempt with the number of the flush at which it began to wait, in that order."""
        self._ripe: dict[AttemptLog, None] = {}
        self._flush = 0
        self._left = 0
        """How many attempts the last flush left waiting."""
        self._load = 0.0
        """Streams a flush: the mean of the last flushes."""

    def __contains__(self, attempt: AttemptLog) -> bool:
        return attempt in self._waiting

    def add(self, attempt: AttemptLog) -> None:
        """This attempt has something to write, or something more."""
        if attempt in self._waiting:
            self._ripe[attempt] = None
            return
        self._waiting[attempt] = self._flush
        if attempt.next_n == 1:
            self._ripe[attempt] = None

    def discard(self, attempt: AttemptLog) -> None:
        """This attempt does not wait any more."""
        self._waiting.pop(attempt, None)
        self._ripe.pop(attempt, None)

    def any_but(self, held: Collection[AttemptLog]) -> bool:
        """Whether an attempt waits that is not held."""
        return any(attempt not in held for attempt in self._waiting) if held else bool(self._waiting)

    def take(self, held: Collection[AttemptLog]) -> list[AttemptLog]:
        """The attempts of this flush. Held ones are left out, and keep their place."""
        self._flush += 1
        waiting = self._waiting
        came = len(waiting) - self._left + len(self._ripe)
        self._load += (came - self._load) / LOAD_FLUSHES
        speaking = list(waiting)
        if self._load > FLUSH_STREAMS:
            overdue = takewhile(lambda attempt: waiting[attempt] <= self._flush - MOST_FLUSHES, waiting)
            speaking = list(dict.fromkeys(chain(overdue, self._ripe)))
        if held:
            speaking = [attempt for attempt in speaking if attempt not in held]
        if len(speaking) == len(waiting):
            self._waiting, self._ripe = {}, {}
        else:
            for attempt in speaking:
                self.discard(attempt)
        self._left = len(self._waiting)
        return speaking
