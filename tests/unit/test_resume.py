"""When a provider may carry on, and what is asked of it then."""

import pytest

from shared.config.providers import Provider
from shared.protocol.cursor import Cursor
from shared.protocol.events import encode_data
from shared.protocol.transcript import snapshot_lines
from shared.store.log import Entry
from shared.store.streams import Reading
from worker.attempt.resume import asked_of, how_to_continue

CAN = Provider("local", "openai", "http://x", "", continues="prefill")
CANNOT = Provider("local", "openai", "http://x", "")
PART = {"provider": {"type": "citations_delta", "data": {}}}
TOOL = {"tool_call": {"index": 0, "name": "f", "arguments": "{"}}


def reading(tail: list[dict], snapshot: list[dict] | None = None) -> Reading:
    entries = [Entry(Cursor(1, n), "message", encode_data(delta)) for n, delta in enumerate(tail)]
    return Reading({"attempt": "1"}, snapshot_lines(snapshot or []), entries)


@pytest.mark.parametrize(
    ("said", "how", "strictly"),
    [
        (reading([{"text": "a"}]), "continue", "continue"),
        (reading([{"reasoning": "r"}, {"text": "a"}]), "continue", "continue"),
        (reading([{"text": "a"}, {"reasoning": "r"}]), "restart", "fail"),
        (reading([{"reasoning": "r"}]), "restart", "anew"),
        (reading([TOOL]), "restart", "anew"),
        (reading([{"text": "a"}, TOOL]), "restart", "fail"),
        (reading([TOOL, {"text": "a"}]), "restart", "fail"),
        (reading([PART, {"text": "a"}]), "restart", "fail"),
        (reading([PART]), "restart", "anew"),
        (reading([], [{"text": "a"}]), "continue", "continue"),
        (reading([], [{"text": "a"}, {"reasoning": "r"}]), "restart", "fail"),
        (reading([{"text": "b"}], [TOOL]), "restart", "fail"),
        (reading([]), "anew", "anew"),
        (None, "restart", "restart"),
    ],
)
def test_only_text_can_be_carried_on_and_whoever_forbids_it_sees_no_text_taken_back(
    said: Reading | None, how: str, strictly: str
) -> None:
    assert how_to_continue(CAN, said, "continue") == how
    assert how_to_continue(CAN, said, "continue_or_fail") == strictly
    assert how_to_continue(CANNOT, said, "continue") != "continue"
    assert how_to_continue(CANNOT, said, "continue_or_fail") == {"continue": "fail"}.get(strictly, strictly)
    nothing = said is not None and not said.transcript().as_data().keys() - {"text"} and not said.transcript().text
    shown = how_to_continue(CAN, said, "continue_or_fail", shows_all=True)
    assert shown == ("fail" if strictly == "anew" and not nothing else strictly)


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
