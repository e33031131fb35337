"""UI messages as turns: what the SDK keeps, in the one form that all wire formats know."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.schemas.ui_messages import DENIED_TEXT, MAX_PARTS, ChatRequest

SIGNED = {"anthropic": {"signature": "sig"}}
REDACTED = {"anthropic": {"redactedData": "xyz"}}
USER = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "hi"}]}


def turns(*messages: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """The turns of these messages, in front of a last question."""
    last = {"id": "q", "role": "user", "parts": [{"type": "text", "text": "?"}]}
    asked = ChatRequest.model_validate({"id": "c", "messages": [*messages, last], **more})
    *found, question = asked.asked("fail").turns()
    assert question == {"role": "user", "content": "?"}
    return found


def assistant(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": "a", "role": "assistant", "metadata": {"model": "p/m"}, "parts": list(parts)}


def tool(state: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool-t", "toolCallId": "c1", "state": state, "input": {"a": 1}, **more}


def outcome(part: dict[str, Any]) -> str | None:
    """What the model is told that a call led to; None where the call is left out."""
    found = turns(USER, assistant({"type": "text", "text": "x"}, part))[1:]
    if len(found) == 1:
        assert "tool_calls" not in found[0]
        return None
    assert [call["id"] for call in found[0]["tool_calls"]] == ["c1"]
    assert (found[1]["role"], found[1]["tool_call_id"]) == ("tool", "c1")
    return str(found[1]["content"])


def test_texts_and_images_of_users() -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "file", "mediaType": "image/png", "filename": "a.png", "url": "data:image/png;base64,AAAA"},
        {"type": "file", "mediaType": "image/jpeg", "url": "https://example.com/b.jpg"},
        {"type": "data-mood", "data": "good"},
    ]
    system = {
        "id": "s",
        "role": "system",
        "parts": [{"type": "text", "text": "Be"}, {"type": "text", "text": " kind"}],
    }
    assert turns(system, {**USER, "parts": parts}) == [
        {"role": "system", "content": "Be kind"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "data": "AAAA", "media_type": "image/png"},
                {"type": "image", "url": "https://example.com/b.jpg"},
            ],
        },
    ]


def test_steps_are_turns_with_their_tools_outcomes_behind_them() -> None:
    dynamic = {"type": "dynamic-tool", "toolName": "v", "toolCallId": "c2", "state": "output-error"}
    found = turns(
        USER,
        assistant(
            {"type": "step-start"},
            {"type": "reasoning", "text": "hm", "state": "done"},
            {"type": "text", "text": "I look."},
            tool("output-available", output={"b": "é"}),
            {**dynamic, "rawInput": '{"broken', "errorText": "no JSON"},
            {"type": "step-start"},
            {"type": "text", "text": "It is é."},
            {"type": "source-url", "sourceId": "1", "url": "https://example.com"},
        ),
    )
    assert found[1:] == [
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning": "hm",
            "tool_calls": [
                {"id": "c1", "name": "t", "arguments": '{"a":1}'},
                {"id": "c2", "name": "v", "arguments": '{"broken'},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "t", "content": '{"b":"é"}'},
        {"role": "tool", "tool_call_id": "c2", "name": "v", "content": "no JSON"},
        {"role": "assistant", "content": "It is é."},
    ]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (tool("output-available", output="plain"), "plain"),
        (tool("output-available", output=None), "null"),
        (tool("output-available", output=[1], preliminary=True), "[1]"),
        (tool("output-error", errorText="broken"), "broken"),
        (tool("output-denied", approval={"id": "1", "approved": False, "reason": "not now"}), "not now"),
        (tool("output-denied", approval={"id": "1", "approved": False}), DENIED_TEXT),
        (tool("approval-responded", approval={"id": "1", "approved": False, "reason": "no"}), "no"),
        (tool("approval-responded", approval={"id": "1", "approved": True}), None),
        (tool("approval-requested", approval={"id": "1"}), None),
        (tool("input-available"), None),
        (tool("input-streaming"), None),
        (tool("output-available", output=1, providerExecuted=True), None),
    ],
)
def test_what_a_call_led_to(part: dict[str, Any], told: str | None) -> None:
    assert outcome(part) == told


def test_what_a_provider_sent_goes_back_to_it() -> None:
    thinking = {"index": 0, "thinking": "hm", "signature": "sig"}
    part = {"type": "data-provider", "data": {"provider": "anthropic", "type": "thinking", "data": thinking}}
    reasoning = {"type": "reasoning", "text": "hm"}
    (found,) = turns(USER, assistant(reasoning, part, {"type": "text", "text": "x"}))[1:]
    assert found["reasoning"] == "hm"
    assert found["provider_parts"] == [{"type": "thinking", "data": thinking}]
    assert found["provider"] == "anthropic"
    other = {**part, "data": {**part["data"], "provider": "google"}}
    (found,) = turns(USER, assistant(part, other))[1:]
    assert "provider" not in found


def test_signatures_of_the_sdk_s_own_providers_are_understood() -> None:
    signed = {"type": "reasoning", "text": "hm", "providerMetadata": SIGNED}
    redacted = {"type": "reasoning", "text": "", "providerMetadata": REDACTED}
    called = tool("output-available", output="x", callProviderMetadata={"google": {"thoughtSignature": "ts"}})
    found = turns(USER, assistant(signed, redacted, {"type": "text", "text": "x"}, called))[1]
    assert found["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "x"},
    ]
    assert "reasoning" not in found
    assert found["tool_calls"][0]["thought_signature"] == "ts"


def test_an_assistant_that_said_nothing_is_left_out_and_parts_that_are_not_known_too() -> None:
    assert turns(USER, assistant(), assistant({"type": "step-start"}, {"type": "hologram"})) == [
        {"role": "user", "content": "hi"}
    ]


def test_a_body_s_own_fields_are_those_of_a_create() -> None:
    body = {"id": "c", "messages": [USER], "messageId": None, "model": "p/m", "temperature": 1, "stop": "x"}
    asked = ChatRequest.model_validate(body).asked("continue")
    assert (asked.model, asked.temperature, asked.stop, asked.on_failure) == ("p/m", 1, ["x"], "continue")
    told = ChatRequest.model_validate({**body, "on_failure": "fail", "seed": None}).asked("continue")
    assert (told.on_failure, told.seed) == ("fail", None)


def test_the_answer_continues_an_assistant_s_last_message() -> None:
    answered = assistant(tool("output-available", output=1))
    assert ChatRequest.model_validate({"id": "c", "messages": [USER]}).continued() is None
    continued = ChatRequest.model_validate({"id": "c", "messages": [USER, answered]}).continued()
    assert continued is not None
    assert continued.model_dump() == answered


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([USER, assistant(tool("input-available"))], "has no output yet"),
        ([USER, assistant({"type": "text", "text": "x"})], "the last message must be"),
        ([USER, assistant(tool("approval-responded", approval={"approved": True}))], "has no output yet"),
        ([{**USER, "parts": []}], "messages.0: a user's message has text or an image"),
        ([{**USER, "parts": [{"type": "file", "mediaType": "text/csv", "url": "data:,x"}]}], "must be an image"),
        ([{**USER, "parts": [{"type": "text", "text": 7}]}], "content"),
        ([{**USER, "parts": [{"type": "text", "text": "x"}] * (MAX_PARTS + 1)}], "at most"),
        ([{**USER, "role": "robot"}], "'system', 'user' or 'assistant'"),
        ([{**USER, "parts": [{"type": "text", "text": "x", "deep": 10**30}]}], "out of range"),
        ([{**USER, "metadata": {"deep": 10**30}}], "out of range"),
        ([USER, assistant({**tool("output-available"), "toolCallId": {}}), USER], "tool_call"),
    ],
)
def test_what_can_t_be_asked_is_told(messages: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ChatRequest.model_validate({"id": "c", "messages": messages}).asked("fail")


def test_a_fault_is_told_of_the_message_that_was_sent() -> None:
    parts = [{"type": "step-start"}, tool("output-available"), {"type": "step-start"}, tool("output-available")]
    wrong = {**USER, "parts": [{"type": "text", "text": 7}]}
    asked = ChatRequest.model_validate({"id": "c", "messages": [USER, assistant(*parts), wrong]})
    with pytest.raises(ValidationError) as caught:
        asked.asked("fail")
    (fault,) = caught.value.errors()
    assert fault["loc"][1] == 5, "the turns are more than the messages"
    assert asked.place(fault["loc"]) == ("messages", 2, "parts")
    assert asked.place(("model",)) == ("model",)
