"""How large a process is, and how large it has been since it was last asked. Linux only."""

import re
from pathlib import Path
from typing import Final

MB: Final = 1024 * 1024


def begin_peak(pid: int) -> float:
    """Forget the peak so far. Out: the resident size now (MB)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status(pid, "VmRSS")


def peak(pid: int) -> float:
    """The largest resident size since :func:`begin_peak` (MB)."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
