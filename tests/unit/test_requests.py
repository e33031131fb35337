"""What a request may say: turns, parts, tools and options, each refused clearly where it is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.schemas.messages import MAX_MESSAGES, MAX_PARTS, MAX_TOOLS
from api.schemas.requests import CreateStream
from shared.protocol.json_depth import MAX_DEPTH
from tests.support.conversation import CONVERSATION, TOOL

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "name": "f", "arguments": "{}"}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def test_a_whole_conversation_is_taken_and_handed_on_as_it_came() -> None:
    asked = CreateStream(messages=CONVERSATION, tools=[TOOL], provider_options={"seed": None})
    assert asked.turns() == CONVERSATION
    told = asked.model_dump(exclude_none=True)
    assert told["tools"] == [TOOL]
    assert told["provider_options"] == {"seed": None}


def test_a_plain_prompt_is_one_turn() -> None:
    assert CreateStream(prompt="hi").turns() == [USER]
    assert CreateStream(messages=[USER]).turns() == [USER]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "robot", "content": "x"}], "role"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": ""}], "at least 1"),
        ([{"role": "user", "content": []}], "at least 1"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}] * (MAX_PARTS + 1)}], f"at most {MAX_PARTS}"),
        ([USER] * (MAX_MESSAGES + 1), f"at most {MAX_MESSAGES}"),
        ([{"role": "user", "content": [{"type": "audio", "data": "x"}]}], "type"),
        ([{"role": "user", "content": [{"type": "text", "text": "x", "color": 1}]}], "not permitted"),
        ([{"role": "user", "content": [{"type": "image"}]}], "either a url or data"),
        (
            [{"role": "user", "content": [{"type": "image", "url": "https://x/a", "data": "aGk="}]}],
            "either a url or data",
        ),
        ([{"role": "user", "content": [{"type": "image", "url": "file:///etc/passwd"}]}], "pattern"),
        ([{"role": "user", "content": [{"type": "image", "url": "https://x/" + "a" * 3000}]}], "at most 2048"),
        ([{"role": "user", "content": [{"type": "image", "data": "aGk="}]}], "media_type"),
        (
            [{"role": "user", "content": [{"type": "image", "data": "a b!", "media_type": "image/png"}]}],
            "must be base64",
        ),
        (
            [{"role": "user", "content": [{"type": "image", "data": "aGk=", "media_type": "image/tiff"}]}],
            "image/png",
        ),
        ([{"role": "system", "content": [{"type": "image", "url": "https://x/a"}]}, USER], "text"),
        ([USER, {"role": "assistant"}, USER], "content, tool_calls or both"),
        ([USER, {"role": "assistant", "content": "x"}], "last message"),
        ([USER, {"role": "assistant", "content": None}, USER], "content, tool_calls or both"),
        ([USER, {"role": "assistant", "tool_calls": [{**CALL, "arguments": 1}]}, USER], "valid string"),
        ([USER, {"role": "assistant", "tool_calls": [{**CALL, "colour": 1}]}, USER], "not permitted"),
        ([USER, {"role": "assistant", "tool_calls": [{**CALL, "id": "x" * 10_001}]}, USER], "at most 10000"),
        ([USER, {"role": "assistant", "content": "x", "provider_parts": [{"type": ""}]}, USER], "at least 1"),
        ([USER, {"role": "assistant", "content": "x", "provider_parts": [{"kind": "y"}]}, USER], "type"),
        ([USER, {"role": "assistant", "content": "x", "provider_parts": 7}, USER], "list"),
        ([USER, {"role": "assistant", "content": "x", "reasoning_details": 7}, USER], "not permitted"),
        (
            [
                USER,
                {"role": "assistant", "content": "", "provider_parts": [{"type": "a", "data": nested(MAX_DEPTH)}]},
            ],
            "deeper",
        ),
        ([USER, {"role": "assistant", "tool_calls": [CALL] * 129}, USER], "at most 128"),
        ([USER, {"role": "tool", "tool_call_id": "c1", "content": "x"}], "must answer a tool call"),
        ([{**USER, "tool_calls": [CALL]}], "not permitted"),
    ],
)
def test_a_wrong_turn_is_refused_with_what_is_wrong(messages: list[Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        CreateStream(messages=messages)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("tools", [], "at least 1"),
        ("tools", [TOOL] * (MAX_TOOLS + 1), f"at most {MAX_TOOLS}"),
        ("tools", [{**TOOL, "name": "a.b"}], "pattern"),
        ("tools", [{**TOOL, "name": "f\n"}], "pattern"),
        ("tools", [{**TOOL, "color": True}], "not permitted"),
        ("tools", [{"type": "a b"}], "pattern"),
        ("tools", [{"type": "web_search", "x": float("nan")}], "out of range"),
        ("tools", [{"type": "function", "function": {"name": "f", "color": 1}}], "not permitted"),
        ("tool_choice", "auto!", "'none'"),
        ("tool_choice", "required", "tool_choice needs tools"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}, "tool_choice needs tools"),
        ("parallel_tool_calls", False, "parallel_tool_calls needs tools"),
        ("response_format", {"type": "json_schema"}, "json_schema"),
        ("response_format", {"type": "text", "json_schema": {"schema": {}}}, "json_schema"),
        ("response_format", {"type": "xml"}, "'json_object'"),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": nested(MAX_DEPTH)}}, "deeper"),
        ("reasoning", {}, "either effort or budget_tokens"),
        ("reasoning", {"effort": "low", "budget_tokens": 5}, "either effort or budget_tokens"),
        ("reasoning", {"effort": "hardest"}, "'xhigh'"),
        ("seed", 1.5, "integer"),
        ("seed", 2**63, "less than"),
        ("user", "u" * 257, "at most 256"),
        ("max_completion_tokens", 0, "greater than or equal to 1"),
        ("tools", [{"name": "f"}], "parameters"),
        ("tools", [{**TOOL, "parameters": nested(MAX_DEPTH)}], "deeper"),
        ("tools", [{**TOOL, "parameters": {"maximum": float("inf")}}], "out of range"),
        ("provider_options", [], "dict"),
        ("provider_options", nested(MAX_DEPTH), "deeper"),
        ("provider_options", {"seed": 10**30}, "out of range"),
        ("provider_options", {"x": [float("nan")]}, "out of range"),
    ],
)
def test_wrong_tools_and_options_are_refused_with_what_is_wrong(field: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        CreateStream(**{"prompt": "x", field: value})


def test_everything_that_goes_to_the_model_counts_for_its_size() -> None:
    assert CreateStream(prompt="流れ").size() == 6
    assert CreateStream(messages=[USER, USER]).size() == 4
    image = {"type": "image", "data": "aGlo" * 1000, "media_type": "image/png"}
    assert CreateStream(messages=[{"role": "user", "content": [image]}]).size() > 4000
    assert CreateStream(prompt="x", tools=[{**TOOL, "description": "d" * 900}]).size() > 900
    assert CreateStream(prompt="x", provider_options={"a": "b" * 900}).size() > 900
    called = {
        "role": "assistant",
        "content": "x",
        "tool_calls": [{**CALL, "arguments": '{"a":"' + "b" * 900 + '"}'}],
    }
    assert CreateStream(messages=[USER, called, USER]).size() > 900


def turn_of(turn: dict[str, Any]) -> dict[str, Any]:
    """This assistant's turn, as it is handed on."""
    return CreateStream(messages=[USER, turn, USER]).turns()[1]


@pytest.mark.parametrize("given", [{}, {"id": None}, {"id": ""}])
@pytest.mark.parametrize("arguments", [{}, {"arguments": ""}, {"arguments": None}])
def test_a_call_without_an_id_or_arguments_is_completed_and_its_result_finds_it(
    given: dict[str, Any], arguments: dict[str, Any]
) -> None:
    calls = [{**given, "name": "f", **arguments}, {"id": "b", "name": "g"}, {**given, "name": "h"}]
    results = [
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "tool", "tool_call_id": given.get("id"), "content": "1"},
        {"role": "tool", "content": None},
    ]
    messages = [USER, {"role": "assistant", "content": "", "tool_calls": calls}, *results]
    turns = CreateStream(messages=messages).turns()
    assert turns == CreateStream(messages=messages).turns(), "a repeated request is the same one"
    assert [call["id"] for call in turns[1]["tool_calls"]] == ["call_1_0", "b", "call_1_2"]
    assert [call["arguments"] for call in turns[1]["tool_calls"]] == ["{}"] * 3
    assert [turn["tool_call_id"] for turn in turns[2:]] == ["b", "call_1_0", "call_1_2"]
    assert turns[4]["content"] == ""


def test_a_numbered_call_is_found_by_its_number() -> None:
    called = {"role": "assistant", "tool_calls": [{"id": 7, "name": "f"}]}
    turns = CreateStream(messages=[USER, called, {"role": "tool", "tool_call_id": 7, "content": "x"}]).turns()
    assert turns[1]["tool_calls"][0]["id"] == turns[2]["tool_call_id"] == "7"


def test_a_record_s_turn_is_taken_back_as_it_stands() -> None:
    record = {
        "text": "",
        "reasoning": "hm",
        "tool_calls": [
            {"index": 0, "id": "c1", "name": "look up", "arguments": '{"at": "pi'},
            {"index": 3, "id": None, "name": None, "arguments": ""},
        ],
        "provider_parts": [{"type": "signature_delta", "data": {"index": 0, "signature": "S"}}],
        "provider": "anthropic",
    }
    content = record.pop("text")
    told = turn_of({"role": "assistant", "content": content, **record})
    assert told["tool_calls"] == [
        {"id": "c1", "name": "look up", "arguments": '{"at": "pi'},
        {"id": "call_1_1", "name": "unnamed", "arguments": "{}"},
    ]
    for field in ("reasoning", "provider_parts", "provider"):
        assert told[field] == record[field]
    for empty in ({"content": ""}, {"content": []}, {"content": [{"type": "text", "text": ""}]}):
        assert turn_of({"role": "assistant", **empty, "tool_calls": [], "refusal": None}) == {
            "role": "assistant",
            "content": "",
        }


def test_the_shapes_of_other_apis_are_understood() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    asked = CreateStream(
        messages=[
            {"role": "developer", "content": [{"type": "input_text", "text": "Be short."}]},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "https://x/a", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,aGk="}},
                    {"type": "input_image", "image_url": "https://x/b"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "thinking",
                        "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}],
                    },
                    {"type": "output_text", "text": "y", "annotations": []},
                ],
                "reasoning_content": "deep",
                "reasoning_details": [{"type": "reasoning.text"}],
                "tool_calls": [call],
            },
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "z"}]},
        ],
        tools=[
            {"type": "function", "function": {**TOOL, "strict": True}},
            {"type": "function", "name": "flat", "parameters": {}},
            {"type": "function", "function": {"name": "bare"}},
            {"name": "anthropics", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        ],
        tool_choice={"type": "tool", "name": "web_search"},
        max_completion_tokens=7,
        reasoning_effort="low",
        stop=".",
        response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}, "strict": True}},
    )
    system, user, assistant, tool = asked.turns()
    assert system == {"role": "developer", "content": [{"type": "text", "text": "Be short."}]}
    assert user["content"] == [
        {"type": "image", "url": "https://x/a", "detail": "low"},
        {"type": "image", "data": "aGk=", "media_type": "image/jpeg"},
        {"type": "image", "url": "https://x/b"},
        {"type": "image", "data": "aGk=", "media_type": "image/png"},
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert assistant["content"] == [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "y"}]
    assert assistant["reasoning"] == "deep"
    assert assistant["provider_parts"] == [{"type": "reasoning_details", "data": [{"type": "reasoning.text"}]}]
    assert assistant["tool_calls"] == [{"id": "c", "name": "f", "arguments": '{"a":1}'}]
    assert tool["content"] == [{"type": "text", "text": "z"}]
    told = asked.asked()
    empty = {"type": "object", "properties": {}}
    assert told["tools"] == [
        {**TOOL, "strict": True},
        {"name": "flat", "parameters": {}},
        {"name": "bare", "parameters": empty},
        {"name": "anthropics", "parameters": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
    ]
    assert told["tool_choice"] == {"name": "web_search"}
    assert (told["max_tokens"], told["reasoning"], told["stop"]) == (7, {"effort": "low"}, ["."])
    assert told["response_format"]["json_schema"] == {
        "name": "answer",
        "schema": {"type": "object"},
        "strict": True,
    }


@pytest.mark.parametrize(
    ("sent", "meant"),
    [("any", "required"), ({"type": "any"}, "required"), ({"type": "auto"}, "auto"), ("none", "none")],
)
def test_a_choice_of_tools_is_understood_in_each_form(sent: Any, meant: str) -> None:
    assert CreateStream(prompt="x", tools=[TOOL], tool_choice=sent).asked()["tool_choice"] == meant


def test_a_choice_must_be_one_of_the_tools() -> None:
    with pytest.raises(ValidationError, match="none of the tools"):
        CreateStream(prompt="x", tools=[TOOL], tool_choice={"name": "other"})
    assert CreateStream(prompt="x", tools=[TOOL], tool_choice={"name": "look"}).asked()["tool_choice"] == {
        "name": "look"
    }


@pytest.mark.parametrize(
    "field", [{"reasoning": "r" * 900}, {"provider_parts": [{"type": "x", "data": {"signature": "s" * 900}}]}]
)
def test_parts_that_go_back_to_a_provider_count_for_the_size(field: dict[str, Any]) -> None:
    turn = {"role": "assistant", "content": "x", **field}
    assert CreateStream(messages=[USER, turn, USER]).size() > 900
    schema = {"type": "json_schema", "json_schema": {"schema": {"description": "d" * 900}}}
    assert CreateStream(prompt="x", response_format=schema).size() > 900


MANY = 40_000


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "robot"}] * MANY},
        {"messages": [{"role": "user", "content": [{"type": "audio"}] * MANY}]},
        {"messages": [{"role": "user", "content": [{"type": "audio"}] * MAX_PARTS}] * 400},
        {"messages": [USER, {"role": "assistant", "tool_calls": [{"x": 1}] * MANY}, USER]},
        {"messages": [USER, {"role": "assistant", "provider_parts": [1] * MANY}, USER]},
        {"prompt": "x", "tools": [{"x": 1}] * MANY},
        {"prompt": "x", "stop": [""] * MANY},
        {"prompt": "x", **{f"k{n}": 1 for n in range(MANY)}},
        {"messages": [{"role": "user", "content": [{"type": "text", **{f"k{n}": 1 for n in range(MANY)}}]}]},
        {"prompt": "x", "response_format": {f"k{n}": 1 for n in range(MANY)}},
    ],
)
def test_the_first_wrong_item_is_told_and_the_rest_is_not_looked_at(body: dict[str, Any]) -> None:
    """Each told fault costs about 20 µs: 40,000 of them would stop all streams of the process for a second."""
    with pytest.raises(ValidationError) as caught:
        CreateStream.model_validate(body)
    assert len(caught.value.errors()) <= 4
