"""What a server's disk would hold if the machine lost its power now: what was synced, by the notes of a shim.

Theory of operation. The server runs with ``bench/native/fsync.c`` in front of its C library: each sync of a file
is a line in a ledger, which outlives SIGKILL. What a file had when a sync began that succeeded is on disk. All that
came later may be there or not, up to any byte: so after a SIGKILL each file is cut back to its last sync, or to
anywhere between that and what it has. Renames count as done at once (the server syncs their folder).
"""

import os
import random
from pathlib import Path

from bench.toolchain import preload


class Power:
    """The disk of one server, which keeps its append-only files in ``directory``."""

    def __init__(self, directory: Path) -> None:
        """Raises :class:`bench.spawn.BenchError` where there is no C compiler."""
        self._files = directory / "appendonlydir"
        self._ledger = directory / "synced"
        self.env = {"LD_PRELOAD": str(preload("fsync")), "FSYNC_LEDGER": str(self._ledger)}
        """What the server's environment needs."""

    def synced(self) -> dict[str, int]:
        """How many bytes of each file are on disk."""
        return synced(self._ledger.read_text())

    def cut(self, rng: random.Random) -> int:
        """The server was killed: take from its files what was not synced. Out: the bytes that are gone."""
        on_disk, gone = self.synced(), 0
        for path in sorted(self._files.iterdir()):
            whole = path.stat().st_size
            kept = min(whole, on_disk.get(path.name, 0))
            if rng.random() < 0.5:
                kept = rng.randint(kept, whole)
            os.truncate(path, kept)
            gone += whole - kept
        self._start_over()
        return gone

    def shorten(self, path: Path, size: int) -> None:
        """The server was killed: its disk forgets the end of this file."""
        os.truncate(path, size)
        self._start_over()

    def _start_over(self) -> None:
        """What is in the files now is what the disk holds, as after a reboot."""
        lines = [f"S {path.stat().st_size} {path.name}\n" for path in self._files.iterdir()]
        self._ledger.write_text("".join(lines))


def synced(ledger: str) -> dict[str, int]:
    """How many bytes of each file are on disk, by the ledger's lines (see ``bench/native/fsync.c``)."""
    found: dict[str, int] = {}
    for line in ledger.splitlines():
        # Linux calls a file that was deleted while it was open "<file> (deleted)": it is none of those left.
        kind, first, second = line.split(" ", 2)
        if kind == "R":
            found[second] = found.pop(first, 0)
        elif kind == "S":
            # Of two syncs at once the one that began earlier may be noted later.
            found[second] = max(found.get(second, 0), int(first))
        elif second in found:
            found[second] = min(found[second], int(first))
    return found
