"""AG-UI's RunAgentInput becomes what a stream is created by."""

import contextlib
import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.ag_ui import AgUiDialect
from api.dialects.base import About
from api.schemas.ag_ui import run_request
from shared.protocol.events import encode_data


def asked(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"threadId": "t", "runId": "r", "messages": messages, **more}


def turns(messages: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    return run_request(asked(messages, **more)).asked.turns()


NAMES = st.sampled_from(
    [
        "id",
        "role",
        "content",
        "toolCalls",
        "toolCallId",
        "type",
        "text",
        "source",
        "value",
        "mimeType",
        "function",
        "name",
        "arguments",
        "encryptedValue",
        "error",
        "data",
        "url",
        "description",
        "parameters",
    ]
)
WORDS = st.sampled_from(
    [
        "user",
        "assistant",
        "tool",
        "reasoning",
        "activity",
        "system",
        "image",
        "text",
        "binary",
        "data",
        "url",
        '{"provider":"x","parts":[{}]}',
        "c",
    ]
)
ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(NAMES, ANY_JSON, max_size=6), max_size=4), ANY_JSON, ANY_JSON, ANY_JSON)
def test_whatever_is_sent_is_read_or_told_to_be_wrong(messages: list, tools: Any, context: Any, props: Any) -> None:
    body = asked([*messages, USER], tools=tools, context=context, forwardedProps=props)
    with contextlib.suppress(RequestValidationError):
        run_request(body)


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USER = {"id": "u", "role": "user", "content": "hi"}
RESULT = {"id": "r", "role": "tool", "toolCallId": "c", "content": "found"}


def test_an_answer_in_several_messages_is_one_turn() -> None:
    said = turns(
        [
            USER,
            {"id": "1", "role": "reasoning", "content": "hm"},
            {"id": "2", "role": "reasoning", "content": ", so"},
            {"id": "3", "role": "assistant", "content": "I look", "toolCalls": [CALL]},
            {"id": "4", "role": "reasoning", "content": "!"},
            RESULT,
        ]
    )
    assert [turn["role"] for turn in said] == ["user", "assistant", "tool"]
    assert said[1] == {
        "role": "assistant",
        "content": "I look",
        "reasoning": "hm, so!",
        "tool_calls": [{"id": "c", "name": "f", "arguments": "{}"}],
    }
    assert said[2] == {"role": "tool", "tool_call_id": "c", "content": "found"}


@pytest.mark.parametrize("reasons", [True, False])
def test_what_a_provider_wants_back_comes_back_to_it(reasons: bool) -> None:
    """As the dialect told it, through a client that keeps it."""
    part = {"type": "thinking", "data": {"index": 0, "thinking": "hm", "signature": "sig"}}
    dialect = AgUiDialect(About("s", "anthropic/claude", 0, 0))
    dialect.entry(b"1-0", "queued", b"{}")
    if reasons:
        dialect.entry(b"2-1", "message", b'{"reasoning":"hm"}')
    for delta in ({"provider": part}, {"provider": {"type": "citation", "data": 1}}, {"text": "a"}):
        dialect.entry(b"2-2", "message", encode_data(delta))
    said = dialect.entry(b"2-3", "done", b"{}").decode()
    kept = next(json.loads(line[6:]) for line in said.splitlines() if "REASONING_ENCRYPTED_VALUE" in line)
    assert kept["entityId"] == ("s-0" if reasons else "s")
    thought = {"id": "s-0", "role": "reasoning", "content": "hm"}
    answer = {"id": "s", "role": "assistant", "content": "a"}
    (thought if reasons else answer)["encryptedValue"] = kept["encryptedValue"]
    told = turns([USER, *([thought] if reasons else []), answer, USER])[1]
    assert (told["provider"], told["provider_parts"]) == ("anthropic", [part])


@pytest.mark.parametrize(
    "foreign",
    ["blob", "{}", '{"provider":"x","parts":1}', '{"provider":"x"}', "[]", "1", "[" * 3000, "\ud800", 7, None],
)
def test_what_somebody_else_keeps_there_is_passed_over(foreign: Any) -> None:
    thought = {"id": "s-0", "role": "reasoning", "content": "hm", "encryptedValue": foreign}
    assert turns([thought, {"id": "s", "role": "assistant", "content": "a"}, USER])[0] == {
        "role": "assistant",
        "content": "a",
        "reasoning": "hm",
    }


def test_what_looks_kept_and_is_wrong_is_told_at_its_message() -> None:
    thought = {"role": "reasoning", "content": "", "encryptedValue": '{"provider": 1, "parts": [2]}'}
    with pytest.raises(RequestValidationError):
        turns([thought, {"role": "assistant", "content": "a"}, USER])


def test_what_is_kept_for_a_provider_is_bounded_before_it_is_read() -> None:
    """A text of 1 MiB that holds 300,000 lists is one value of the body, and took 0.6 s."""
    kept = {"role": "reasoning", "encryptedValue": json.dumps({"provider": "x", "parts": [[]] * 15_000})}
    with pytest.raises(RequestValidationError) as caught:
        run_request(asked([USER, kept, kept, USER]))
    assert caught.value.errors()[0]["loc"] == ("body", "messages")
    assert "more than 20000 values" in caught.value.errors()[0]["msg"]


def test_what_many_messages_keep_is_joined_once() -> None:
    """It was copied for each of them: 8.8 s of the event loop for a body of 1 MiB."""
    one = {"role": "reasoning", "encryptedValue": json.dumps({"provider": "x", "parts": [{"type": "t"}]})}
    said = turns([USER, *[one] * 3000, {"role": "assistant", "content": "a"}, USER])[1]
    assert len(said["provider_parts"]) == 3000


def test_context_stands_behind_the_application_s_own_words_of_the_system() -> None:
    system = {"id": "0", "role": "developer", "content": "Be brief."}
    context = [{"description": "The page", "value": "rivers"}, {"description": "The time", "value": "noon"}]
    said = turns([system, USER], context=context)
    assert [turn["role"] for turn in said] == ["developer", "system", "user"]
    assert said[1]["content"] == "The page:\nrivers\n\nThe time:\nnoon"


def test_a_tool_without_parameters_or_result_is_taken() -> None:
    request = run_request(
        asked([USER, {"role": "assistant", "toolCalls": [CALL]}, {**RESULT, "content": "", "error": "it broke"}])
        | {"tools": [{"name": "f", "description": "d"}]}
    )
    assert request.asked.tools is not None
    assert request.asked.tools[0].model_dump()["parameters"] == {"type": "object", "properties": {}}
    assert request.asked.turns()[-1]["content"] == "it broke"


def test_forwarded_props_that_count_count_and_others_are_the_application_s() -> None:
    props = {"model": "a/b", "reasoning_effort": "low", "max_completion_tokens": 7, "messages": 1, "chat": {"a": 1}}
    found = run_request(asked([USER], forwardedProps=props, state={"a": 1}, data={}, protocolVersion="1.0")).asked
    assert (found.model, found.max_tokens, found.on_failure) == ("a/b", 7, "continue_or_fail")
    assert found.reasoning is not None


def test_the_run_is_told_again_by_its_ids() -> None:
    assert run_request(asked([USER])).ids == {"threadId": "t", "runId": "r"}
    found = run_request(asked([USER], parentRunId="p", protocolVersion="1.0"))
    assert (found.run_id, found.ids) == (
        "r",
        {"threadId": "t", "runId": "r", "parentRunId": "p", "protocolVersion": "1.0"},
    )


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "url", "value": "data:image/png;base64,aGk="}},
        {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}},
        {"type": "binary", "mimeType": "image/png", "data": "aGk="},
    ],
)
def test_an_image_comes_in_several_forms(part: dict[str, Any]) -> None:
    (turn,) = turns([{"id": "1", "role": "user", "content": [part]}])
    (image,) = turn["content"]
    assert (image["type"], image["data"], image["media_type"]) == ("image", "aGk=", "image/png")


def test_a_fault_is_told_at_the_message_that_was_sent() -> None:
    """Also where messages in front of it became no turn of their own, and others came in between."""
    messages = [
        {"role": "reasoning", "content": "x"},
        {"role": "activity", "activityType": "x", "content": {}},
        {"role": "user", "content": 7},
    ]
    with pytest.raises(RequestValidationError) as raised:
        turns(messages, context=[{"description": "a", "value": "b"}])
    assert raised.value.errors()[0]["loc"][:3] == ("body", "messages", 2)
