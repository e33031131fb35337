"""The number of files and sockets that a process may have open (RLIMIT_NOFILE), and how an API process divides it.

A shell gives a process 1,024 by default (the soft limit), and the process may raise that up to the hard limit. A
process without a free file can't accept a connection, and its callers would not learn why. So connections are
counted, and those that can't be served are refused before the limit is reached.
"""

import contextlib
import resource
from dataclasses import dataclass
from typing import Final

RESERVED: Final = 96
"""Files that are no connections of callers: Redis, the log, the event loop, listeners, files served from disk."""
MAX_WAITING: Final = 2048
"""Connections without a whole request: as many as the listening socket's backlog. Usually there are some dozens."""
UNLIMITED: Final = 1_000_000
"""The number that is used where the system has no limit."""


@dataclass(frozen=True, slots=True)
class Room:
    """How an API process uses its files. ``connections``: all of them; ``waiting``: those that may wait (have not
    sent a whole request); ``viewers``: those that may be viewers; ``wanted``: the viewers that the settings ask
    for."""

    connections: int
    waiting: int
    viewers: int
    wanted: int

    @property
    def enough(self) -> bool:
        return self.viewers == self.wanted


def find_room(files: int, viewers: int) -> Room:
    """Divide the files. In: the files that the process may have open; the viewers that the settings ask for."""
    connections = max(files - RESERVED, 8)
    waiting = min(MAX_WAITING, connections // 4)
    return Room(connections, waiting, min(viewers, connections - waiting), viewers)


def raise_file_limit() -> int:
    """Raise the soft limit to the hard one. Out: the number of files that this process may have open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # where the system has a lower limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return _count(soft)


def file_limit() -> int:
    """The number of files that a process may have open once it has raised its limit."""
    return _count(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _count(limit: int) -> int:
    return UNLIMITED if limit == resource.RLIM_INFINITY else limit
