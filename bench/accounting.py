"""What processes used, as the kernel counts it: CPU in ns, memory, and the time that a hypervisor took (steal).

CPU is read from each process's CPU clock (``clock_getcpuclockid(3)``: user and system time of all its threads,
ended ones too, in ns). The CPU of its ended children is read from ``/proc/<pid>/stat`` (for example a fork that
rewrites the append-only file, in steps of 10 ms).
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
STEAL = 7


def tree(roots: Iterable[int]) -> list[int]:
    """These processes and all their descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, ())
    return found


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` after the name (state, parent, …); [] if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def role(pid: int) -> str:
    """The role of a process: ``api``, ``worker``, ``redis``, ``cli`` or ``node``; ``gone`` if it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return "gone"
    program = Path(words[0]).name
    if "server" in program:
        return "redis"
    if program.startswith("node"):
        return "node"
    for name in ("worker", "cli"):
        if name in words[1:]:
            return name
    return "api"


def cpu_ns(pid: int) -> int:
    """The CPU that this process has used so far; 0 if it is gone."""
    fields = _stat(pid)
    try:
        own = time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0
    return own + sum(int(ticks) for ticks in fields[13:15]) * TICK_NS


def rss_bytes(pid: int) -> int:
    """The memory that this process holds now."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclass(frozen=True, slots=True)
class CpuSample:
    """One reading: each process's CPU, and the machine's times."""

    at_ns: int
    by_pid: dict[int, int]
    machine: tuple[int, ...]

    @classmethod
    def take(cls, roots: Iterable[int]) -> "CpuSample":
        machine = tuple(int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
        return cls(time.monotonic_ns(), {pid: cpu_ns(pid) for pid in tree(roots)}, machine)


@dataclass(frozen=True, slots=True)
class Used:
    """The CPU and the time between two readings."""

    cpu_ns: dict[str, int]
    """By role."""
    steal: float
    """The share of the machine's time that its hypervisor took."""
    idle: float
    seconds: float

    @classmethod
    def between(cls, before: CpuSample, after: CpuSample) -> "Used":
        by_role: dict[str, int] = {}
        for pid, used in after.by_pid.items():
            name = role(pid)
            by_role[name] = by_role.get(name, 0) + used - before.by_pid.get(pid, 0)
        spent = [b - a for a, b in zip(before.machine, after.machine, strict=True)]
        total = sum(spent) or 1
        seconds = (after.at_ns - before.at_ns) / 1e9
        return cls(by_role, spent[STEAL] / total, (spent[3] + spent[4]) / total, seconds)

    def others(self, more_ns: int) -> float:
        """The share of the machine's time that other programs used: neither these processes, nor ``more_ns``."""
        capacity_ns = self.seconds * 1e9 * (os.cpu_count() or 1)
        return max(0.0, 1 - self.idle - self.steal - (sum(self.cpu_ns.values()) + more_ns) / capacity_ns)
