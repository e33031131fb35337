"""The flush policy: which attempts a flush takes; under load tokens gather. Pure, no I/O.

Theory of operation. Whatever comes behind a flush (Redis, the API, a viewer's socket) costs by the entry, and not
by the token. While it comes from FLUSH_STREAMS streams a flush or fewer, a flush takes all that wait, and nobody
waits for anybody. Where it is more, it takes those that have something new for the second time, those that have
said nothing yet, and those that have waited for MOST_FLUSHES flushes; the others wait for the next one. So two
tokens share an entry, and the first of them waits as long as the second takes to come, or MOST_FLUSHES flushes if
that is less. At 200 streams of 50 tokens/s a token costs a fifth less than in an entry of its own, with a p99 of
35 ms; at 400 it is 38. Three to an entry would be more than 50.

The load is a mean over flushes, for streams that began together speak together: 100 of them may all fall into one
flush, and none into the next. (By those that wait in this very flush, 100 streams gathered in some runs, with a
p99 of 18 to 28 ms in place of 13; by those of this one and the last, in fewer.)

Rejected: so many streams a flush, the longest-waiting first. That gathers 1.7 tokens for a p99 of 39 ms.
"""

from collections.abc import Collection
from itertools import chain, takewhile
from typing import Final

from worker.log.attempt_log import AttemptLog

FLUSH_STREAMS: Final = 72
"""Of a flush in which nobody has to wait: up to some 160 streams of 50 tokens/s, 9 ms apart."""
LOAD_FLUSHES: Final = 8
"""What came in a flush counts for an eighth: four times as long as a stream takes from one token to the next."""
MOST_FLUSHES: Final = 4


class FlushPolicy:
    """Those of one log writer."""

    def __init__(self) -> None:
        self._waiting: dict[AttemptLog, int] = {}
        """In which flush's time each began to wait, in that order."""
        self._ripe: dict[AttemptLog, None] = {}
        self._flush = 0
        self._left = 0
        """How many the last flush left waiting."""
        self._load = 0.0
        """Streams a flush, a mean of the last flushes."""

    def __contains__(self, attempt: AttemptLog) -> bool:
        return attempt in self._waiting

    def add(self, attempt: AttemptLog) -> None:
        """This one has something to say, or something more."""
        if attempt in self._waiting:
            self._ripe[attempt] = None
            return
        self._waiting[attempt] = self._flush
        if attempt.next_n == 1:
            self._ripe[attempt] = None

    def discard(self, attempt: AttemptLog) -> None:
        """This one says nothing more."""
        self._waiting.pop(attempt, None)
        self._ripe.pop(attempt, None)

    def any_but(self, held: Collection[AttemptLog]) -> bool:
        """Whether somebody waits that is not held."""
        return any(attempt not in held for attempt in self._waiting) if held else bool(self._waiting)

    def take(self, held: Collection[AttemptLog]) -> list[AttemptLog]:
        """Those that speak in this flush, but for the held ones, which keep their place."""
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
