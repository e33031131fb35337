"""The request of OpenAI's Responses: items and fields in, a stream's request out."""

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from api.schemas.responses import kept, previous_response, response_request

FUNCTION = {
    "type": "function",
    "name": "look_up",
    "description": None,
    "parameters": {"type": "object", "properties": {}},
    "strict": None,
}
SIGNATURE = {"type": "thinking", "data": {"index": 0, "thinking": "hm", "signature": "s"}}
USER = {"role": "user", "content": "hi"}


def asked(**body: Any) -> Any:
    return response_request({"input": "hi", **body}, [], 30.0)


def turns(*items: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    return asked(input=list(items), **body).asked.turns()


def text(said: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": said}]


def test_text_is_one_users_turn_and_instructions_stand_in_front() -> None:
    found = asked(instructions="be brief")
    assert found.asked.turns() == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": text("hi")},
    ]
    assert found.items == [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]
    assert found.told["instructions"] == "be brief"


def test_an_answer_that_is_sent_back_is_one_turn() -> None:
    """As the libraries send items back: with ids, statuses and what they added themselves."""
    answer = [
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "status": None,
         "encrypted_content": kept("p", [SIGNATURE])},
        {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "phase": None,
         "content": [{"type": "output_text", "text": "wait", "annotations": [], "logprobs": [], "parsed": None}]},
        {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "c1", "name": "look_up",
         "arguments": "{}", "parsed_arguments": {}},
        {"id": "fc_2", "type": "function_call", "call_id": "c2", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
    ]  # fmt: skip
    assert turns(USER, *answer) == [
        {"role": "user", "content": text("hi")},
        {
            "role": "assistant",
            "content": text("wait"),
            "reasoning": "hm",
            "tool_calls": [
                {"id": "c1", "name": "look_up", "arguments": "{}"},
                {"id": "c2", "name": "look_up", "arguments": "{}"},
            ],
            "provider_parts": [SIGNATURE],
            "provider": "p",
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": text("two")},
    ]


def test_images_refusals_and_other_reasoning_have_a_place() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "low", "file_id": None}
    no = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    foreign = {"id": "rs", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA",
               "content": [{"type": "reasoning_text", "text": "hm"}]}  # fmt: skip
    found = turns({"role": "user", "content": [picture]}, foreign, no, USER)
    (image,) = found[0]["content"]
    assert (image["type"], image["data"], image["media_type"], image["detail"]) == (
        "image",
        "aGk=",
        "image/png",
        "low",
    )
    assert found[1] == {"role": "assistant", "content": text("no"), "reasoning": "hm"}


def test_history_stands_in_front_of_the_input_and_is_kept_with_it() -> None:
    history = [
        *asked().items,
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ho"}]},
    ]
    found = response_request({"input": "and"}, history, 30.0)
    assert [turn["role"] for turn in found.asked.turns()] == ["user", "assistant", "user"]
    assert found.keeps["input"] == found.items == [*history, *response_request({"input": "and"}, [], 2.0).items]


def test_fields_are_asked_in_our_words_and_told_again_in_openais() -> None:
    schema = {"type": "object", "properties": {}}
    found = asked(
        model="local/m",
        tools=[{**FUNCTION, "strict": True, "defer_loading": None}],
        tool_choice={"type": "function", "name": "look_up"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        max_output_tokens=9,
        temperature=0.5,
        metadata={"a": "b"},
        previous_response_id="resp_x",
        truncation="disabled",
        service_tier="auto",
        include=["reasoning.encrypted_content"],
    )
    wanted = found.asked.asked()
    assert wanted["tools"] == [{"name": "look_up", "parameters": FUNCTION["parameters"], "strict": True}]
    assert wanted["tool_choice"] == {"name": "look_up"}
    assert (wanted["max_tokens"], wanted["temperature"], wanted["parallel_tool_calls"]) == (9, 0.5, False)
    assert wanted["reasoning"] == {"effort": "low"}
    assert wanted["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": schema, "strict": True},
    }
    told = found.told
    assert told["tools"] == [{**FUNCTION, "strict": True}]
    assert told["tool_choice"] == {"type": "function", "name": "look_up"}
    assert told["reasoning"] == {"effort": "low", "summary": "auto"}
    assert told["text"]["format"]["name"] == "n"
    assert (told["metadata"], told["previous_response_id"]) == ({"a": "b"}, "resp_x")


def test_who_reads_at_once_has_a_grace_time_and_a_background_response_has_no_reader() -> None:
    at_once = asked().asked
    assert (at_once.flow, at_once.pause_after, at_once.on_failure) == ("client", 30.0, "continue_or_fail")
    assert asked(background=True).asked.flow == "none"
    assert asked(background=True).told["background"] is True


def test_an_input_is_kept_unless_the_caller_does_not_want_it() -> None:
    assert set(asked().keeps) == {"asked", "input"}
    assert set(asked(store=False).keeps) == {"asked"}
    assert asked(parallel_tool_calls=True, stream=None).asked.parallel_tool_calls is None


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
DEEP = json.loads("[" * 70 + "]" * 70)
MANY = {"type": "reasoning", "encrypted_content": kept("local", [[]] * 20_000)}


@pytest.mark.parametrize(
    ("body", "place", "words"),
    [
        ({"input": []}, "input", "at least 1"),
        ({"input": None}, "input", "at least 1"),
        ({"input": 7}, "input", "text, or a list"),
        ({"input": ["x"]}, "input.0", "an object"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role", "user, assistant"),
        ({"input": [{"role": "user"}]}, "input.0.content", "text, or a list"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "input.0.content.0.type",
            "input_image",
        ),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input.0.content.0.type", "input_text"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input.0.content.0.text", "text"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type", "item_reference"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input.0.name", "text"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id", "text"),
        ({"input": [USER, CALL]}, "", "last message"),
        ({"input": [USER, {"type": "function_call_output", "call_id": "c", "output": "x"}]}, "", "must answer"),
        ({"conversation": "conv_1"}, "conversation", "no conversations"),
        ({"prompt": {"id": "p"}}, "prompt", "no stored prompts"),
        ({"truncation": "auto"}, "truncation", "nothing is cut"),
        ({"service_tier": "flex"}, "service_tier", "no tiers"),
        ({"top_logprobs": 3}, "top_logprobs", "not kept"),
        ({"include": ["message.output_text.logprobs"]}, "include", "not kept"),
        ({"include": 5}, "include", "a list"),
        ({"seed": 3}, "seed", "no such field"),
        ({"background": True, "store": False}, "store", "background"),
        ({"stream": 1}, "stream", "true or false"),
        ({"instructions": 1}, "instructions", "text"),
        ({"tools": {}}, "tools", "a list"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "function tools"),
        ({"tools": [{"type": "function"}]}, "tools", "required"),
        ({"tool_choice": "required"}, "", "needs tools"),
        ({"text": "x"}, "text", "an object"),
        ({"text": {"format": "x"}}, "text.format", "an object"),
        ({"text": {"format": {"type": "grammar"}}}, "text", "json_schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text", "required"),
        ({"reasoning": {"effort": "much"}}, "reasoning", "Input should be"),
        ({"max_output_tokens": 0}, "max_output_tokens", "greater"),
        ({"text": {"verbosity": DEEP}}, "text", "nests deeper"),
        ({"text": {"format": {"type": "text", "more": DEEP}}}, "text", "nests deeper"),
        ({"reasoning": {"summary": [10**30]}}, "reasoning", "out of range"),
        ({"parallel_tool_calls": DEEP}, "parallel_tool_calls", "nests deeper"),
        ({"input": [USER, MANY, USER]}, "input", "more than 20000 values"),
        ({"metadata": {"a": 1}}, "metadata.a", "text of at most"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "at most 16"),
    ],
)
def test_what_is_wrong_is_named(body: dict, place: str, words: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        asked(**body)
    (error, *_) = caught.value.errors()
    assert error["loc"] == (("body", place) if place else ("body",))
    assert words in error["msg"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ([], ()),
        ("x", ()),
        ({"previous_response_id": 1}, ("previous_response_id",)),
        ({"previous_response_id": "resp_x", "conversation": "c"}, ("previous_response_id",)),
    ],
)
def test_what_a_body_goes_on_with_is_looked_at_first(body: Any, place: tuple) -> None:
    with pytest.raises(RequestValidationError) as caught:
        previous_response(body)
    assert caught.value.errors()[0]["loc"] == ("body", *place)
    assert previous_response({"previous_response_id": "resp_x"}) == "resp_x"
    assert previous_response({}) is None
