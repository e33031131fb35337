"""What every wire format keeps to: one list of cases, over the table in ``tests/support/wire_formats.py``.

What only one of them has stands in ``test_openai_format.py``, ``test_anthropic_format.py`` and
``test_google_format.py``.
"""

import json
from typing import Any, get_args

import pytest

from shared.config.providers import WireFormat
from tests.support.conversation import CONVERSATION, TOOL
from tests.support.wire_formats import ODD_TEXTS, WIRE_FORMATS, WireFormatRow, sse
from worker.providers import UnknownWireFormat, adapter
from worker.providers.base import End, Finish, GenerationRequest, ProviderError, Said, Usage

HELLO = [{"role": "user", "content": "hi"}]
ALL = pytest.mark.parametrize("wire", WIRE_FORMATS, ids=lambda wire: wire.name)


def rows(field: str) -> pytest.MarkDecorator:
    """The items of one field, each with its format."""
    found: list[Any] = []
    for wire in WIRE_FORMATS:
        values = getattr(wire, field)
        items = values.items() if isinstance(values, dict) else ((value,) for value in values)
        found += [pytest.param(wire, *item, id=f"{wire.name}-{str(item[0])[:60]}") for item in items]
    names = {"finish_reasons": "wire, said, meant", "errors": "wire, kind, meant"}
    return pytest.mark.parametrize(names.get(field, "wire, one"), found)


def refused(wire: WireFormatRow, event: Any, name: str = "message") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        wire.read(event, name=name)
    return caught.value


# -- what is sent -----------------------------------------------------------------------------------------


@ALL
def test_a_call_has_its_path_its_key_and_nothing_that_was_not_asked(wire: WireFormatRow) -> None:
    call = wire.call(GenerationRequest("m", HELLO), "sk-secret")
    name, value = wire.key_header
    assert (call.path, call.headers[name]) == (wire.path, value)
    assert "sk-secret" not in repr(call)
    assert call.body == wire.asked("hi")


@ALL
def test_a_call_without_a_key_has_no_header_for_one(wire: WireFormatRow) -> None:
    assert wire.key_header[0] not in wire.call(GenerationRequest("m", HELLO)).headers


@ALL
def test_a_call_passes_on_what_was_asked(wire: WireFormatRow) -> None:
    asked = GenerationRequest("m", HELLO, max_tokens=5, temperature=0.0, top_p=1.0, stop=["."], tools=[TOOL])
    assert wire.wishes.items() <= wire.call(asked).body.items()


@ALL
def test_options_go_last_into_the_body(wire: WireFormatRow) -> None:
    asked = GenerationRequest(
        "m", HELLO, max_tokens=5, temperature=0.0, top_p=1.0, stop=["."], options=wire.options
    )
    assert wire.with_options.items() <= wire.call(asked).body.items()


@ALL
def test_a_whole_conversation_is_put_into_the_format_s_turns(wire: WireFormatRow) -> None:
    assert wire.conversation.items() <= wire.call(GenerationRequest("m", CONVERSATION)).body.items()


@pytest.mark.parametrize("name", ["nobody", "client", "base", "../openai", "os", "", "Openai"])
def test_an_unknown_wire_format_says_which_file_to_add(name: str) -> None:
    with pytest.raises(UnknownWireFormat, match=r"worker/providers/"):
        adapter(name)


# -- what an event means ----------------------------------------------------------------------------------


@ALL
def test_text_and_thinking_are_said_as_they_come(wire: WireFormatRow) -> None:
    assert wire.read(wire.thinking("hm"), wire.text("流れ"), wire.text(" ok")) == [
        Said({"reasoning": "hm"}),
        Said({"text": "流れ"}),
        Said({"text": " ok"}),
    ]


@ALL
@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_text_says_nothing(wire: WireFormatRow, nothing: str | None) -> None:
    assert wire.read(wire.text(nothing), wire.finish(nothing)) == []


@ALL
@pytest.mark.parametrize("nothing", ["", "  "])
def test_an_event_without_data_says_nothing(wire: WireFormatRow, nothing: str) -> None:
    assert wire.read(nothing) == []


@rows("finish_reasons")
def test_a_finish_reason_has_its_word(wire: WireFormatRow, said: str, meant: Any) -> None:
    assert wire.read(wire.finish(said)) == [Finish(meant)]


@ALL
def test_an_answer_is_told_in_its_order_to_its_end(wire: WireFormatRow) -> None:
    reason = next(iter(wire.finish_reasons))
    ends = [End()] if wire.end else []
    meant = [Said({"text": "a"}), Finish("stop"), Usage(5, 6), *ends]
    assert wire.read(wire.text("a"), wire.finish(reason), wire.usage(5, 6), *wire.end) == meant


@ALL
def test_an_answer_without_a_stream_is_told_whole(wire: WireFormatRow) -> None:
    reason = next(said for said, meant in wire.finish_reasons.items() if meant == "stop")
    whole = wire.whole("Hi", ("c", "f", '{"a":1}'), reason, (3, 4))
    meanings = list(wire.reader().whole(whole))
    assert meanings[0] == Said({"text": "Hi"})
    assert [one for one in meanings if isinstance(one, Usage)] == [Usage(3, 4)]
    assert len([one for one in meanings if isinstance(one, Finish)]) == 1
    calls = [one.delta["tool_call"] for one in meanings if isinstance(one, Said) and "tool_call" in one.delta]
    together = {name: value for call in calls for name, value in call.items()}
    assert together == {"index": 0, "id": "c", "name": "f", "arguments": '{"a":1}'}


# -- tool calls -------------------------------------------------------------------------------------------


@ALL
def test_calls_are_told_whole_and_numbered_over_the_answer(wire: WireFormatRow) -> None:
    calls = [("c1", "f", '{"a":1}'), ("c2", "g", '{"b":2}'), ("c3", "f", '{"a":1}')]
    assert wire.told_calls(*wire.calls(*calls), *wire.end) == calls


@ALL
@pytest.mark.parametrize("arguments", [None, "{}"])
def test_a_call_without_arguments_has_an_empty_object(wire: WireFormatRow, arguments: str | None) -> None:
    assert wire.told_calls(*wire.calls(("c", "now", arguments))) == [("c", "now", "{}")]


@ALL
def test_calls_without_ids_get_ones_of_their_own_the_same_for_the_same_answer(wire: WireFormatRow) -> None:
    events = wire.calls((None, "f", '{"a":1}'), (None, "g", '{"b":2}'))
    (one, name, arguments), (two, other, more) = wire.told_calls(*events)
    assert ((name, arguments), (other, more)) == (("f", '{"a":1}'), ("g", '{"b":2}'))
    assert len({one, two} - {None, ""}) == 2


@ALL
def test_the_same_id_twice_names_one_call_only(wire: WireFormatRow) -> None:
    one, two = wire.told_calls(*wire.calls(("c", "f", '{"a":1}'), ("c", "g", '{"b":2}')))
    assert one == ("c", "f", '{"a":1}')
    assert two[0] not in ("", "c")
    assert two[1:] == ("g", '{"b":2}')


# -- what fails -------------------------------------------------------------------------------------------


@rows("errors")
@pytest.mark.parametrize("name", ["message", "error"])
def test_an_error_in_the_stream_is_retryable_or_a_refusal_by_its_kind(
    wire: WireFormatRow, kind: str, meant: tuple[str, bool], name: str
) -> None:
    code, retryable = meant
    error = refused(wire, wire.error(kind), name)
    assert (error.code, error.retryable, error.refusal) == (code, retryable, not retryable)
    assert "Oh no" in str(error)


@ALL
@pytest.mark.parametrize("event", ["half", "<html>", "[" * 100_000, '{"x": ' * 100_000, '"half'])
def test_half_of_an_event_is_garbage(wire: WireFormatRow, event: str) -> None:
    if event == "half":
        event = json.dumps(wire.text("a"))[:-9]
    error = refused(wire, event)
    assert (error.code, error.retryable, error.refusal) == ("provider_garbage", True, False)


@rows("failing_ends")
def test_an_end_that_failed_is_an_error_behind_the_text(wire: WireFormatRow, one: str) -> None:
    reader = wire.reader()
    assert list(reader.read(sse(wire.text("a")))) == [Said({"text": "a"})]
    with pytest.raises(ProviderError, match=one) as caught:
        list(reader.read(sse(wire.finish(one))))
    assert (caught.value.code, caught.value.retryable, caught.value.refusal) == (
        "provider_error_event",
        True,
        False,
    )


# -- what is odd --------------------------------------------------------------------------------------------


@rows("odd")
def test_an_odd_event_says_nothing_and_the_text_lives(wire: WireFormatRow, one: Any) -> None:
    assert [said for said in wire.read(one, wire.text("b")) if not isinstance(said, Usage)] == [Said({"text": "b"})]


@ALL
@pytest.mark.parametrize("event", ["[]", "1", "null", '"text"', "x", "ping", "keep-alive", "still working"])
def test_a_sign_of_life_says_nothing_and_the_text_lives(wire: WireFormatRow, event: str) -> None:
    assert wire.told(event, wire.text("b")) == {"text": "b"}


@ALL
@pytest.mark.parametrize(("text", "meant"), ODD_TEXTS)
def test_an_odd_text_is_put_right(wire: WireFormatRow, text: Any, meant: str) -> None:
    assert wire.told(wire.text(text)) == {"text": meant}


@ALL
def test_the_halves_of_a_character_in_two_pieces_are_one(wire: WireFormatRow) -> None:
    pieces = [wire.text("a\ud83d"), wire.text("\udc69b"), wire.thinking("c\ud83d"), wire.thinking("\udc69")]
    assert wire.told(*pieces) == {"text": "a\U0001f469b", "reasoning": "c\U0001f469"}


@ALL
@pytest.mark.parametrize(
    ("count", "meant"),
    [
        ("7", 7),
        (7.0, 7),
        (7.9, 7),
        (-1, None),
        ([], None),
        (10**30, None),
        (True, None),
        ("many", None),
        (None, None),
    ],
)
def test_an_odd_count_is_put_right_or_left_out(wire: WireFormatRow, count: Any, meant: int | None) -> None:
    assert wire.read(wire.usage(count, 2)) == [Usage(meant, 2)]


def test_the_table_has_a_row_for_each_format() -> None:
    assert {wire.name for wire in WIRE_FORMATS} == set(get_args(WireFormat))
