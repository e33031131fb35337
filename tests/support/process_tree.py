"""Which processes a test run still has.

Theory of operation. The run adopts orphans of its children (:func:`adopt_orphans`), so whatever is left at
its end is a child of this process: it is found, named and ended by its pid, without a look at other
people's processes.
"""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def adopt_orphans() -> None:
    """From now on orphans of this process's children become its own children (Linux only)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopts_orphans() -> bool:
    """Whether :func:`adopt_orphans` was called here."""
    if not sys.platform.startswith("linux"):
        return False
    found = ctypes.c_int(0)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return bool(found.value)


def children(parent: int | None = None) -> dict[int, str]:
    """Live children of a process (default: this one): command lines by pid. None without a /proc."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == (parent or os.getpid()) and state != "Z":
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                found[int(entry.name)] = command.strip()
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
