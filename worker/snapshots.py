"""Snapshots: everything said so far, kept beside the log by a script behind the appends that it tells of.

Only what was acknowledged goes into one, every half cap and at the end, so that a trimmed log plus its
snapshot always holds everything. It grows at a checked offset; where the server's has another length (its
last seconds were lost, or a script was refused for want of memory), it is written anew as a whole.
"""

import asyncio
from collections.abc import Callable

import structlog

from worker.batch import Call
from worker.carried import Carried

log = structlog.get_logger("worker.snapshots")


class Snapshots:
    """Keeps the snapshots of one log writer."""

    def __init__(self, line_up: Callable[[Call], None], doubt: Callable[[Carried], None]) -> None:
        self._line_up = line_up
        self._doubt = doubt

    def keep(self, carried: Carried, *, anew: bool = False) -> None:
        """Bring this attempt's snapshot up to all that was acknowledged."""
        call = Call(carried, "snapshot", (carried.epoch, *carried.snapshot_step(anew=anew)))
        call.answer.add_done_callback(lambda done: self._kept(carried, done))
        self._line_up(call)

    def _kept(self, carried: Carried, done: "asyncio.Future[bytes]") -> None:
        if done.cancelled() or carried.stopped.done():
            return
        error = done.exception()
        if error is not None:
            # The next step finds another length than it expects, and writes the snapshot anew.
            log.warning("snapshot_refused", stream=carried.stream_id, detail=str(error)[:200])
        elif done.result().startswith(b"mismatch"):
            self.keep(carried, anew=True)
        elif done.result() != b"ok":
            self._doubt(carried)
