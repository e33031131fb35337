"""What a request may say: turns, parts, tools and options, each refused clearly where it is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.messages import MAX_MESSAGES, MAX_PARTS, MAX_TOOLS
from api.requests import CreateStream
from shared.nesting import MAX_DEPTH
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
        ([USER, {"role": "assistant", "tool_calls": [{**CALL, "arguments": "[]"}]}, USER], "JSON object"),
        ([USER, {"role": "assistant", "tool_calls": [{**CALL, "arguments": "{"}]}, USER], "JSON object"),
        ([USER, {"role": "assistant", "tool_calls": [{**CALL, "name": "f g"}]}, USER], "pattern"),
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
        ("tools", [{**TOOL, "strict": True}], "not permitted"),
        ("tools", [{"name": "f"}], "parameters"),
        ("tools", [{**TOOL, "parameters": nested(MAX_DEPTH)}], "deeper"),
        ("tools", [{**TOOL, "parameters": {"maximum": float("inf")}}], "out of range"),
        ("provider_options", [], "dict"),
        ("provider_options", {"model": "x"}, "may not hold 'model'"),
        ("provider_options", {"messages": []}, "may not hold 'messages'"),
        ("provider_options", {"contents": []}, "may not hold 'contents'"),
        ("provider_options", {"stream": False}, "may not hold 'stream'"),
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


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"seed": 1, "response_format": {"n": 1}}, []),
        ({"max_tokens": 9, "n": 2}, ["max_tokens", "n"]),
        ({"max_completion_tokens": 9}, ["max_completion_tokens"]),
        ({"generationConfig": {"maxOutputTokens": 9}}, ["maxOutputTokens"]),
        ({"generation_config": {"max_output_tokens": 9}}, ["max_output_tokens"]),
    ],
)
def test_a_limit_among_the_options_is_seen(options: dict[str, Any], names: list[str]) -> None:
    assert CreateStream(prompt="x", provider_options=options).limits_in_options() == names
