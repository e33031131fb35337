"""The invariants: what every viewer of every stream must have seen. Pure; out come texts, none if all is well.

Two promises, two invariants. :func:`judge`: what was acknowledged, or seen by a viewer, is there.
:func:`judge_weak`: where the server may have lost its last moments, each viewer saw one answer, in order and once,
and an end; what the server forgot is counted (:data:`LOSSES`) and is no fault.
"""

from collections.abc import Iterator, Sequence
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

GONE = "a 202 became a 404"
AGAIN = "an ended stream was generated again"
FORGOTTEN = "a cancel was forgotten"
LOSSES = (GONE, AGAIN, FORGOTTEN)
"""What a server that promises less may do, as the guarantees say."""


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


def order(events: Sequence[Seen]) -> list[str]:
    """Ids rise without holes except where an event says so, and nothing follows the end."""
    found = []
    if events and events[0].kind not in OPENINGS and not events[0].is_gone:
        found.append(f"begins with {events[0].kind} {events[0].id}")
    for one, two in pairwise(events):
        step = f"{one.kind} {one.id} → {two.kind} {two.id}"
        if one.kind in TERMINAL:
            found.append(f"after the end: {step}")
        elif two.kind == "snapshot" or two.is_gone:
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


def of_record(record: dict[str, Any]) -> Answer:
    return Answer(record["text"], record.get("reasoning", ""), arguments_of(record))


def against_provider(facts: Facts, status: str, said: Answer) -> list[str]:
    """What was said, against what the provider sent."""
    whole = sent(facts.story, said.text)
    if status == "done":
        if said != whole:
            return ["it differs from what the provider sent"]
        full = [c for c in facts.calls if c.call == call_of(said.text) and c.sent >= 1]
        return [] if full else [f"no call {call_of(said.text)} was made"]
    if not (
        whole.text.startswith(said.text)
        and whole.reasoning.startswith(said.reasoning)
        and whole.arguments.startswith(said.arguments)
    ):
        return ["it is no beginning of what the provider sent"]
    return []


def judge(facts: Facts) -> list[str]:
    """Everything that is wrong with this stream."""
    found: list[str] = []
    record = facts.record
    for who, viewer in _each(facts):
        found += [who + text for text in _wrong_of(viewer)]
        if viewer.is_gone or record is None:
            found.append(who + "the stream is gone")
        elif (end := viewer.terminal) and not _is_end_of(end, record):
            found.append(
                f"{who}saw {end.kind} {end.id}, but the record says {record['status']} {record['last_event_id']}"
            )
        elif end and viewer.answer != of_record(record):
            found.append(who + "what it assembled differs from the record")
    if record is None:
        return found
    if facts.cancelled and record["status"] != "cancelled":
        found.append(f"a cancel was answered with 200, but the record says {record['status']}")
    return found + _wrong_of_record(facts, record)


def judge_weak(facts: Facts) -> tuple[list[str], list[str]]:
    """Everything that is wrong with this stream, and what the server forgot of it (of ``LOSSES``)."""
    found: list[str] = []
    lost: list[str] = []
    record = facts.record
    for who, viewer in _each(facts):
        found += [who + text for text in _wrong_of(viewer)]
        end = viewer.terminal
        if end and record and _is_end_of(end, record):
            wrong = [] if viewer.answer == of_record(record) else ["what it assembled differs from the record"]
        elif end and not viewer.is_gone:
            wrong = against_provider(facts, end.kind, viewer.answer)
            lost.append(AGAIN)
        else:
            wrong = against_provider(facts, "", viewer.answer)
        found += [who + text for text in wrong]
    if record is None:
        return found, [GONE]
    if facts.cancelled and record["status"] != "cancelled":
        lost.append(FORGOTTEN)
    return found + _wrong_of_record(facts, record), lost


def _each(facts: Facts) -> Iterator[tuple[str, Viewer]]:
    for number, viewer in enumerate(facts.viewers):
        yield f"viewer {number} ({viewer.habit}): ", viewer


def _wrong_of(viewer: Viewer) -> list[str]:
    """What no viewer may meet, whatever was promised."""
    over = viewer.terminal or viewer.is_gone
    return [*viewer.trouble, *order(viewer.events), *([] if over else ["saw no end"])]


def _is_end_of(end: Seen, record: dict[str, Any]) -> bool:
    return (end.kind, end.id) == (record["status"], record["last_event_id"])


def _wrong_of_record(facts: Facts, record: dict[str, Any]) -> list[str]:
    found = [f"the record: {text}" for text in against_provider(facts, record["status"], of_record(record))]
    if record["status"] == "cancelled" and facts.story.cancel_after_s is None:
        found.append("cancelled, and nobody asked for it")
    if record["status"] == "failed" and record["error"]["code"] in NEVER:
        found.append(f"failed with {record['error']['code']}")
    return found
