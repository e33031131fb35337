"""Places: how many streams one worker carries, and whose.

Theory of operation. A worker has so many places (``HEADRACE_MAX_STREAMS``). A stream that carries nothing gives its
place back: one that waits for a turn at its provider, and one that is paused because nobody watches. Such streams
cost memory alone (their request and what was said), so they are bounded as well, by :data:`HELD` times as many
streams in all; when many go on at once, a worker carries more than its places for that long, and takes nothing new.

Places are shared: no key (and, where the worker knows several providers, no provider) gets one more when it has as
many as are free, and the same holds for the streams in all. A key's places at one provider are bounded in the same
way by what is free beside the provider's, so that no key fills what its provider may have. The rule itself is in
``take.lua``, for it decides job by job while jobs are taken (see :mod:`shared.store.queue`). A provider's share
counts by the job, so a fallback may go over it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shared.store.queue import Job, Lane, Shares

HELD: Final = 4
"""Streams in all, as a multiple of the places. With answers of 4 MiB at the most, 800 idle ones are 3 GB at worst;
a usual one takes 50 kB."""


class Places:
    """The places of one worker process."""

    def __init__(self, places: int, *, keys: bool = False, providers: bool = False, most_of_key: int = 0) -> None:
        """``keys``, ``providers``: these share the places; ``most_of_key``: places of a key, 0: its share."""
        self._places = places
        self._shared = (keys or most_of_key > 0, providers, most_of_key)
        self._jobs: dict[str, Job] = {}
        self._all: Counter[str] = Counter()
        self._idle: Counter[str] = Counter()
        self._held = 0
        self._resting = 0

    @property
    def free(self) -> int:
        """How many more streams can be taken now."""
        return min(self._places - self._held + self._resting, HELD * self._places - self._held)

    @property
    def shares(self) -> Shares:
        """What can be taken now, and of whom."""
        held = {name: (count - self._idle[name], count) for name, count in self._all.items()}
        free = self._places - self._held + self._resting
        return Shares(free, HELD * self._places - self._held, *self._shared, held)

    def take(self, job: Job) -> None:
        """A place for this job, until it leaves."""
        self._held += 1
        self._all.update(_names(job.lane))
        # The second one of a job that came twice only looks.
        self._jobs.setdefault(job.stream_id, job)

    def leave(self, job: Job) -> None:
        """It is over."""
        self._held -= 1
        _less(self._all, _names(job.lane))
        if self._jobs.get(job.stream_id) is job:
            del self._jobs[job.stream_id]

    @contextmanager
    def given_back(self, stream_id: str) -> Iterator[None]:
        """This stream needs no place, as long as the block lasts."""
        job = self._jobs.get(stream_id)
        if job is None:  # arq's own worker runs it, which counts for itself
            yield
            return
        names = _names(job.lane)
        self._resting += 1
        self._idle.update(names)
        try:
            yield
        finally:
            self._resting -= 1
            _less(self._idle, names)


def _names(lane: Lane) -> tuple[str, str, str]:
    return f"key:{lane.owner}", f"provider:{lane.provider}", f"lane:{lane}"


def _less(counts: Counter[str], names: tuple[str, ...]) -> None:
    for name in names:
        counts[name] -= 1
        if not counts[name]:
            del counts[name]
