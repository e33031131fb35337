"""Who speaks in a flush: the attempts that have something to say, which gather under load. Pure, no I/O.

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

from worker.carried import Carried

FLUSH_STREAMS: Final = 72
"""Of a flush in which nobody has to wait: up to some 160 streams of 50 tokens/s, 9 ms apart."""
LOAD_FLUSHES: Final = 8
"""What came in a flush counts for an eighth: four times as long as a stream takes from one token to the next."""
MOST_FLUSHES: Final = 4


class Speakers:
    """Those of one log writer."""

    def __init__(self) -> None:
        self._waiting: dict[Carried, int] = {}
        """In which flush's time each began to wait, in that order."""
        self._ripe: dict[Carried, None] = {}
        self._flush = 0
        self._left = 0
        """How many the last flush left waiting."""
        self._load = 0.0
        """Streams a flush, a mean of the last flushes."""

    def __contains__(self, carried: Carried) -> bool:
        return carried in self._waiting

    def add(self, carried: Carried) -> None:
        """This one has something to say, or something more."""
        if carried in self._waiting:
            self._ripe[carried] = None
            return
        self._waiting[carried] = self._flush
        if carried.next_n == 1:
            self._ripe[carried] = None

    def discard(self, carried: Carried) -> None:
        """This one says nothing more."""
        self._waiting.pop(carried, None)
        self._ripe.pop(carried, None)

    def any_but(self, held: Collection[Carried]) -> bool:
        """Whether somebody waits that is not held."""
        return any(carried not in held for carried in self._waiting) if held else bool(self._waiting)

    def take(self, held: Collection[Carried]) -> list[Carried]:
        """Those that speak in this flush, but for the held ones, which keep their place."""
        self._flush += 1
        waiting = self._waiting
        came = len(waiting) - self._left + len(self._ripe)
        self._load += (came - self._load) / LOAD_FLUSHES
        speaking = list(waiting)
        if self._load > FLUSH_STREAMS:
            overdue = takewhile(lambda carried: waiting[carried] <= self._flush - MOST_FLUSHES, waiting)
            speaking = list(dict.fromkeys(chain(overdue, self._ripe)))
        if held:
            speaking = [carried for carried in speaking if carried not in held]
        if len(speaking) == len(waiting):
            self._waiting, self._ripe = {}, {}
        else:
            for carried in speaking:
                self.discard(carried)
        self._left = len(self._waiting)
        return speaking
