"""OpenAI's Responses: numbers, items and the last event are the same for every reader, wherever it begins."""

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects import native, unasked
from api.dialects.base import About
from api.dialects.responses import ResponsesDialect, output_of, respond, speak
from api.schemas.responses import response_request, unkept
from api.viewing.viewer import resync
from shared.protocol.cursor import Cursor
from shared.protocol.events import decode_data, encode_data
from shared.protocol.transcript import Transcript
from shared.store.log import Entry
from tests.support.made_logs import ATTEMPTS, log_of, trimmed
from tests.support.made_responses import ASKED, events, said, spoken


def accumulated(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, as a client adds them up by the deltas alone."""
    items: list[dict[str, Any]] = []
    for event in deepcopy(told):
        place = event.get("output_index")
        match event["type"]:
            case "response.output_item.added":
                assert place == len(items)
                items.append(event["item"])
            case "response.content_part.added":
                items[place]["content"].append(event["part"])
            case "response.reasoning_summary_part.added":
                items[place]["summary"].append(event["part"])
            case "response.output_text.delta":
                assert items[place]["id"] == event["item_id"]
                items[place]["content"][0]["text"] += event["delta"]
            case "response.reasoning_summary_text.delta":
                items[place]["summary"][0]["text"] += event["delta"]
            case "response.function_call_arguments.delta":
                items[place]["arguments"] += event["delta"]
    return items


def bare(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in item.items() if name not in ("status", "encrypted_content")}
        for item in items
    ]


@given(ATTEMPTS)
def test_the_last_event_has_what_the_deltas_and_the_done_events_said(attempts: list[list[Any]]) -> None:
    told = events(b"".join(said(spoken(), log_of(attempts))))
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    assert told[0]["type"] == "response.created"
    assert told[0]["response"]["status"] == "queued"
    assert told[1]["type"] == "response.in_progress"
    last = told[-1]
    assert last["type"] == "response.completed"
    assert last["response"]["instructions"] == "be brief"
    assert bare(accumulated(told)) == bare(last["response"]["output"])
    done = {one["output_index"]: one["item"] for one in told if one["type"] == "response.output_item.done"}
    assert [done[place] for place in sorted(done)] == last["response"]["output"]
    whole = Transcript()
    for entry in log_of(attempts):
        if entry.type == "message":
            whole.apply(entry.type, entry.data)
    text = "".join(part["text"] for item in last["response"]["output"] for part in item.get("content", ()))
    assert text == whole.text


@given(ATTEMPTS)
def test_a_viewer_goes_on_behind_any_number(attempts: list[list[Any]]) -> None:
    entries = log_of(attempts)
    dialect = spoken(1)
    greeting = dialect.greeting()
    dialect.batch(entries[1:])
    whole = events(b"".join(said(spoken(), entries)))
    for number in range(len(whole)):
        place = dialect.behind(number)
        assert place is not None
        twin = dialect.at(place.cursor)
        assert twin is not None
        rest = [entry for entry in entries[1:] if place.cursor is None or entry.cursor > place.cursor]
        follows = events((greeting if place.cursor is None else b"") + twin.batch(rest))[place.seen :]
        assert follows == whole[number + 1 :]
    assert dialect.behind(len(whole)) is None


@given(ATTEMPTS, st.data())
def test_a_trimmed_log_has_the_same_numbers_and_says_where_it_cannot_go_on(
    attempts: list[list[Any]], data: st.DataObject
) -> None:
    entries = log_of(attempts)
    pieces = said(spoken(), entries)
    whole = events(b"".join(pieces))
    as_of = data.draw(st.integers(1, len(entries) - 2))
    first = data.draw(st.integers(1, as_of))
    reading = trimmed(entries, as_of)
    found = resync(spoken(1), reading, entries[first : as_of + 1])
    told = events(found.head) + events(b"".join(pieces[as_of + 1 :]))
    assert [one["sequence_number"] for one in told] == list(range(len(whole)))
    assert told[-1] == whole[-1]
    assert bare(accumulated(told)) == bare(whole[-1]["response"]["output"])
    gone = len(events(b"".join(pieces[:first])))
    dialect = found.dialect
    assert isinstance(dialect, ResponsesDialect)
    for number in range(len(whole)):
        try:
            place = dialect.behind(number)
        except LookupError:
            assert 1 < number < gone
            continue
        assert place is not None
        if place.cursor is None:
            assert place.seen == number + 1
            assert told[: place.seen] == whole[: place.seen]
            continue
        twin = dialect.at(place.cursor)
        assert twin is not None
        rest = [entry for entry in entries if entry.cursor > place.cursor]
        assert events(twin.batch(rest))[place.seen :] == whole[number + 1 :]


@given(ATTEMPTS, st.data())
def test_the_whole_response_is_the_last_event_s(attempts: list[list[Any]], data: st.DataObject) -> None:
    entries = log_of(attempts)
    whole = events(b"".join(said(spoken(), entries)))
    as_of = data.draw(st.integers(1, len(entries) - 2))
    reading = trimmed(entries, as_of, status="done", result=json.dumps({"finish_reason": "stop"}))
    about = spoken(1).about
    assert json.loads(respond(about, reading)) == whole[-1]["response"]
    assert output_of(about, reading) == whole[-1]["response"]["output"]


def ended(kind: str, data: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    entries = [Entry(Cursor(1, 0), "queued", b"{}"), Entry(Cursor(2, 0), "started", b"{}", Cursor(1, 0))]
    for n, delta in enumerate(deltas, 1):
        entries.append(Entry(Cursor(2, n), "message", encode_data(delta)))
    entries.append(Entry(Cursor(2, len(deltas) + 1), kind, encode_data(data)))
    return events(spoken().batch(entries))


TEXT = {"text": "ab"}
CALL = {"tool_call": {"index": 0, "id": "c", "name": "f", "arguments": "{"}}


@pytest.mark.parametrize(
    ("kind", "data", "last", "status", "reason"),
    [
        ("done", {"finish_reason": "stop"}, "response.completed", "completed", None),
        ("done", {"finish_reason": "tool_calls"}, "response.completed", "completed", None),
        ("done", {"finish_reason": "length"}, "response.incomplete", "incomplete", "max_output_tokens"),
        ("done", {"finish_reason": "content_filter"}, "response.incomplete", "incomplete", "content_filter"),
        ("cancelled", {"reason": "x"}, "response.incomplete", "cancelled", None),
        ("failed", {"code": "worker_lost", "message": "x"}, "response.failed", "failed", None),
        ("failed", {"code": "content_filtered"}, "response.incomplete", "incomplete", "content_filter"),
    ],
)
def test_each_end_has_its_event_and_its_status(
    kind: str, data: dict, last: str, status: str, reason: str | None
) -> None:
    told = ended(kind, data, TEXT, CALL)
    assert told[-1]["type"] == last
    response = told[-1]["response"]
    assert response["status"] == status
    assert response["incomplete_details"] == (reason and {"reason": reason})
    assert [item["type"] for item in response["output"]] == ["message", "function_call"]
    assert response["output"][-1]["status"] == ("completed" if status == "completed" else "incomplete")
    assert response["output"][0]["status"] == "completed"
    if status == "failed":
        assert response["error"] == {"code": "server_error", "message": "x", "type": "worker_lost", "param": None}
    else:
        assert response["error"] is None
    assert told[-2]["item"] == response["output"][-1]


def test_usage_is_told_in_openais_words() -> None:
    told = ended(
        "done", {"finish_reason": "stop", "usage": {"input_tokens": 7, "output_tokens": 5, "reasoning_tokens": 2}}
    )
    assert told[-1]["response"]["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    }


def test_what_a_provider_wants_back_goes_along_with_reasoning() -> None:
    signature = {"type": "thinking", "data": {"index": 0, "thinking": "hm", "signature": "s"}}
    thought = {"type": "thoughtSignature", "data": {"signature": "t"}}
    cited = {"type": "citations_delta", "data": {}}
    told = ended(
        "done", {}, {"reasoning": "hm"}, {"provider": signature}, TEXT, {"provider": cited}, {"provider": thought}
    )
    output = told[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "reasoning"]
    assert unkept(output[0]["encrypted_content"]) == ("p", [signature])
    assert unkept(output[2]["encrypted_content"]) == ("p", [thought])
    assert [one["item"] for one in told if one["type"] == "response.output_item.done"] == output
    assert unkept("gAAAA") == unkept("") == ("", [])


def test_an_answer_that_comes_back_is_the_turn_that_its_provider_made() -> None:
    """By its items, as clients send them, and by previous_response_id, which takes the same items."""
    signature = {"type": "thinking", "data": {"index": 0, "thinking": "hm", "signature": "s"}}
    output = ended("done", {}, {"reasoning": "hm"}, {"provider": signature}, TEXT, CALL)[-1]["response"]["output"]
    result = {"type": "function_call_output", "call_id": "c", "output": "x"}
    question = {"role": "user", "content": "?"}
    by_items = response_request({"input": [question, *output, result]}, [], 30.0)
    assert by_items.asked.turns()[1] == {
        "role": "assistant",
        "content": [{"type": "text", "text": "ab"}],
        "reasoning": "hm",
        "tool_calls": [{"id": "c", "name": "f", "arguments": "{"}],
        "provider_parts": [signature],
        "provider": "p",
    }
    history = [*response_request({"input": [question]}, [], 30.0).items, *output]
    assert response_request({"input": [result]}, history, 30.0).asked.turns() == by_items.asked.turns()


def test_a_refusal_is_told_as_one() -> None:
    told = ended(
        "done",
        {},
        {"reasoning": "hm"},
        {"provider": {"type": "refusal", "data": {}}},
        {"text": "I "},
        {"text": "can't."},
    )
    kinds = [one["type"] for one in told]
    at = kinds.index("response.refusal.delta")
    assert kinds[at - 3 : at + 5] == [
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.refusal.delta",
        "response.refusal.delta",
        "response.refusal.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    content = [{"type": "refusal", "refusal": "I can't."}]
    assert told[-1]["response"]["output"][1]["content"] == content
    assert told[-2]["item"]["content"] == content
    assert "response.output_text.delta" not in kinds


def test_text_behind_a_refusal_s_part_is_text() -> None:
    mark = {"provider": {"type": "refusal", "data": {}}}
    told = ended("done", {}, TEXT, mark, {"text": "c"}, {"reasoning": "hm"}, {"text": "d"})
    contents = [item["content"] for item in told[-1]["response"]["output"] if item["type"] == "message"]
    assert [content[0]["type"] for content in contents] == ["output_text", "output_text"]


def test_an_error_of_the_connection_is_no_event_of_the_response() -> None:
    dialect = spoken()
    told = events(dialect.batch([Entry(Cursor(1, 0), "queued", b"{}"), Entry(Cursor(2, 0), "started", b"{}")]))
    for raw in (dialect.parting(), dialect.gone(), dialect.lost()):
        (error,) = events(raw)
        assert error["type"] == "error"
        assert error["sequence_number"] == told[-1]["sequence_number"]
    assert events(spoken().lost())[0]["sequence_number"] == 0


def test_a_fallback_is_named() -> None:
    entries = [
        Entry(Cursor(1, 0), "queued", b"{}"),
        Entry(Cursor(2, 0), "started", encode_data({"model": "p/m"})),
        Entry(Cursor(3, 0), "started", encode_data({"model": "q/n"}), Cursor(2, 0)),
        Entry(Cursor(3, 1), "done", b"{}"),
    ]
    assert events(spoken().batch(entries))[-1]["response"]["model"] == "q/n"


def test_what_a_response_tells_of_its_request_is_not_repeated_for_each_entry_without_a_word() -> None:
    entries = [Entry(Cursor(1, 0), "queued", b"{}"), Entry(Cursor(2, 0), "started", b"{}")]
    entries += [Entry(Cursor(2, n), "waiting", b"{}") for n in range(1, 4)]
    told = events(spoken().batch(entries))
    assert [one["response"]["instructions"] for one in told] == ["be brief", "be brief", None, None, None]
    assert decode_data(ASKED.encode())["responses"]["instructions"] == "be brief"


def test_an_entry_that_a_trimmed_log_lost_is_a_short_event() -> None:
    """With the response in each of them an answer of 100,000 pieces was 65 MB for whoever read it later."""
    entries = log_of([[{"text": "x" * 40}] * 3000 + [{"reasoning": "y"}, {"text": "z"}]])
    found = resync(spoken(1), trimmed(entries, len(entries) - 2), [])
    assert len(found.head) < 450 * len(entries)  # of which the text, four times, is 160
    assert found.head.count(b"response.in_progress") == 2  # the name and the type of one event


def test_who_may_read_the_answer_alone_is_not_told_what_was_asked() -> None:
    """A read token's holder read the instructions in the response, by dialect=responses."""
    about = About("s", "p/m", 1000, 0, ASKED)
    told, untold = speak(about), unasked(speak)(about)
    entries = log_of([[{"text": "x"}]])
    assert b"be brief" in told.batch(entries)
    assert b"be brief" not in untold.batch(entries)
    assert told.name != untold.name, "they would share their bytes"
    assert native.speak(about).name == unasked(native.speak)(about).name
