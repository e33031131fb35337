"""A worker whose event loop can be blocked from outside: the process lives, its sockets take what comes, and
nothing of it runs. SIGUSR2 does that for BLOCKED_S."""

import signal
import time
from types import FrameType

from worker.main import main

BLOCKED_S = 4.0
"""Longer than a lease of 3 s."""


def block(sig: int, frame: FrameType | None) -> None:
    """Keep the thread that runs the loop."""
    time.sleep(BLOCKED_S)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, block)
    main()
