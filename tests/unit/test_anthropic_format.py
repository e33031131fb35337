"""Anthropic's messages API: what only this format has.

What it has in common with the other two stands in ``test_wire_format_contract.py``.
"""

import json
from typing import Any

import pytest

from shared.protocol.sse import ServerSentEvent
from shared.protocol.transcript import Transcript
from worker.providers import adapter
from worker.providers.base import End, Finish, GenerationRequest, ProviderEvent, Said, Usage

anthropic = adapter("anthropic")
HELLO = [{"role": "user", "content": "hi"}]


def read(*events: dict[str, Any] | str, prefix: str = "", name: str = "message") -> list[ProviderEvent]:
    reader = anthropic.reader(GenerationRequest("m", [], prefix=prefix))
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return [meaning for text in texts for meaning in reader.read(ServerSentEvent(name, text, ""))]


def text(said: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}}


def test_a_call_names_the_version_of_the_api() -> None:
    assert anthropic.call(GenerationRequest("claude", HELLO), "").headers["anthropic-version"] == "2023-06-01"


def test_a_prefix_is_sent_without_white_space_at_its_end_and_none_is_said_twice_at_the_seam() -> None:
    asked = GenerationRequest("m", HELLO, prefix="Once upon \n", continues="prefill")
    assert anthropic.call(asked, "").body["messages"][-1] == {
        "role": "assistant",
        "content": [{"type": "text", "text": "Once upon"}],
    }
    events = (text(" "), text("\n a time"), text(" there"))
    assert read(*events, prefix="Once upon \n") == [Said({"text": "a time"}), Said({"text": " there"})]
    assert read(text(" a time"), prefix="Once upon") == [Said({"text": " a time"})]


def test_a_prefix_of_white_space_alone_is_not_sent() -> None:
    assert len(anthropic.call(GenerationRequest("m", HELLO, prefix=" \n"), "").body["messages"]) == 1


def test_counts_are_cumulative_and_what_is_null_did_not_change() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
    usage = {"output_tokens": 7, "input_tokens": None, "cache_read_input_tokens": 4}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    assert read(start, end) == [Usage(9, 1), Finish("stop"), Usage(13, 7, 4)]


def test_the_stop_sequence_that_was_met_is_kept() -> None:
    delta = {"stop_reason": "stop_sequence", "stop_sequence": "###"}
    assert read({"type": "message_delta", "delta": delta}) == [
        Said({"provider": {"type": "stop_sequence", "data": "###"}}),
        Finish("stop"),
    ]


def test_a_tools_input_that_comes_whole_is_its_arguments() -> None:
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {"q": 1}}
    start = {"type": "content_block_start", "index": 1, "content_block": block}
    assert read(start, {"type": "content_block_stop", "index": 1}) == [
        Said({"tool_call": {"index": 0, "id": "a", "name": "f"}}),
        Said({"tool_call": {"index": 0, "arguments": '{"q":1}'}}),
    ]


def test_pings_and_stops_mean_nothing_and_the_end_is_the_end() -> None:
    assert read("", {"type": "ping"}, {"type": "content_block_stop", "index": 0}) == []
    assert read({"type": "message_stop"}) == [End()]


BEHIND = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}}


def test_a_type_that_is_missing_is_the_events_name() -> None:
    delta = {"index": 0, "delta": {"text": "a"}}
    assert read(delta, name="content_block_delta") == [Said({"text": "a"})]


def block(index: Any, name: str, whole: Any, *pieces: Any) -> list[dict[str, Any]]:
    start = {"type": "tool_use", "id": f"c_{name}", "name": name, "input": whole}
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *(
            {
                "type": "content_block_delta",
                "index": index,
                "delta": {"type": "input_json_delta", "partial_json": one},
            }
            for one in pieces
        ),
        {"type": "content_block_stop", "index": index},
    ]


def calls(*events: dict[str, Any]) -> list[tuple[Any, ...]]:
    transcript = Transcript()
    for one in read(*events, {"type": "message_stop"}):
        if isinstance(one, Said):
            transcript.add(one.delta)
    return [(call["id"], call["name"], call["arguments"]) for call in transcript.tool_calls]


@pytest.mark.parametrize(
    ("whole", "pieces"),
    [
        ({}, ['{"a"', ":1}"]),
        ({"a": 1}, []),
        ({"a": 1}, ['{"a":1}']),
        ({"a": 1}, ["", '{"a"', ":1}"]),
        ('{"a":1}', []),
        (None, [{"a": 1}]),
        ({}, ['{"a":1}', '{"a": 1}']),
    ],
)
def test_a_whole_input_and_its_pieces_are_the_same_once(whole: Any, pieces: list[Any]) -> None:
    assert calls(*block(0, "f", whole, *pieces)) == [("c_f", "f", '{"a":1}')]
    assert calls(*block(0, "f", whole, *pieces)[:-1]) == [("c_f", "f", '{"a":1}')], "without its stop"


@pytest.mark.parametrize("indices", [(0, 0), (None, None), (0, 1), ("0", "1"), (5, 5)])
def test_two_calls_stay_two_whatever_their_index(indices: tuple[Any, Any]) -> None:
    one, two = block(indices[0], "f", {}, '{"a":', "1}"), block(indices[1], "g", {}, '{"b":2}')
    assert calls(*one, *two) == [("c_f", "f", '{"a":1}'), ("c_g", "g", '{"b":2}')]


def test_a_call_that_has_no_id_and_no_arguments_gets_both() -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f"}}
    ((made, name, arguments),) = calls(start)
    assert (name, arguments) == ("f", "{}")
    assert made.startswith("call_")


def test_thinking_is_kept_whole_with_its_signature_at_its_end() -> None:
    def delta(**fields: str) -> dict[str, Any]:
        kind = next(iter(fields))
        return {"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", **fields}}

    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}
    stop = {"type": "content_block_stop", "index": 0}
    said = [Said({"reasoning": "a"}), Said({"reasoning": "b"})]
    kept = Said({"provider": {"type": "thinking", "data": {"index": 0, "thinking": "ab", "signature": "S1S2"}}})
    pieces = [delta(thinking="a"), delta(thinking="b"), delta(signature="S1"), delta(signature="S2")]
    assert read(start, *pieces, stop) == [*said, kept]
    assert read(start, *pieces, {"type": "message_stop"}) == [*said, kept, End()]
    assert read(start, *pieces[:2], stop) == said, "nobody takes it back without its signature"


def test_a_block_keeps_a_bounded_part_and_loses_no_text() -> None:
    reader = anthropic.reader(GenerationRequest("m", []))
    for kind, delta, piece in (
        ("thinking", "signature", "signature"),
        ("server_tool_use", "input_json", "partial_json"),
    ):
        start = {"type": "content_block_start", "index": 0, "content_block": {"type": kind}}
        more = {"type": "content_block_delta", "index": 0, "delta": {"type": f"{delta}_delta", piece: "x" * 1000}}
        events = [start, *[more] * 1100, BEHIND, {"type": "content_block_stop", "index": 0}]
        seen = [one for e in events for one in reader.read(ServerSentEvent("message", json.dumps(e), ""))]
        assert seen == [Said({"text": "b"}), Said({"provider": {"type": "omitted", "data": kind}})]


def test_a_sign_of_life_of_a_new_type_is_no_part() -> None:
    assert read({"type": "keep_alive"}, BEHIND) == [Said({"text": "b"})]


def test_redacted_thinking_is_kept_as_it_came() -> None:
    start = {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "redacted_thinking", "data": "RU5D"},
    }
    assert read(start, {"type": "content_block_stop", "index": 1}) == [
        Said({"provider": {"type": "redacted_thinking", "data": {"index": 1, "data": "RU5D"}}})
    ]


def test_an_answer_is_open_while_a_block_is() -> None:
    reader = anthropic.reader(GenerationRequest("m", []))
    seen = []
    for event in block(0, "f", {}, '{"a":1}'):
        list(reader.read(ServerSentEvent("message", json.dumps(event), "")))
        seen.append(reader.open)
    assert seen == [True, True, False]


WHOLE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "S"},
        {"type": "text", "text": "Hi"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 3, "output_tokens": 4},
}


def test_a_whole_message_is_an_answer() -> None:
    meanings = list(anthropic.reader(GenerationRequest("m", [])).whole(WHOLE))
    assert meanings == [
        Said({"reasoning": "hm"}),
        Said({"provider": {"type": "thinking", "data": {"index": 0, "thinking": "hm", "signature": "S"}}}),
        Said({"text": "Hi"}),
        Said({"tool_call": {"index": 0, "id": "c", "name": "f"}}),
        Said({"tool_call": {"index": 0, "arguments": '{"a":1}'}}),
        Finish("tool_calls"),
        Usage(3, 4),
    ]


def test_a_message_that_is_whole_in_its_start_is_said_once() -> None:
    start = {"type": "message_start", "message": {"content": [{"type": "text", "text": "Hi"}]}}
    assert read(start, {"type": "message_stop"}) == [Said({"text": "Hi"}), End()]
    again = [{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, text("Hi")]
    assert read(start, *again, {"type": "message_stop"}) == [Said({"text": "Hi"}), End()]
