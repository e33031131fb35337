"""The Anthropic messages adapter: what is asked, what each event means, and that nothing else gets out of it."""

import json
from typing import Any

import pytest

from shared.protocol.sse import ServerSentEvent
from shared.protocol.transcript import Transcript
from tests.support.conversation import CONVERSATION, TOOL
from worker.providers import adapter
from worker.providers.base import End, Finish, GenerationRequest, ProviderError, ProviderEvent, Said, Usage
from worker.providers.formats.anthropic import DEFAULT_MAX_TOKENS

anthropic = adapter("anthropic")
HELLO = [{"role": "user", "content": "hi"}]


def read(*events: dict[str, Any] | str, prefix: str = "", name: str = "message") -> list[ProviderEvent]:
    reader = anthropic.reader(GenerationRequest("m", [], prefix=prefix))
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return [meaning for text in texts for meaning in reader.read(ServerSentEvent(name, text, ""))]


def text(said: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}}


def refused(event: dict[str, Any] | str, name: str = "message") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        read(event, name=name)
    return caught.value


def test_the_call_has_its_headers_and_the_limit_that_anthropic_wants() -> None:
    call = anthropic.call(GenerationRequest("claude", HELLO), "sk-secret")
    assert call.path == "/messages"
    assert call.headers["x-api-key"] == "sk-secret"
    assert call.headers["anthropic-version"] == "2023-06-01"
    assert "sk-secret" not in repr(call)
    assert call.body == {
        "model": "claude",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "max_tokens": DEFAULT_MAX_TOKENS,
        "stream": True,
    }
    assert "x-api-key" not in anthropic.call(GenerationRequest("claude", HELLO), "").headers


def test_the_call_passes_on_what_was_asked_and_options_go_last() -> None:
    wanted = GenerationRequest(
        "m",
        HELLO,
        max_tokens=5,
        temperature=0.0,
        top_p=1.0,
        stop=["."],
        tools=[TOOL],
        options={"thinking": {"type": "enabled", "budget_tokens": 1024}, "temperature": None},
    )
    body = anthropic.call(wanted, "").body
    assert {"max_tokens": 5, "top_p": 1.0, "stop_sequences": ["."]}.items() <= body.items()
    assert body["tools"] == [
        {"name": "look", "description": "Looks at a thing.", "input_schema": TOOL["parameters"]}
    ]
    assert body["thinking"]["budget_tokens"] == 1024
    assert body["temperature"] is None


def test_a_whole_conversation_is_put_into_its_turns() -> None:
    body = anthropic.call(GenerationRequest("m", CONVERSATION), "").body
    assert body["system"] == "Be short."
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": "a"}},
                {"type": "tool_use", "id": "c2", "name": "look", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": '{"seen":"流れ"}'},
                {"type": "tool_result", "tool_use_id": "c2", "content": "nothing"},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]


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


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
        ("something_new", "other"),
    ],
)
def test_every_stop_reason_has_its_word(said: str, meant: Any) -> None:
    assert read({"type": "message_delta", "delta": {"stop_reason": said}}) == [Finish(meant)]


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


@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        ("overloaded_error", "provider_error_event", True),
        ("rate_limit_error", "provider_error_event", True),
        ("api_error", "provider_error_event", True),
        ("something_new", "provider_error_event", True),
        ("authentication_error", "provider_auth", False),
        ("permission_error", "provider_no_access", False),
        ("billing_error", "provider_no_credit", False),
        ("request_too_large", "context_too_long", False),
        ("not_found_error", "provider_unknown_model", False),
        ("invalid_request_error", "provider_refused", False),
    ],
)
@pytest.mark.parametrize("name", ["error", "message"])
def test_an_error_event_is_retryable_or_a_refusal_by_its_type(
    kind: str, code: str, retryable: bool, name: str
) -> None:
    error = refused({"type": "error", "error": {"type": kind, "message": "Oh no"}}, name)
    assert (error.code, error.retryable, error.refusal) == (code, retryable, not retryable)
    assert "Oh no" in str(error)


@pytest.mark.parametrize("event", ['{"type": "content_blo', "<html>", '{"type": "new", "data": ' + "[" * 100_000])
def test_half_of_an_event_is_garbage(event: Any) -> None:
    error = refused(event)
    assert (error.code, error.retryable, error.refusal) == ("provider_garbage", True, False)


BEHIND = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}}


@pytest.mark.parametrize(
    "event",
    [
        "[]",
        "x",
        "ping",
        "null",
        "{}",
        {"type": 1},
        {"type": "content_block_start"},
        {"type": "content_block_start", "content_block": {"type": None}},
        {"type": "content_block_start", "content_block": []},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": []}},
        {"type": "content_block_delta", "delta": {}},
        {"type": "content_block_delta", "delta": "x"},
        {"type": "content_block_delta", "index": -1, "delta": {"type": "text_delta"}},
        {"type": "content_block_delta", "index": 9, "delta": {"type": "thinking_delta", "thinking": None}},
        {"type": "content_block_stop", "index": "x"},
        {"type": "message_start", "message": None},
        {"type": "message_start", "message": {"content": {}, "usage": []}},
        {"type": "message_delta", "delta": {"stop_reason": 1}},
        {"type": "message_delta", "delta": {"stop_reason": ""}, "usage": "x"},
    ],
)
def test_an_odd_event_means_nothing_and_the_text_lives(event: Any) -> None:
    assert [one for one in read(event, BEHIND) if isinstance(one, Said)] == [Said({"text": "b"})]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (1, "1"),
        (4.5, "4.5"),
        (["a", "b"], "ab"),
        ({"text": "a"}, "a"),
        ("\ud83d", "\ufffd"),
        ("a\udc00b", "a\ufffdb"),
    ],
)
def test_an_odd_text_is_put_right(field: Any, text: str) -> None:
    event = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": field}}
    reader = anthropic.reader(GenerationRequest("m", []))
    meanings = [*reader.read(ServerSentEvent("message", json.dumps(event), "")), *reader.last()]
    assert "".join(one.delta["text"] for one in meanings if isinstance(one, Said)) == text


def test_two_halves_in_two_pieces_are_one_character() -> None:
    halves = [text("a"), text("\ud83d"), text("\udc69b")]
    assert "".join(one.delta["text"] for one in read(*halves) if isinstance(one, Said)) == "a\U0001f469b"


@pytest.mark.parametrize(
    ("count", "meant"), [("7", 7), (7.0, 7), (-1, None), ([], None), (10**30, None), (True, None)]
)
def test_an_odd_count_is_put_right_or_left_out(count: Any, meant: int | None) -> None:
    event = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": count}}
    assert read(event) == [Finish("stop"), Usage(None, meant)]


def test_a_type_that_is_missing_is_the_events_name() -> None:
    delta = {"index": 0, "delta": {"text": "a"}}
    assert read(delta, name="content_block_delta") == [Said({"text": "a"})]


@pytest.mark.parametrize("said", ["error", "ABORT", "insufficient_system_resource", "internal_failure"])
def test_a_failing_end_is_an_error(said: str) -> None:
    error = refused({"type": "message_delta", "delta": {"stop_reason": said}})
    assert (error.code, error.retryable) == ("provider_error_event", True)
    assert said in str(error)


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


def test_what_a_block_keeps_is_bounded_and_its_text_is_not_lost() -> None:
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
