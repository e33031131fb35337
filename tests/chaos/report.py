"""What a chaos run tells: a table, and for what went wrong a file with all the evidence."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.faults import Fault
from tests.chaos.invariant import LOSSES, sent
from tests.chaos.load import Stream
from tests.chaos.process_faults import ENDED, KILLED
from tests.chaos.timings import TakeOver, cancels, shown, take_overs, too_slow
from tests.chaos.world import Struck
from tests.support.scripted_answer import Call


@dataclass
class Result:
    """All of a run. ``broken``: what went wrong beside the streams."""

    what: str
    seed: str
    seconds: float
    streams: Sequence[Stream]
    struck: Sequence[Struck]
    calls: Sequence[Call]
    refusals: int
    broken: list[str] = field(default_factory=list)
    false_starts: int = 0
    """Processes that had to be started more than once, because Redis was away just then."""

    def take_overs(self, kind: Fault) -> list[TakeOver]:
        return take_overs(kind, self.struck, self.streams, self.calls)

    @property
    def slow(self) -> list[str]:
        """Promises on time that were not kept."""
        return [text for kind in (KILLED, ENDED) for text in too_slow(kind, self.take_overs(kind))]

    @property
    def wrong(self) -> list[Stream]:
        return [stream for stream in self.streams if stream.wrong]

    @property
    def violations(self) -> int:
        return sum(len(stream.wrong) for stream in self.streams) + len(self.broken) + len(self.slow)

    @property
    def may_lose(self) -> bool:
        """Whether this store may forget at all."""
        return any(fault.loses for fault in self.struck)

    @property
    def lost(self) -> dict[str, int]:
        """What the server forgot and may forget, each loss and how many streams it met."""
        return {loss: sum(loss in stream.lost for stream in self.streams) for loss in LOSSES}

    @property
    def faults(self) -> Counter[str]:
        """Faults by kind: those that struck, the provider's, and cancels."""
        told = Counter(f"provider: {s.story.fault}" for s in self.streams if s.story.fault and s.id)
        told["cancel"] = sum(1 for stream in self.streams if stream.cancel_answer)
        return Counter(fault.name for fault in self.struck) + told


def print_table(result: Result, console: Console) -> None:
    """The table of the run."""
    ends = Counter(stream.status for stream in result.streams)
    codes = Counter((s.record or {})["error"]["code"] for s in result.streams if s.status == "failed")
    by_end = ", ".join(f"{count} {name}" for name, count in ends.most_common())
    slowest = max(result.streams, key=lambda stream: stream.took_s)
    attempts = (slowest.record or {}).get("attempt", "unknown")
    closed = cancels(result.streams, result.calls)
    table = Table(title=f"chaos: {result.what}, seed {result.seed}, {result.seconds:.0f} s", show_header=False)
    rows = {
        "streams": f"{len(result.streams)}: {by_end}",
        "failed with": ", ".join(f"{count} {code}" for code, count in codes.most_common()) or "-",
        "viewers": str(sum(len(stream.viewers) for stream in result.streams)),
        "responses": str(sum(viewer.responses for stream in result.streams for viewer in stream.viewers)),
        "calls of the provider": str(len(result.calls)),
        "tokens sent": str(sum(call.sent for call in result.calls)),
        "slowest stream": f"{slowest.took_s:.1f} s ({slowest.story.name}, attempts: {attempts})",
        "take-over of a killed worker": shown(result.take_overs(KILLED)),
        "hand-over at SIGTERM": shown(result.take_overs(ENDED)),
        "upstream closed after a cancel": f"slowest {max(closed):.2f} s of {len(closed)}" if closed else "-",
        "creates, cancels and looks turned away": str(result.refusals),
        "starts that had to be repeated": str(result.false_starts),
        "killed, for SIGTERM took too long": str(sum("was killed" in fault.detail for fault in result.struck)),
        "faults": str(sum(result.faults.values())),
        **{f"  {name}": str(count) for name, count in sorted(result.faults.items())},
        **{f"lost: {loss}": str(count) for loss, count in result.lost.items() if result.may_lose},
        "violations": str(result.violations),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def write_evidence(result: Result, directory: Path, *, everything: bool = False) -> Path:
    """One file with the seed, every fault, and all of what went wrong (or of all streams): texts, events, calls."""
    path = directory / "evidence.json"
    path.write_text(
        json.dumps(
            {
                "seed": result.seed,
                "broken": result.broken,
                "slow": result.slow,
                "faults": [asdict(fault) for fault in result.struck],
                "streams": [_evidence(stream, result) for stream in result.streams if stream.wrong or everything],
            },
            ensure_ascii=False,
            indent=1,
        )
    )
    return path


def _evidence(stream: Stream, result: Result) -> dict[str, object]:
    record = stream.record
    return {
        "id": stream.id,
        "wrong": stream.wrong,
        "lost": stream.lost,
        "story": asdict(stream.story),
        "made": stream.made,
        "cancelled_at": stream.cancelled_at,
        "record": record,
        "first_record": stream.first_record,
        "sent": asdict(sent(stream.story, record["text"])) if record else None,
        "calls": [call.shown() for call in result.calls if call.name == stream.story.name],
        "viewers": [
            {
                "habit": viewer.habit,
                "answer": asdict(viewer.answer),
                "trouble": viewer.trouble,
                "status": viewer.status,
                "events": [[seen.at, seen.response, seen.id, seen.kind, seen.data] for seen in viewer.events],
            }
            for viewer in (*stream.viewers, *([stream.spoken] if stream.spoken else []))
        ],
    }
