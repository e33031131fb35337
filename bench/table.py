"""The table: the figure of each row, in code, and whether it meets its targets. Pure: raw rows in, text out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bench.figures import Spread, differences, ratios

Row = Mapping[str, Any]
Rounds = dict[int, float]
"""A figure for each round, by the round's number."""

OTHERS: Final = 0.05
"""The share of the machine that other programs may use without a note below the table."""


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table: a figure, the bound that it must meet, and the bound that it aims at."""

    name: str
    figure: Callable[[Sequence[Row]], Spread | None]
    form: str
    must: float
    aim: float | None
    more_is_better: bool = False
    remark: Callable[[Sequence[Row]], str] = lambda rows: ""
    possible: Callable[[Sequence[Row]], bool] = lambda rows: True
    """Whether this machine can meet it at all."""

    def meets(self, value: float, bound: float) -> bool:
        return value >= bound if self.more_is_better else value <= bound


def rounds(
    rows: Sequence[Row], section: str, contender: str, figure: Callable[[Row], float], **where: object
) -> Rounds:
    """A figure of this contender in each round of a section. Rows that were thrown away do not count. If all rows
    of a round were disturbed, the last one counts."""
    return {
        row["round"]: figure(row)
        for row in rows
        if row["section"] == section
        and row.get("contender") == contender
        and not row.get("thrown_away")
        and "error" not in row
        and all(row.get(name) == value for name, value in where.items())
    }


def cpu_per_token(row: Row) -> float:
    """CPU for each token in µs: of all processes, over the whole run."""
    return float(sum(row["cpu_us"].values()) / row["tokens"]) if row["tokens"] else float("nan")


def of(name: str) -> Callable[[Row], float]:
    """A function that gives a row's value of this name."""
    return lambda row: float(row[name])


def _cpu(rows: Sequence[Row], contender: str, streams: int, section: str = "load") -> Rounds:
    return rounds(rows, section, contender, cpu_per_token, streams=streams)


def _p99(rows: Sequence[Row], contender: str) -> Rounds:
    return rounds(rows, "load", contender, of("p99_ms"), streams=100)


def _best(rows: Sequence[Row]) -> Rounds:
    return rounds(rows, "steady", "shared", cpu_per_token)


def _limit(rows: Sequence[Row], contender: str) -> Rounds:
    return rounds(rows, "limit found", contender, of("tokens_per_s"))


def _first(rows: Sequence[Row], contender: str, share: str) -> Rounds:
    return rounds(rows, "first token", contender, of(f"first_{share}_ms"))


def _adds(share: str) -> Callable[[Sequence[Row]], Spread | None]:
    """The time that Headrace adds to the direct proxy's time to first token."""
    return lambda rows: differences(_first(rows, "headrace", share), _first(rows, "shared", share))


def _both_first(share: str) -> Callable[[Sequence[Row]], str]:
    return _side_by_side(
        "ms from the request, less the provider's own time",
        ("Headrace", lambda rows: _first(rows, "headrace", share)),
        ("(b)", lambda rows: _first(rows, "shared", share)),
    )


def _plain(
    section: str, figure: Callable[[Row], float], **where: object
) -> Callable[[Sequence[Row]], Spread | None]:
    return lambda rows: Spread.of(rounds(rows, section, "headrace", figure, **where).values())


def _side_by_side(
    unit: str, *parts: tuple[str, Callable[[Sequence[Row]], Rounds]]
) -> Callable[[Sequence[Row]], str]:
    """The medians of which a ratio is made: ``Headrace 81, (b) 130 µs``."""

    def remark(rows: Sequence[Row]) -> str:
        said = []
        for name, figure in parts:
            spread = Spread.of(figure(rows).values())
            said.append(f"{name} {spread.median:,.4g}" if spread else f"{name} –")
        return ", ".join(said) + f" {unit}"

    return remark


SCALED: Final = 1.5
"""How many times as much two processes of each kind must carry as one of each."""


def _at_limit(rows: Sequence[Row]) -> list[Row]:
    """The rows of one API and one worker process at their limit, one a round."""
    return [row for row in rows if row["section"] == "limit found" and row.get("contender") == "headrace"]


def _second_core(rows: Sequence[Row]) -> str:
    """How busy the cores were at the limit."""
    if not (found := _at_limit(rows)):
        return ""
    row = found[-1]
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in _cores_used(row).items())
    return f"of one core each, with one of each at its limit: {shares}; this machine has {row['cores']} cores"


def _cores_used(row: Row) -> dict[str, float]:
    """The cores that each role used at the rate that was carried."""
    used = {**row["cpu_us"], "provider and viewers": row["bench_us"]}
    return {name: us / 1e6 / row["tokens"] * row["tokens_per_s"] for name, us in used.items()}


def _cores_allow(rows: Sequence[Row]) -> bool:
    """Whether this machine has enough cores for SCALED times the work."""
    found = _at_limit(rows)
    return all(SCALED * sum(_cores_used(row).values()) <= row["cores"] for row in found)


def _connections(row: Row) -> float:
    counts = row["connections"]
    return float(counts["1000"] - counts["10"])


SPOKEN: Final = ("openai", "responses", "ai-sdk", "ag-ui")
"""The dialects beside the native one."""


def _against_native(key: str, rows: Sequence[Row]) -> Rounds:
    return ratios(_cpu(rows, key, 100, "dialects"), _cpu(rows, "headrace", 100, "dialects"))


def _held(role: str) -> Callable[[Row], float]:
    """KiB of a stream in the processes of this role."""
    return lambda row: float(row["bytes_per_stream"][role]) / 1024


TARGETS: Final = (
    Target(
        "CPU per delivered token, 100 streams, against (a)",
        lambda rows: ratios(_cpu(rows, "headrace", 100), _cpu(rows, "direct", 100)),
        "{:.2f}×",
        0.45,
        0.30,
        remark=_side_by_side(
            "µs",
            ("Headrace", lambda rows: _cpu(rows, "headrace", 100)),
            ("(a)", lambda rows: _cpu(rows, "direct", 100)),
        ),
    ),
    Target(
        "the same against (b)",
        lambda rows: ratios(_cpu(rows, "headrace", 100), _cpu(rows, "shared", 100)),
        "{:.2f}×",
        0.7,
        0.5,
        remark=_side_by_side("µs", ("(b)", lambda rows: _cpu(rows, "shared", 100))),
    ),
    Target(
        "the same at 400 streams, against (b) at its own best load",
        lambda rows: ratios(_cpu(rows, "headrace", 400, "steady"), _best(rows)),
        "{:.2f}×",
        0.4,
        0.3,
        remark=_side_by_side(
            "µs",
            ("Headrace", lambda rows: _cpu(rows, "headrace", 400, "steady")),
            ("(b)", _best),
        ),
    ),
    Target(
        "tokens/s with p99 under 50 ms, against (b)'s",
        lambda rows: ratios(_limit(rows, "headrace"), _limit(rows, "shared")),
        "{:.1f}×",
        2.5,
        5,
        more_is_better=True,
        remark=_side_by_side(
            "tokens/s",
            ("Headrace", lambda rows: _limit(rows, "headrace")),
            ("(b)", lambda rows: _limit(rows, "shared")),
        ),
    ),
    Target(
        "latency, provider's byte → viewer's byte, p99 at 100 streams",
        _plain("load", of("p99_ms"), streams=100),
        "{:.1f} ms",
        15,
        8,
        remark=_side_by_side("ms", ("(b)", lambda rows: _p99(rows, "shared"))),
    ),
    Target(
        "added to (b)'s time to first token, 100 streams started together, p50",
        _adds("p50"),
        "{:.0f} ms",
        10,
        4,
        remark=_both_first("p50"),
    ),
    Target(
        "the same, p99",
        _adds("p99"),
        "{:.0f} ms",
        50,
        20,
        remark=_both_first("p99"),
    ),
    Target(
        "nine keys' first token while a tenth has 5,000 streams in line, against an idle system",
        lambda rows: ratios(
            rounds(rows, "neighbours", "neighbours", of("busy_ms")),
            rounds(rows, "neighbours", "neighbours", of("idle_ms")),
        ),
        "{:.2f}×",
        2,
        1.5,
        remark=_side_by_side(
            "ms",
            ("busy", lambda rows: rounds(rows, "neighbours", "neighbours", of("busy_ms"))),
            ("idle", lambda rows: rounds(rows, "neighbours", "neighbours", of("idle_ms"))),
            ("the slowest", lambda rows: rounds(rows, "neighbours", "neighbours", of("busy_most_ms"))),
        ),
    ),
    *(
        Target(
            f"CPU per delivered token in the dialect {dialect}, against the native one",
            partial(_against_native, dialect),
            "{:.2f}×",
            1.10,
            1.02,
        )
        for dialect in SPOKEN
    ),
    Target("1 stream, 1,000 viewers, 50 events/s: p99", _plain("fan-out", of("p99_ms")), "{:.0f} ms", 50, 20),
    Target("the same: CPU an event", _plain("fan-out", of("cpu_us_per_event")), "{:.1f} µs", 16, 10),
    Target(
        "memory per idle viewer in the API process",
        _plain("idle viewers", lambda row: row["bytes_per_viewer"] / 1024),
        "{:.0f} KiB",
        48,
        25,
    ),
    Target(
        "memory per stream of 400 tokens so far, in the worker",
        _plain("held streams", _held("worker")),
        "{:.0f} KiB",
        96,
        48,
    ),
    Target(
        "the same in the API process, with its viewer",
        _plain("held streams", _held("api")),
        "{:.0f} KiB",
        96,
        48,
    ),
    Target(
        "1,000 viewers resume a 1,000-entry log at once: all caught up",
        _plain("resume", of("caught_up_s")),
        "{:.2f} s",
        1.0,
        0.4,
        remark=lambda rows: _incomplete(rows),
    ),
    Target(
        "Redis connections: with 1,000 viewers, more than with 10",
        _plain("idle viewers", _connections),
        "{:.0f}",
        0,
        None,
    ),
    Target(
        "Redis round trips per token at 100 streams, worker and API together",
        _plain("load", lambda row: row["round_trips"] / max(1, row["tokens"]), streams=100),
        "{:.2f}",
        0.2,
        0.1,
    ),
    Target(
        "two API and two worker processes against one of each: tokens/s with p99 under 50 ms",
        lambda rows: ratios(_limit(rows, "headrace2"), _limit(rows, "headrace")),
        "{:.2f}×",
        SCALED,
        None,
        more_is_better=True,
        remark=_second_core,
        possible=_cores_allow,
    ),
    Target(
        "cold `headrace up` to the first token of the local model, wheels installed",
        _plain("cold start", of("first_token_s")),
        "{:.1f} s",
        8,
        4,
    ),
)


def _incomplete(rows: Sequence[Row]) -> str:
    behind = sum(rounds(rows, "resume", "headrace", of("left_behind")).values())
    return f"{behind:.0f} viewers did not get all of it" if behind else ""


@dataclass(frozen=True, slots=True)
class Judged:
    """One target with its figure."""

    target: Target
    spread: Spread | None
    remark: str
    possible: bool

    def show(self, value: float) -> str:
        return self.target.form.format(value)

    @property
    def figure(self) -> str:
        if self.spread is None:
            return "not measured"
        low, high = self.show(self.spread.low), self.show(self.spread.high)
        return f"{self.show(self.spread.median)} ({low} – {high}, n = {self.spread.rounds})"

    @property
    def bounds(self) -> tuple[str, str]:
        return self.show(self.target.must), "" if self.target.aim is None else self.show(self.target.aim)

    @property
    def verdict(self) -> str:
        if self.spread is None:
            return "–"
        if not self.target.meets(self.spread.median, self.target.must):
            return "missed" if self.possible else "this machine has no core for it"
        if self.target.aim is None or self.target.meets(self.spread.median, self.target.aim):
            return "met"
        return "must met, aim missed"


def judge(rows: Sequence[Row]) -> list[Judged]:
    """Every row of the table, from the raw rows of a run."""
    return [Judged(target, target.figure(rows), target.remark(rows), target.possible(rows)) for target in TARGETS]


def faults(rows: Sequence[Row]) -> list[str]:
    """The notes below the table: what was thrown away, disturbed, lost or wrong."""
    said = []
    thrown = sum(bool(row.get("thrown_away")) for row in rows)
    disturbed = sum(bool(row.get("disturbed")) for row in rows)
    if thrown:
        said.append(
            f"{thrown} measurements were thrown away, because the hypervisor took more than 2 % of the machine."
        )
    if disturbed:
        said.append(
            f"{disturbed} measurements are kept although it took more than 2 %: the time for repeating was used "
            "up. Latencies suffer most from that; run it again on a quieter machine."
        )
    busy = sum(row.get("others", 0) > OTHERS for row in rows)
    if busy:
        said.append(f"In {busy} measurements other programs used more than {OTHERS:.0%} of the machine.")
    left_out = sum(row["rounds"] for row in rows if row["section"] == "left out")
    if left_out:
        said.append(f"{left_out} rounds were left out, because the time was up.")
    for row in rows:
        if row.get("thrown_away") or row["section"].startswith(("curve", "limit", "overload")):
            continue
        if "error" in row:
            said.append(f"{row['section']}: {row['what']}: {row['error'].splitlines()[0]}")
        elif row.get("wrong") or row.get("restarts"):
            said.append(
                f"{row['section']}: {row['what']}: {row['wrong']} tokens out of order, {row['restarts']} restarts"
            )
        elif row.get("lost"):
            refused = "".join(f", {count} × HTTP {status}" for status, count in row["refused"].items())
            said.append(f"{row['section']}: {row['what']}: {row['lost']:,} tokens had not come in time{refused}")
    return said
