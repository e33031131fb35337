"""Places: how many streams one worker runs, and how keys and providers share them.

Theory of operation. A worker has ``HEADRACE_MAX_STREAMS`` places. A stream gives its place back while it has
nothing to carry: while it waits for a turn at its provider, or is paused because nobody watches. Such a stream
costs only memory (its request and the text so far), so all streams together are bounded by :data:`HELD` times the
places. When many idle streams resume at once, a worker runs more streams than it has places. It takes no new ones
until enough have ended.

Places are shared. A key that holds as many places as are free gets no more; if the worker knows several providers,
the same holds for each provider. The bound on all streams is shared in the same way. At one provider a key may hold
at most the free places minus all places of that provider, so that no key uses up its provider's share.
The rule itself is in ``take.lua``, because it must be applied for each job while jobs are taken (see
:mod:`shared.store.queue`). A job counts for the provider that it named when it was taken, so a fallback may exceed
that provider's share.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shared.store.queue import Job, Lane, Shares

HELD: Final = 4
"""The bound on all streams, as a multiple of the places. An answer has at most 4 MiB, so 800 idle streams take 3 GB
at worst; a usual one takes 50 kB."""


class Places:
    """The places of one worker process."""

    def __init__(self, places: int, *, keys: bool = False, providers: bool = False, most_of_key: int = 0) -> None:
        """``keys``, ``providers``: whether they share the places. ``most_of_key``: a fixed limit for each key; 0:
        its share."""
        self._places = places
        self._shared = (keys or most_of_key > 0, providers, most_of_key)
        self._jobs: dict[str, Job] = {}
        self._all: Counter[str] = Counter()
        self._idle: Counter[str] = Counter()
        self._held = 0
        self._resting = 0

    @property
    def free(self) -> int:
        """How many more streams this worker can take now."""
        return min(self._places - self._held + self._resting, HELD * self._places - self._held)

    @property
    def shares(self) -> Shares:
        """How many streams this worker can take now, and what each key and provider holds."""
        held = {name: (count - self._idle[name], count) for name, count in self._all.items()}
        free = self._places - self._held + self._resting
        return Shares(free, HELD * self._places - self._held, *self._shared, held)

    def take(self, job: Job) -> None:
        """Give this job a place until :meth:`leave`."""
        self._held += 1
        self._all.update(_names(job.lane))
        # A job may come twice. The second claim is refused, so the first one owns the stream here.
        self._jobs.setdefault(job.stream_id, job)

    def leave(self, job: Job) -> None:
        """This job has ended: free its place."""
        self._held -= 1
        _less(self._all, _names(job.lane))
        if self._jobs.get(job.stream_id) is job:
            del self._jobs[job.stream_id]

    @contextmanager
    def given_back(self, stream_id: str) -> Iterator[None]:
        """Give this stream's place back as long as the block lasts."""
        job = self._jobs.get(stream_id)
        if job is None:  # arq's own worker runs the job, and counts its jobs itself
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
