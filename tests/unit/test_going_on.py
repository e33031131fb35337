"""When a provider may carry on, and what is asked of it then."""

import pytest

from shared.events import encode_data, snapshot_lines
from shared.ids import Cursor
from shared.log import Entry
from shared.providers import Provider
from shared.streams import Reading
from worker.going_on import asked_of, can_continue

CAN = Provider("local", "openai", "http://x", "", continues="prefill")
CANNOT = Provider("local", "openai", "http://x", "")
TOOL = {"tool_call": {"index": 0, "name": "f", "arguments": "{"}}


def reading(tail: list[dict], snapshot: list[dict] | None = None) -> Reading:
    entries = [Entry(Cursor(1, n), "message", encode_data(delta)) for n, delta in enumerate(tail)]
    return Reading({"attempt": "1"}, snapshot_lines(snapshot or []), entries)


@pytest.mark.parametrize(
    ("said", "may"),
    [
        (reading([{"text": "a"}]), True),
        (reading([{"reasoning": "r"}, {"text": "a"}]), True),
        (reading([{"text": "a"}, {"reasoning": "r"}]), False),
        (reading([{"reasoning": "r"}]), False),
        (reading([{"text": "a"}, TOOL]), False),
        (reading([TOOL, {"text": "a"}]), False),
        (reading([{"provider": {"type": "citations_delta", "data": {}}}, {"text": "a"}]), False),
        (reading([], [{"text": "a"}]), True),
        (reading([], [{"text": "a"}, {"reasoning": "r"}]), False),
        (reading([{"text": "b"}], [TOOL]), False),
        (reading([]), False),
        (None, False),
    ],
)
def test_only_text_can_be_carried_on(said: Reading | None, may: bool) -> None:
    assert can_continue(CAN, said) is may
    assert not can_continue(CANNOT, said)


def test_tools_and_options_are_asked_in_every_attempt() -> None:
    request = {"model": "m", "messages": [], "tools": [{"name": "f"}], "provider_options": {"seed": 1}}
    for said in (None, reading([{"text": "a"}])):
        asked = asked_of(request, CAN, said)
        assert (asked.tools, asked.options) == ([{"name": "f"}], {"seed": 1})


def test_the_prefix_is_all_that_was_said_and_the_limit_is_what_is_left() -> None:
    request = {"model": "m", "messages": [], "max_tokens": 100, "temperature": 0.5}
    asked = asked_of(request, CAN, reading([{"text": "cd"}], [{"text": "ab" * 20}]))
    assert asked.prefix == "ab" * 20 + "cd"
    assert asked.max_tokens == 90
    assert asked_of(request, CAN, None).max_tokens == 100
    long = asked_of(request, CAN, reading([{"text": "x" * 4000}]))
    assert long.max_tokens == 1
