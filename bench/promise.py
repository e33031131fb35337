"""``--promise``: the cost of having everything acknowledged on disk, compared with a server that syncs each second.

Both kinds run all the time and take turns (see :mod:`bench.session`). The same is done with slower disks: a library
in front of the server's C library makes each sync take 1, 2 or 5 ms (``native/fsync.c``).
"""

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import ClassVar, Final

from bench.figures import Spread
from bench.fleet import Headrace
from bench.http_request import AskedAnswer
from bench.measure import Row
from bench.sections import RAMP_MS, RATE, warm_up
from bench.session import Session
from bench.table import cpu_per_token, of, rounds
from bench.toolchain import preload
from cli.up.valkey import EVERYSEC

ROUNDS: Final = 5
STREAMS: Final = 100
TOKENS: Final = 250
BURSTS: Final = (100, 300)
CREATES: Final = 500
SPARE_S: Final = 45
MOST_S: Final = 6.5 * 60
"""A round takes a minute, so the whole takes five to six minutes, and never more than eight."""

ROLES: Final = ("redis", "worker", "api")
SECTION: Final = "promise"


class Everysec(Headrace):
    key, title = "everysec", "`everysec`"
    appendfsync = EVERYSEC


class Always(Headrace):
    key, title = "always", "`always`"
    least_ms: ClassVar[int] = 0

    def env(self) -> dict[str, str]:
        if not self.least_ms:
            return {}
        return {"LD_PRELOAD": str(preload("fsync")), "FSYNC_MS": str(self.least_ms)}


class Always1(Always):
    key, title, least_ms = "always-1", "`always`, 1 ms a sync", 1


class Always2(Always):
    key, title, least_ms = "always-2", "`always`, 2 ms a sync", 2


class Always5(Always):
    key, title, least_ms = "always-5", "`always`, 5 ms a sync", 5


KINDS: Final[tuple[type[Headrace], ...]] = (Everysec, Always, Always1, Always2, Always5)


def measure(session: Session, count: int) -> None:
    """Measure ``count`` rounds of everything."""
    session.note({"section": "disk", "sync_us": sync_us(session.directory)})
    with session.running(KINDS) as found:
        contenders = [one for one in found if isinstance(one, Headrace)]
        for contender in contenders:
            warm_up(session, contender)
        for number in session.rounds(count):
            # Another contender begins each round, because the one after a pause finds cold caches.
            first = number % len(contenders)
            for contender in contenders[first:] + contenders[:first]:
                _round(session, number, contender)


def _round(session: Session, number: int, contender: Headrace) -> None:
    bench, what = session.bench, contender.title
    take = partial(bench.streams, contender, STREAMS, AskedAnswer(TOKENS, RATE), STREAMS * RAMP_MS)
    session.measure(SECTION, number, what, take)
    for burst in BURSTS:
        together = AskedAnswer(20, RATE, delay_ms=200)
        take = partial(bench.streams, contender, burst, together, 0, together=True)
        session.measure(f"{SECTION} first {burst}", number, what, take)
    session.measure(f"{SECTION} creates", number, what, partial(bench.creates, contender, CREATES))


def sync_us(directory: Path) -> float:
    """How long a ``fdatasync`` on this folder's disk takes after a small append: the median of a hundred, in µs."""
    took = []
    path = directory / "sync"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(100):
            os.write(descriptor, bytes(300))
            began = time.perf_counter()
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return median(took) * 1e6


COLUMNS: Final = (
    "`appendfsync`",
    "CPU µs a token: Redis + worker + API",
    "in all",
    "p99 ms, 100 streams",
    "first tokens of 100 at once, p50 / p99 ms",
    "of 300 at once",
    "creates a second, 500 at once",
)


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each contender with the cells of ``COLUMNS``: medians, some with the lowest and the highest
    value."""
    lines = []
    for kind in KINDS:
        load = partial(rounds, rows, SECTION, kind.key)
        parts = [
            _median(rounds(rows, SECTION, kind.key, lambda row, role=role: row["cpu_us"][role] / row["tokens"]))
            for role in ROLES
        ]
        firsts = [
            " / ".join(
                _median(rounds(rows, f"{SECTION} first {burst}", kind.key, of(f"first_{share}_ms")))
                for share in ("p50", "p99")
            )
            for burst in BURSTS
        ]
        creates = rounds(rows, f"{SECTION} creates", kind.key, of("creates_per_s"))
        lines.append(
            [
                kind.title,
                " + ".join(parts),
                _spread(load(cpu_per_token), "{:.0f}"),
                _spread(load(of("p99_ms")), "{:.1f}"),
                *firsts,
                _spread(creates, "{:,.0f}"),
            ]
        )
    return lines


def _median(found: dict[int, float]) -> str:
    spread = Spread.of(found.values())
    return f"{spread.median:.0f}" if spread else "–"


def _spread(found: dict[int, float], form: str) -> str:
    spread = Spread.of(found.values())
    if spread is None:
        return "–"
    middle, low, high = (form.format(value) for value in (spread.median, spread.low, spread.high))
    return f"{middle} ({low} – {high})"


def remarks(rows: Sequence[Row]) -> list[str]:
    """The notes below the table."""
    disk = next((row["sync_us"] for row in rows if row["section"] == "disk"), None)
    done = len({row["round"] for row in rows if row["section"] == SECTION})
    said = [f"Medians of {done} rounds (lowest – highest)."]
    if disk is not None:
        said.append(f"A `fdatasync` of this machine's disk took {disk:.0f} µs, measured alone.")
    return said
