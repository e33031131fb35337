"""Take-overs and cancels, timed from what the provider saw, and what is promised of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from tests.chaos.faults import Fault
from tests.chaos.load import Stream
from tests.chaos.process_faults import ENDED, KILLED
from tests.chaos.world import Struck
from tests.support.scripted_answer import Call

CLOSED_WITHIN_S = 2.5
"""A worker told to stop writes its last words first; a killed one's sockets close at once."""

PROMISED_S = {KILLED.name: 5.0, ENDED.name: 1.0}
"""What docs/guarantees.md says of a worker that alone was killed, or told to stop: more than the median."""
ENOUGH = 3
"""Of fewer the median is one busy moment of the machine."""


@dataclass(frozen=True)
class TakeOver:
    """From the fault to the next attempt's call. ``clean``: nothing else struck meanwhile or shortly before."""

    seconds: float
    clean: bool


def take_overs(
    kind: Fault, struck: Sequence[Struck], streams: Sequence[Stream], calls: Sequence[Call]
) -> list[TakeOver]:
    """Every take-over that a fault of this kind led to. (After a fault nobody takes over for a lease time, so
    what follows one too closely would time that one.) Streams whose provider has faults of its own are left out:
    their workers close calls too."""
    found = []
    by_name: dict[str, list[Call]] = {stream.story.name: [] for stream in streams if not stream.story.fault}
    for call in calls:
        if call.name in by_name:
            by_name[call.name].append(call)
    for fault in (fault for fault in struck if fault.name == kind.name):
        for siblings in by_name.values():
            for one, two in pairwise(siblings):
                if one.closed_by != "client" or one.closed_at is None:
                    continue
                if not fault.began <= one.closed_at < fault.began + CLOSED_WITHIN_S or two.started < one.closed_at:
                    continue
                clean = not any(
                    other is not fault
                    and other.began < two.started
                    and (other.ended or two.started) > fault.began - kind.calm_s
                    for other in struck
                )
                found.append(TakeOver(two.started - fault.began, clean))
    return found


def shown(found: Sequence[TakeOver]) -> str:
    """Slowest and median, for people."""
    clean = [one.seconds for one in found if one.clean]
    text = f"slowest {max(clean):.2f} s, median {median(clean):.2f} s of {len(clean)}" if clean else "none alone"
    other = [one.seconds for one in found if not one.clean]
    return text + (f" (amid other faults: slowest {max(other):.2f} s of {len(other)})" if other else "")


def too_slow(kind: Fault, found: Sequence[TakeOver]) -> list[str]:
    """What breaks the promise, for people: one text or none."""
    clean = [one.seconds for one in found if one.clean]
    most = PROMISED_S[kind.name]
    if len(clean) < ENOUGH or median(clean) < most:
        return []
    return [
        f"{kind.name}, alone: the median take-over was {median(clean):.2f} s of {len(clean)}, not under {most:g} s"
    ]


def cancels(streams: Sequence[Stream], calls: Sequence[Call]) -> list[float]:
    """For each cancelled stream: how long after the answer its upstream closed (s; 0 if it was earlier)."""
    found = []
    for stream in streams:
        if stream.cancel_answer == "cancelled" and stream.cancelled_at is not None:
            closed = [call.closed_at for call in calls if call.name == stream.story.name and call.closed_at]
            if closed:
                found.append(max(0.0, max(closed) - stream.cancelled_at))
    return found
