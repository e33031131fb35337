"""What Linux tells of a process: its size, and the time for which it ran and waited for a processor."""

import re
from contextlib import suppress
from pathlib import Path


def begin_peak(pid: int) -> float:
    """Forget the peak so far. Out: the resident size now (MiB)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return resident(pid)


def resident(pid: int) -> float:
    """The resident size now (MiB)."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> float:
    """The largest resident size since :func:`begin_peak`, or since it was started (MiB)."""
    return _status(pid, "VmHWM")


def cpu_times(pid: int) -> tuple[float, float]:
    """For how long it has run, and has been ready to run and had no processor (s), in all its threads."""
    run = waited = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            one = file.read_text().split()
            run, waited = run + int(one[0]), waited + int(one[1])
    return run / 1e9, waited / 1e9


def _status(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found, f"process {pid} has ended"
    return int(found[1]) / 1024
