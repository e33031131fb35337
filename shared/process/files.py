"""How many files and sockets a process may have open (RLIMIT_NOFILE), and what an API process does with them.

Shells give a process 1,024 by default (the soft limit), and let it raise that itself up to the hard limit. A
process that has none left can't take a connection, and nothing tells its callers why: so connections are counted,
and what can't be served is refused before that.
"""

import contextlib
import resource
from dataclasses import dataclass
from typing import Final

RESERVED: Final = 96
"""Files that are no connections of callers: Redis, the log, the event loop, listeners, what is served from disk."""
MAX_WAITING: Final = 2048
"""Connections without a whole request: as many as the listening socket's backlog. In a usual moment some dozens."""
UNLIMITED: Final = 1_000_000
"""What stands for no limit at all."""


@dataclass(frozen=True, slots=True)
class Room:
    """How an API process uses its files: ``connections`` in all, of which so many are viewers and so many wait
    (have not sent a whole request). ``wanted`` viewers were asked for."""

    connections: int
    waiting: int
    viewers: int
    wanted: int

    @property
    def enough(self) -> bool:
        return self.viewers == self.wanted


def find_room(files: int, viewers: int) -> Room:
    """In: the files that the process may have open; the viewers that are asked for."""
    connections = max(files - RESERVED, 8)
    waiting = min(MAX_WAITING, connections // 4)
    return Room(connections, waiting, min(viewers, connections - waiting), viewers)


def raise_file_limit() -> int:
    """Raise the soft limit to the hard one. Out: how many files this process may have open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # where the system has a lower limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return _count(soft)


def file_limit() -> int:
    """How many files a process may have open that raises its limit."""
    return _count(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _count(limit: int) -> int:
    return UNLIMITED if limit == resource.RLIM_INFINITY else limit
