"""The results of a run: the table in the terminal, plots, and the same table in the documents."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import promise
from bench.figures import Histogram, histogram, merged, percentile
from bench.fleet import ALL, Contender, TwoOfEach
from bench.plots import Chart, Series, line_chart
from bench.sections import LIMIT_MS
from bench.table import Row, cpu_per_token, faults, judge

SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
STYLES = {"met": "green", "must met, aim missed": "yellow", "missed": "red"}


def show(rows: Sequence[Row], console: Console) -> None:
    """Show the table, the cost of each contender, and the notes, in the terminal."""
    table = Table("figure", "must", "aim", "measured (lowest – highest)", "", title="What it has to show")
    for judged in judge(rows):
        remark = f"\n[dim]{judged.remark}[/dim]" if judged.remark else ""
        style = STYLES.get(judged.verdict, "dim")
        table.add_row(judged.target.name + remark, *judged.bounds, judged.figure, f"[{style}]{judged.verdict}[/]")
    console.print(table)
    peers = Table(*PEER_COLUMNS, title="Side by side, 100 streams")
    for cells in side_by_side(rows):
        peers.add_row(*cells)
    console.print(peers)
    for fault in faults(rows):
        console.print(f"! {fault}", style="yellow", highlight=False)


PEER_COLUMNS = (
    "contender",
    "CPU µs a token",
    "of it",
    "p50 / p99 ms",
    "tokens an event",
    "events a write",
    "Redis trips a token",
    "provider / viewers µs a token",
)


def side_by_side(rows: Sequence[Row]) -> list[list[str]]:
    """For each contender, its median round at 100 streams."""
    found = []
    for kind in ALL:
        own = [
            row
            for row in rows
            if row["section"] == "load"
            and row.get("contender") == kind.key
            and row.get("streams") == 100
            and not row.get("thrown_away")
        ]
        if not own:
            continue
        middle = sorted(own, key=cpu_per_token)[len(own) // 2]
        parts = ", ".join(f"{name} {us / middle['tokens']:.0f}" for name, us in middle["cpu_us"].items())
        found.append(
            [
                kind.title,
                f"{cpu_per_token(middle):.0f}",
                parts,
                f"{middle['p50_ms']:.1f} / {middle['p99_ms']:.1f}",
                f"{middle['tokens_per_event']:.2f}",
                f"{middle['events_per_write']:.2f}",
                f"{middle['round_trips'] / middle['tokens']:.2f}",
                f"{middle['provider_us_per_token']:.0f} / {middle['viewer_us_per_token']:.0f}",
            ]
        )
    return found


def plots(rows: Sequence[Row]) -> dict[str, str]:
    """Each plot's file name and SVG. Plots without points are left out."""
    kept = [row for row in rows if not row.get("thrown_away") and "error" not in row]
    kinds: list[type[Contender]] = [*ALL, TwoOfEach]
    titles = {kind.key: kind.title.split(",")[0].replace(" (npm)", "") for kind in kinds}
    titles[TwoOfEach.key] = "(c) two of each"

    def series(points: Mapping[str, Sequence[tuple[float, float]]]) -> list[Series]:
        return [Series(key, titles[key], sorted(points[key])) for key in titles if points.get(key)]

    curve: dict[str, list[Row]] = {}
    for row in kept:
        if row["section"] == "curve":
            curve.setdefault(row["contender"], []).append(row)
    offered: dict[str, list[tuple[float, float]]] = {}
    for row in kept:
        if row["section"] in ("curve", "limit") or row["section"].startswith("overload"):
            offered.setdefault(row["contender"], []).append((row["streams"] * row["rate"], row["p99_ms"]))
    latencies: dict[str, list[Histogram]] = {}
    for row in kept:
        if row["section"] == "load" and row.get("streams") == 100:
            latencies.setdefault(row["contender"], []).append(histogram(row["latency"]))
    shares = {
        key: [(100 * share, percentile(merged(parts), share) / 1000) for share in SHARES]
        for key, parts in latencies.items()
    }
    memory = {
        row["contender"]: [(count, (held - row["memory"][0][1]) / 1e6) for count, held in row["memory"]]
        for row in kept
        if row["section"] == "idle viewers" and row["round"] == 0
    }
    cpu = {key: [(row["streams"], cpu_per_token(row)) for row in own] for key, own in curve.items()}
    found = {
        "latency.svg": line_chart(
            Chart("Latency, provider's byte → viewer's byte, 100 streams", "percentile", "ms", log_y=True),
            series(shares),
        ),
        "cpu.svg": line_chart(
            Chart("CPU per delivered token, all processes", "streams of 50 tokens/s", "µs", log_x=True), series(cpu)
        ),
        "load.svg": line_chart(
            Chart("p99 latency against load", "tokens/s asked for", "ms", log_x=True, log_y=True, bound=LIMIT_MS),
            series(offered),
        ),
        "memory.svg": line_chart(
            Chart("Memory for idle viewers, over the process without them", "viewers", "MB"), series(memory)
        ),
    }
    return {name: text for name, text in found.items() if text}


def markdown(rows: Sequence[Row]) -> str:
    """The tables, for the documents."""
    lines = ["| figure | must | aim | measured (lowest – highest) | |", "|---|---|---|---|---|"]
    for judged in judge(rows):
        remark = f"<br>{judged.remark}" if judged.remark else ""
        must, aim = judged.bounds
        lines.append(f"| {judged.target.name}{remark} | {must} | {aim} | {judged.figure} | {judged.verdict} |")
    lines += ["", "100 streams, medians:", "", f"| {' | '.join(PEER_COLUMNS)} |", "|---" * len(PEER_COLUMNS) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in side_by_side(rows)]
    said = faults(rows)
    if said:
        lines += ["", *(f"- {fault}" for fault in said)]
    return "\n".join(lines)


def machine() -> str:
    """A description of this machine, in one line."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*:\s*(.+)", info)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    name = model[1] if model else platform.machine()
    return f"{name}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def show_promise(rows: Sequence[Row], console: Console) -> None:
    """The table of both promises, in the terminal."""
    shown = Table(*promise.COLUMNS, title="Both promises")
    for cells in promise.table(rows):
        shown.add_row(*cells)
    console.print(shown)
    for remark in promise.remarks(rows) + faults(rows):
        console.print(remark, style="yellow", highlight=False)


def promise_markdown(rows: Sequence[Row]) -> str:
    """The same, for the documents."""
    lines = [f"| {' | '.join(promise.COLUMNS)} |", "|---" * len(promise.COLUMNS) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in promise.table(rows)]
    return "\n".join([*lines, "", *(f"- {remark}" for remark in promise.remarks(rows) + faults(rows))])


def write_table(text: str, marker: str, document: Path) -> None:
    """Put a table between its markers in this document."""
    between = re.compile(rf"(<!-- bench:{marker} -->\n).*?(\n<!-- /bench:{marker} -->)", re.DOTALL)
    before = document.read_text("utf-8")
    document.write_text(between.sub(lambda found: found[1] + text + found[2], before), "utf-8")


def read_rows(path: Path) -> list[Row]:
    """The raw rows of a run."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
