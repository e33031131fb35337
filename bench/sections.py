"""The sections, in order: each is a few contenders, a load, and rounds."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Final

from bench.figures import rate_at
from bench.fleet import ALL, DIALECTS, Contender, Direct, Headrace, Neighbours, Shared, TwoOfEach
from bench.http_request import AskedAnswer
from bench.measure import Row, cold
from bench.session import Session

LIMIT_MS: Final = 50.0
"""The article's promise: a token arrives within 50 ms. A contender with more counts as saturated."""
MOST_STEPS: Final = 6
FEWEST_STREAMS: Final = 5
MOST_STREAMS: Final = 2500
OVERRUN: Final = 0.75
"""The share of the requested rate below which a contender is overloaded, and its curve ends."""
KEPT_UP: Final = 0.9
"""The share of the requested rate from which a load counts as carried. A lower share means that streams began late,
even if their tokens came fast."""
RATE: Final = 50.0
RAMP_MS: Final = 8
"""The time between the starts of two streams: 125 a second. All starts together take at least a second."""
VIEWERS: Final = 1000
DELAY_MS: Final = 0
"""The delay of a neighbour's provider: none, so that only Headrace's own time is measured."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a run: the full one, or the short one."""

    rounds: int
    peer_rounds: int
    """Rounds of the contenders that no row of the table compares with."""
    tokens: int
    curve_tokens: int
    curve: tuple[int, ...]
    steady_s: float
    """The least time in which all streams of a run are running together."""
    window_ms: int
    """How long streams that come and go are measured."""
    limit_rounds: int
    step: float
    """The factor from one load to the next in the search for the limit."""
    overload: tuple[float, ...]
    """Multiples of the limit."""
    idle: tuple[int, ...]
    held: tuple[int, ...]
    """The numbers of streams that run together, for their memory."""
    held_rounds: int
    cold_rounds: int
    dialect_rounds: int
    neighbour_rounds: int
    waiting: int
    """Streams of the greedy key."""
    peers: bool
    """Whether to measure reading and idle viewers also of contenders that no row of the table compares with."""
    spare_s: float
    most_s: float


FULL: Final = Size(
    rounds=5,
    peer_rounds=1,
    tokens=400,
    curve_tokens=120,
    curve=(25, 100, 150, 200, 400, 800),
    steady_s=3,
    window_ms=4000,
    limit_rounds=5,
    step=1.25,
    overload=(1.5, 3.0),
    idle=(10, 1000, 2000),
    held=(50, 250, 500),
    held_rounds=3,
    cold_rounds=5,
    dialect_rounds=3,
    neighbour_rounds=3,
    waiting=5000,
    peers=True,
    spare_s=100,
    most_s=24.5 * 60,
)
SHORT: Final = Size(
    rounds=1,
    peer_rounds=0,
    tokens=125,
    curve_tokens=100,
    curve=(),
    steady_s=1.5,
    window_ms=1500,
    limit_rounds=1,
    step=1.5,
    overload=(),
    idle=(10, 1000),
    held=(50, 250),
    held_rounds=1,
    cold_rounds=1,
    dialect_rounds=1,
    neighbour_rounds=1,
    waiting=1000,
    peers=False,
    spare_s=5,
    most_s=120,
)


def curves(session: Session, size: Size) -> None:
    """CPU and latency against the number of streams, once for each contender. Other sections use this result.

    The curve of a contender ends where it is overloaded, because more load only takes longer.
    """
    if not size.curve:
        return
    with session.running([kind for kind in ALL if kind.asks]) as contenders:
        for contender in contenders:
            warm_up(session, contender)
        for count in size.curve:
            for contender in list(contenders):
                row = _streams(session, size, "curve", 0, contender, count, size.curve_tokens)
                if "error" in row or delivered(row) < OVERRUN:
                    contenders.remove(contender)
            session.step()


def load(session: Session, size: Size) -> None:
    """100 streams of each contender; and 400 of Headrace that come and go, in turns with (b) at its own best
    number. (If all 400 began before one ended, only two thirds would run on average.)"""
    best: int | None = None
    kinds = [kind for kind in ALL if kind.asks and (size.peer_rounds or kind in (Direct, Shared, Headrace))]
    with session.running(kinds) as contenders:
        for contender in contenders:
            warm_up(session, contender)
        for number in session.rounds(size.rounds):
            for contender in contenders:
                if isinstance(contender, Direct | Headrace) or number < size.peer_rounds:
                    _streams(session, size, "load", number, contender, 100, size.tokens)
                if isinstance(contender, Headrace):
                    _steady(session, size, "steady", number, contender, 400)
                if isinstance(contender, Shared):
                    best = best or _best_load(session, size, contender)
                    _steady(session, size, "steady", number, contender, best)


def limits(session: Session, size: Size) -> None:
    """The rate at which one token in a hundred takes longer than LIMIT_MS; then overload."""
    with session.running([Shared, Headrace, TwoOfEach]) as contenders:
        at = {contender.key: guess(session.rows, contender.key) for contender in contenders}
        found: dict[str, list[int]] = {contender.key: [] for contender in contenders}
        for contender in contenders:
            warm_up(session, contender)
        for number in session.rounds(size.limit_rounds):
            for contender in contenders:
                at[contender.key] = _limit(session, size, number, contender, at[contender.key])
                found[contender.key].append(at[contender.key])
        for times in size.overload:
            for contender in contenders:
                if contender.key == Headrace.key:  # the curves of the others already reach overload
                    usual = median(found[contender.key] or [at[contender.key]])
                    count = min(MOST_STREAMS, int(times * usual))
                    _streams(session, size, f"overload {times:g}", 0, contender, count, size.curve_tokens)
            session.step()


def _limit(session: Session, size: Size, number: int, contender: Contender, count: int) -> int:
    """Search the load at which p99 exceeds LIMIT_MS, and write the rate there. Out: the streams there."""
    below: Row | None = None
    above: Row | None = None
    for _ in range(MOST_STEPS):
        row = _streams(session, size, "limit", number, contender, count, size.curve_tokens)
        if "error" in row:
            return count
        if row["p99_ms"] <= LIMIT_MS and delivered(row) >= KEPT_UP and not row["lost"]:
            below = row
        else:
            above = row
        if (below and above) or count in (FEWEST_STREAMS, MOST_STREAMS):
            break
        count = (
            min(MOST_STREAMS, math.ceil(count * size.step))
            if below
            else max(FEWEST_STREAMS, int(count / size.step))
        )
    found = below or above
    assert found is not None
    session.note(
        {
            "section": "limit found",
            "round": number,
            "contender": contender.key,
            "tokens_per_s": rate_at(LIMIT_MS, below, above),
            "bracketed": below is not None and above is not None,
            "streams": found["streams"],
            "cpu_us": found["cpu_us"],
            "bench_us": found["tokens"] * (found["provider_us_per_token"] + found["viewer_us_per_token"]),
            "tokens": found["tokens"],
            "cores": os.cpu_count() or 1,
        }
    )
    return int(found["streams"])


def first_tokens(session: Session, size: Size) -> None:
    """100 streams created at the same moment: how much later than the provider's the first token comes."""
    answer = AskedAnswer(20, RATE, delay_ms=200)
    with session.running([Direct, Shared, Headrace]) as contenders:
        for contender in contenders:
            warm_up(session, contender)
        for number in session.rounds(size.rounds):
            for contender in contenders:
                take = partial(session.bench.streams, contender, 100, answer, 0, together=True)
                session.measure("first token", number, contender.title, take)


def dialects(session: Session, size: Size) -> None:
    """100 streams, read in each dialect and natively in turns."""
    with session.running([Headrace, *DIALECTS]) as contenders:
        for contender in contenders:
            warm_up(session, contender)
        for number in session.rounds(size.dialect_rounds):
            for contender in contenders:
                _streams(session, size, "dialects", number, contender, 100, size.curve_tokens)


def neighbours(session: Session, size: Size) -> None:
    """Ten keys, of which one has thousands of streams in the queue. Each round has new processes, because the queue
    stays full."""
    for number in session.rounds(size.neighbour_rounds):
        with session.running([Neighbours]) as contenders:
            for contender in contenders:
                assert isinstance(contender, Neighbours)
                long, short = AskedAnswer(2000, 2), AskedAnswer(20, RATE, delay_ms=DELAY_MS)
                take = partial(session.bench.neighbours, contender, size.waiting, long, short)
                session.measure("neighbours", number, contender.title, take)


def fan_out(session: Session, size: Size) -> None:
    """One stream, 1,000 viewers."""
    answer = AskedAnswer(250, RATE, delay_ms=100, hold_ms=5000, gated=True)
    with session.running(_readers(size)) as contenders:
        for number in session.rounds(size.rounds):
            for contender in _turns(contenders, number, size):
                take = partial(session.bench.fan, contender, VIEWERS, answer)
                session.measure("fan-out", number, contender.title, take)


def resumes(session: Session, size: Size) -> None:
    """1,000 viewers come back at the same moment to a log of 1,000 tokens that nobody has read."""
    answer = AskedAnswer(1000, rate=150, hold_ms=25_000)
    with session.running(_readers(size)) as contenders:
        for number in session.rounds(size.rounds):
            turns = _turns(contenders, number, size)
            names = [contender.open(answer) for contender in turns]
            session.pause(answer.last_ms / 1000 + 0.5, f"resume, round {number + 1}: the logs are written")
            for contender, name in zip(turns, names, strict=True):
                take = partial(session.bench.resume, contender, name, VIEWERS, answer.tokens)
                session.measure("resume", number, contender.title, take)


def idle_viewers(session: Session, size: Size) -> None:
    """Memory of the process that holds the viewers, and Redis connections. Each round has new processes."""
    for number in session.rounds(size.rounds):
        kinds = [kind for kind in (*_readers(size), Shared) if kind is Headrace or (size.peers and not number)]
        for kind in kinds:
            with session.running([kind]) as contenders:
                for contender in contenders:
                    take = partial(session.bench.idle, contender, size.idle)
                    session.measure("idle viewers", number, contender.title, take)


def held_streams(session: Session, size: Size) -> None:
    """Memory of worker and API for a running stream. Each round has new processes."""
    answer = AskedAnswer(400, rate=200, hold_ms=60_000)
    for number in session.rounds(size.held_rounds):
        with session.running([Headrace]) as contenders:
            for contender in contenders:
                warm_up(session, contender)
                take = partial(session.bench.held, contender, size.held, answer)
                session.measure("held streams", number, contender.title, take)


def cold_starts(session: Session, size: Size) -> None:
    """`headrace up` in a new folder, to the first token of the local model."""
    for number in session.rounds(size.cold_rounds):

        def take() -> Row:
            return cold(Path(mkdtemp(dir=session.directory)))

        session.measure("cold start", number, Headrace.title, take)


def warm_up(session: Session, contender: Contender) -> None:
    """Run a few streams that are not counted, so that imports, pools and caches are in no figure."""

    def take() -> Row:
        return session.bench.streams(contender, 5, AskedAnswer(10, RATE), 100) | {"steal": 0}

    session.measure("warm-up", 0, contender.title, take)


def _streams(
    session: Session, size: Size, section: str, number: int, contender: Contender, count: int, tokens: int
) -> Row:
    """``count`` streams of at least ``tokens`` tokens, and of more if they would not all run together."""
    ramp_ms = max(1000, RAMP_MS * count)
    answer = AskedAnswer(max(tokens, int(RATE * (ramp_ms / 1000 + size.steady_s))), RATE)
    take = partial(session.bench.streams, contender, count, answer, ramp_ms)
    return session.measure(section, number, f"{contender.title}, {count} streams", take)


def _steady(session: Session, size: Size, section: str, number: int, contender: Contender, count: int) -> Row:
    take = partial(session.bench.steady, contender, count, AskedAnswer(size.tokens, RATE), size.window_ms)
    return session.measure(section, number, f"{contender.title}, {count} streams that come and go", take)


def _best_load(session: Session, size: Size, contender: Contender) -> int:
    """The load at which a token costs this contender least: the highest of the curve with p99 within LIMIT_MS."""
    loads = sorted(size.curve, reverse=True)
    highest = highest_carried(session.rows, contender.key)
    for count in [load for load in loads if load <= highest]:
        row = _steady(session, size, "best load", 0, contender, count)
        if "error" not in row and row["p99_ms"] <= LIMIT_MS:
            return count
    return highest


def _readers(size: Size) -> list[type[Contender]]:
    """The contenders whose streams many viewers may share."""
    return [kind for kind in ALL if kind.shares] if size.peers else [Headrace]


def _turns(contenders: Sequence[Contender], number: int, size: Size) -> list[Contender]:
    return [one for one in contenders if isinstance(one, Headrace) or number < size.peer_rounds]


def delivered(row: Row) -> float:
    """The share of the requested rate that was delivered."""
    return float(row["tokens_per_s"] / (row["streams"] * row["rate"]))


def highest_carried(rows: Sequence[Row], key: str) -> int:
    """The highest load of the curve that this contender carried."""
    carried = [
        row["streams"]
        for row in rows
        if row["section"] == "curve" and row.get("contender") == key and row.get("tokens")
        if delivered(row) >= KEPT_UP and not row["lost"]
    ]
    return max(carried, default=100)


def guess(rows: Sequence[Row], key: str) -> int:
    """Where to begin the search for a limit: the highest load so far with p99 within LIMIT_MS."""
    key = Headrace.key if key == TwoOfEach.key else key
    within = [
        row["streams"]
        for row in rows
        if row["section"] in ("curve", "load") and row.get("contender") == key and row["p99_ms"] <= LIMIT_MS
    ]
    return max(within, default=50)


SECTIONS: Final[dict[str, tuple[Callable[[Session, Size], None], Callable[[Size], int]]]] = {
    "cold": (cold_starts, lambda size: size.cold_rounds),
    "curves": (curves, lambda size: len(size.curve)),
    "load": (load, lambda size: size.rounds),
    "limits": (limits, lambda size: size.limit_rounds + len(size.overload)),
    "first": (first_tokens, lambda size: size.rounds),
    "dialects": (dialects, lambda size: size.dialect_rounds),
    "neighbours": (neighbours, lambda size: size.neighbour_rounds),
    "fan": (fan_out, lambda size: size.rounds),
    "resume": (resumes, lambda size: size.rounds),
    "idle": (idle_viewers, lambda size: size.rounds),
    "held": (held_streams, lambda size: size.held_rounds),
}
"""Each section, and its number of progress steps."""
