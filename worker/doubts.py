"""The attempts whose logs must be looked at before anything else is written to them. Pure, no I/O.

What stays doubtful is looked at every DOUBT_S, and nobody else waits for it: an erased stream may stay so for a
minute.
"""

from typing import Final

from worker.carried import GONE, HELD_UP_S, Carried

DOUBT_S: Final = 0.1


class Doubts:
    """Those of one log writer, in order."""

    def __init__(self) -> None:
        self._attempts: dict[Carried, None] = {}
        self._due_at = 0.0

    def __contains__(self, carried: Carried) -> bool:
        return carried in self._attempts

    def all(self) -> set[Carried]:
        return set(self._attempts)

    def add(self, *attempts: Carried) -> None:
        """These are looked at next."""
        self._attempts |= dict.fromkeys(attempts)
        self._due_at = 0.0

    def keep(self, carried: Carried) -> None:
        """This one is still doubtful: it is looked at again when its time comes."""
        self._attempts[carried] = None

    def discard(self, carried: Carried) -> bool:
        """This one is not doubtful any more. Out: whether it was."""
        was = carried in self._attempts
        self._attempts.pop(carried, None)
        return was

    def due(self, now: float) -> list[Carried]:
        """What is to be looked at now, if it is time; then it is time again after DOUBT_S."""
        if not self._attempts or now < self._due_at:
            return []
        # Half of it, for a timer may fire a little early, and nobody would look again.
        self._due_at = now + DOUBT_S / 2
        return list(self._attempts)


def may_come_back(carried: Carried, calm_ms: int, now: float) -> bool:
    """Whether a stream that is missing waits for its creator, who may have to write it again. One that speaks, at a
    server with which nothing was wrong for a while, was erased."""
    troubled = calm_ms < HELD_UP_S[GONE] * 1000
    return (troubled or carried.ended_at is not None) and carried.held_up(now, GONE)
