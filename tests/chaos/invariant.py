"""The invariant: what every viewer of every stream must have seen. Pure; out come texts, none if all is well."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.stories import Story
from tests.chaos.viewer import TERMINAL, Answer, Seen, Viewer, arguments_of
from tests.support.script import TOOL_ARGUMENTS, call_of, script_reasoning, script_text
from tests.support.scripted_answer import Call

OPENINGS = ("queued", "started", "restart", "snapshot")
NEVER = ("internal_error",)
"""Codes that speak of a mistake in Headrace itself."""


@dataclass
class Facts:
    """All that is known of one stream. ``record`` is None where the stream is no more."""

    story: Story
    viewers: Sequence[Viewer]
    record: dict[str, Any] | None
    calls: Sequence[Call]
    cancelled: bool


def parts(event_id: str) -> tuple[int, int]:
    epoch, _, n = event_id.partition("-")
    return int(epoch), int(n)


def is_gone(seen: Seen) -> bool:
    """Whether this tells that the stream is no more. It has no place in the log, so its id says nothing."""
    return seen.kind == "failed" and seen.data["code"] == "stream_gone"


def order(events: Sequence[Seen]) -> list[str]:
    """Ids rise without holes except where an event says so, and nothing follows the end."""
    found = []
    if events and events[0].kind not in OPENINGS and not is_gone(events[0]):
        found.append(f"begins with {events[0].kind} {events[0].id}")
    for one, two in pairwise(events):
        step = f"{one.kind} {one.id} → {two.kind} {two.id}"
        if one.kind in TERMINAL:
            found.append(f"after the end: {step}")
        elif two.kind == "snapshot" or is_gone(two):
            continue
        elif two.kind == "continued":
            if two.data["after"] != one.id:
                found.append(f"continued after {two.data['after']}: {step}")
        elif parts(two.id)[1] == 0:
            # A snapshot of a log that lost its end may be followed by an opening seen before.
            rises = one.kind == "snapshot" or parts(two.id) > parts(one.id)
            if two.kind not in (*OPENINGS, *TERMINAL) or not rises:
                found.append(f"not an opening that rises: {step}")
        elif parts(two.id) != (parts(one.id)[0], parts(one.id)[1] + 1):
            found.append(f"a hole: {step}")
    return found


def sent(story: Story, text: str) -> Answer:
    """What the winning call sent, all of it."""
    script = story.script
    return Answer(
        script_text(script, call_of(text) or 1),
        "".join(script_reasoning(script)),
        TOOL_ARGUMENTS if script.get("tool_call") else "",
    )


def against_provider(facts: Facts, record: dict[str, Any]) -> list[str]:
    """The record against what the provider sent."""
    text, whole = record["text"], sent(facts.story, record["text"])
    said = Answer(text, record.get("reasoning", ""), arguments_of(record))
    if record["status"] == "done":
        if said != whole:
            return ["the record differs from what the provider sent"]
        full = [c for c in facts.calls if c.call == call_of(text) and c.sent >= 1]
        return [] if full else [f"no call {call_of(text)} was made"]
    if not (
        whole.text.startswith(said.text)
        and whole.reasoning.startswith(said.reasoning)
        and whole.arguments.startswith(said.arguments)
    ):
        return ["what the record holds is no beginning of what the provider sent"]
    return []


def judge(facts: Facts) -> list[str]:
    """Everything that is wrong with this stream."""
    found: list[str] = []
    record = facts.record
    for number, viewer in enumerate(facts.viewers):
        who = f"viewer {number} ({viewer.habit}): "
        wrong = [*viewer.trouble, *order(viewer.events)]
        end = viewer.terminal
        gone = viewer.status == 404 or (end is not None and is_gone(end))
        if gone or record is None:
            wrong.append("the stream is gone")
        elif end is None:
            wrong.append("saw no end")
        elif (end.kind, end.id) != (record["status"], record["last_event_id"]):
            wrong.append(
                f"saw {end.kind} {end.id}, but the record says {record['status']} {record['last_event_id']}"
            )
        elif viewer.answer != Answer(record["text"], record.get("reasoning", ""), arguments_of(record)):
            wrong.append("what it assembled differs from the record")
        found += [who + text for text in wrong]
    if record is None:
        return found
    found += against_provider(facts, record)
    if facts.cancelled and record["status"] != "cancelled":
        found.append(f"a cancel was answered with 200, but the record says {record['status']}")
    if record["status"] == "cancelled" and facts.story.cancel_after_s is None:
        found.append("cancelled, and nobody asked for it")
    if record["status"] == "failed" and record["error"]["code"] in NEVER:
        found.append(f"failed with {record['error']['code']}")
    return found
