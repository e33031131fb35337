"""What of a conversation's history goes to a provider: its own signatures back, nothing it would refuse."""

import json
import re
from typing import Any

import pytest

from api.schemas.requests import CreateStream
from shared.config.providers import Quirks
from shared.protocol.sse import ServerSentEvent
from shared.protocol.transcript import Transcript
from worker.providers import adapter
from worker.providers.base import GenerationRequest, Said
from worker.providers.formats.google import UNSIGNED
from worker.providers.formats.history import arguments_text, call_id, called_name

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c", "name": "look", "arguments": "{}"}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "x"}


def messages_for(wire_format: str, *turns: dict[str, Any], model: str = "m", **fields: Any) -> list[dict[str, Any]]:
    """What the provider is sent of a caller's turns."""
    asked = CreateStream(messages=list(turns))
    request = GenerationRequest(model, asked.turns(), **fields)
    body = adapter(wire_format).call(request, "").body
    found: list[dict[str, Any]] = body["contents" if wire_format == "google" else "messages"]
    return found


def answer(*, provider: str | None = None, **fields: Any) -> dict[str, Any]:
    named = {} if provider is None else {"provider": provider}
    return {"role": "assistant", "content": "", "tool_calls": [CALL], **named, **fields}


# -- ids, names and arguments


@pytest.mark.parametrize("form", ["any", "short", "plain", "nine"])
@pytest.mark.parametrize(
    "given", ["c1", "toolu_01A", "abcDEF123", "call:1/2", "流れ", "x" * 5000, "a" * 41, "a" * 65]
)
def test_an_id_fits_and_is_the_same_each_time_and_stays_where_it_fits(form: Any, given: str) -> None:
    patterns = {
        "any": r"(?s).+",
        "short": r"(?s).{1,40}",
        "plain": r"[a-zA-Z0-9_-]{1,64}",
        "nine": r"[a-zA-Z0-9]{9}",
    }
    made = call_id(form, given)
    assert re.fullmatch(patterns[form], made)
    assert made == call_id(form, given)
    assert (made == given) == bool(re.fullmatch(patterns[form], given))


def test_a_mapped_id_is_the_same_in_the_call_and_in_its_result_and_others_have_others() -> None:
    ids = ["toolu_01AbC", "call_x|y", "fits12345"]
    calls = [{"id": one, "name": "f", "arguments": "{}"} for one in ids]
    results = [{"role": "tool", "tool_call_id": one, "content": "x"} for one in reversed(ids)]
    turns = (USER, {"role": "assistant", "tool_calls": calls}, *results)

    sent = messages_for("openai", *turns, quirks=Quirks(call_ids="nine"))
    called = [call["id"] for call in sent[1]["tool_calls"]]
    assert [turn["tool_call_id"] for turn in sent[2:]] == called[::-1]
    assert len(set(called)) == 3
    assert called[2] == "fits12345"

    uses, answers = messages_for("anthropic", *turns)[1:]
    called = [block["id"] for block in uses["content"]]
    assert [block["tool_use_id"] for block in answers["content"]] == called[::-1]
    assert called[0] == "toolu_01AbC"
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", called[1])

    for quirks, has in ((Quirks(), True), (Quirks(call_ids="none"), False)):
        parts = messages_for("google", *turns, quirks=quirks)[1]["parts"]
        assert all(("id" in part["functionCall"]) == has for part in parts)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("", "{}"),
        ("  ", "{}"),
        ('{"a": 1}', '{"a": 1}'),
        ('{"at": "pi', '{"arguments":"{\\"at\\": \\"pi"}'),
        ("[1]", '{"arguments":"[1]"}'),
        ('{"a":' * 100 + "1" + "}" * 100, None),
    ],
)
def test_arguments_that_are_no_object_go_along_as_the_text_of_one(text: str, sent: str | None) -> None:
    made = arguments_text({"arguments": text})
    assert made == sent or (sent is None and made.startswith('{"arguments":"'))
    turns = (USER, {"role": "assistant", "tool_calls": [{**CALL, "arguments": text}]}, RESULT)
    block = messages_for("anthropic", *turns)[1]["content"][0]
    assert isinstance(block["input"], dict)
    part = messages_for("google", *turns)[1]["parts"][0]
    assert part["functionCall"]["args"] == block["input"]


def test_a_text_that_is_no_name_of_a_tool_becomes_one() -> None:
    assert called_name("look") == "look"
    assert called_name("functions.look up") == "functions_look_up"
    assert len(called_name("x" * 100)) == 64


def test_a_turn_that_says_nothing_is_not_sent() -> None:
    silent = {"role": "assistant", "content": "", "reasoning": "hm"}
    for wire_format in ("openai", "anthropic", "google"):
        sent = messages_for(wire_format, USER, silent, USER)
        assert all(turn["role"] == "user" for turn in sent)
    blank = {"role": "assistant", "content": " \n", "tool_calls": [CALL]}
    assert [b["type"] for b in messages_for("anthropic", USER, blank, RESULT)[1]["content"]] == ["tool_use"]


def test_a_call_of_a_custom_tool_is_sent_as_one() -> None:
    tools = [{"type": "custom", "custom": {"name": "look"}}]
    sent = messages_for("openai", USER, answer(tool_calls=[{**CALL, "arguments": "select 1"}]), RESULT, tools=tools)
    assert sent[1]["tool_calls"] == [{"id": "c", "type": "custom", "custom": {"name": "look", "input": "select 1"}}]


# -- what only its maker understands

THINKING = {"type": "thinking", "data": {"index": 0, "thinking": "hm", "signature": "S1"}}
REDACTED = {"type": "redacted_thinking", "data": {"index": 1, "data": "R2"}}
BLOCKS = [
    {"type": "thinking", "thinking": "hm", "signature": "S1"},
    {"type": "redacted_thinking", "data": "R2"},
]


@pytest.mark.parametrize("provider", [None, "anthropic"])
def test_claudes_thinking_stands_in_front_of_its_calls(provider: str | None) -> None:
    turn = answer(provider=provider, reasoning="hm", content="Look.", provider_parts=[THINKING, REDACTED])
    sent = messages_for("anthropic", USER, turn, RESULT, provider="anthropic")[1]["content"]
    assert sent[:2] == BLOCKS
    assert [block["type"] for block in sent[2:]] == ["text", "tool_use"]


def test_claudes_blocks_are_taken_as_content_too() -> None:
    turn = answer(content=[*BLOCKS, {"type": "text", "text": "Look."}])
    assert messages_for("anthropic", USER, turn, RESULT)[1]["content"][:2] == BLOCKS
    unsigned = answer(content=[{"type": "thinking", "thinking": "hm"}])
    assert [b["type"] for b in messages_for("anthropic", USER, unsigned, RESULT)[1]["content"]] == ["tool_use"]
    assert messages_for("openai", USER, turn, RESULT)[1]["content"] == "Look."


@pytest.mark.parametrize("kind", ["signature_delta", "signature"])
def test_a_lone_signature_signs_the_reasoning_and_of_several_none_is_guessed(kind: str) -> None:
    part = {"type": kind, "data": {"index": 0, "signature": "S1"}}
    turn = answer(reasoning="hm", provider_parts=[part])
    assert messages_for("anthropic", USER, turn, RESULT)[1]["content"][0] == BLOCKS[0]
    turn = answer(reasoning="hm", provider_parts=[part, part])
    assert messages_for("anthropic", USER, turn, RESULT)[1]["content"][0]["type"] == "tool_use"


def test_results_of_anthropics_own_tools_go_back_with_the_tool_and_in_pairs() -> None:
    use = {"type": "server_tool_use", "data": {"index": 1, "id": "s1", "name": "web_search", "input": {"q": "x"}}}
    result = {"type": "web_search_tool_result", "data": {"index": 2, "tool_use_id": "s1", "content": []}}
    counted = {"type": "server_tool_use", "data": {"web_search_requests": 1}}
    turn = {"role": "assistant", "content": "Found.", "provider_parts": [THINKING, use, result, counted]}
    tools = [{"type": "web_search_20250305", "name": "web_search"}]

    def kinds(turn: dict[str, Any], **fields: Any) -> list[str]:
        return [block["type"] for block in messages_for("anthropic", USER, turn, USER, **fields)[1]["content"]]

    assert kinds(turn, tools=tools) == ["thinking", "server_tool_use", "web_search_tool_result", "text"]
    assert kinds(turn) == ["thinking", "text"]
    assert kinds({**turn, "provider_parts": [use]}, tools=tools) == ["text"]


def signed(call: str) -> dict[str, Any]:
    return {"id": call, "name": "look", "arguments": "{}"}


def test_geminis_signature_goes_onto_the_very_part_that_it_came_with() -> None:
    parts = [
        {"type": "thoughtSignature", "data": {"signature": "S2", "tool_call": 1}},
        {"type": "thoughtSignature", "data": {"signature": "S3", "tool_call": "c3"}},
        {"type": "thoughtSignature", "data": {"signature": "ST"}},
    ]
    turn = answer(content="Look.", tool_calls=[signed("c"), signed("c2"), signed("c3")], provider_parts=parts)
    sent = messages_for("google", USER, turn, RESULT, model="gemini-3-pro")[1]["parts"]
    assert sent[0] == {"text": "Look.", "thoughtSignature": "ST"}
    assert [part.get("thoughtSignature") for part in sent[1:]] == [None, "S2", "S3"]


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_calls": [{**CALL, "thought_signature": "S"}]},
        {"tool_calls": [{**CALL, "thoughtSignature": "S"}]},
        {"tool_calls": [{**CALL, "extra_content": {"google": {"thought_signature": "S"}}}]},
        {"provider_parts": [{"type": "thoughtSignature", "data": "S"}]},
        {"provider_parts": [{"type": "thoughtSignature", "data": {"signature": "S", "tool_call": 0}}]},
        {
            "provider_parts": [
                {"type": "extra_content", "data": {"tool_call": 0, "google": {"thought_signature": "S"}}}
            ]
        },
    ],
)
def test_geminis_signature_is_understood_in_each_shape(fields: dict[str, Any]) -> None:
    sent = messages_for("google", USER, answer(**fields), RESULT, model="gemini-3-pro")[1]["parts"]
    assert [part["thoughtSignature"] for part in sent] == ["S"]


def test_a_call_that_another_model_made_has_googles_mark_where_a_signature_is_wanted() -> None:
    def marks(model: str, **fields: Any) -> list[Any]:
        turn = answer(tool_calls=[signed("c"), signed("d")], **fields)
        return [
            p.get("thoughtSignature") for p in messages_for("google", USER, turn, RESULT, model=model)[1]["parts"]
        ]

    assert marks("gemini-3-pro") == [UNSIGNED, None]
    assert marks("models/gemini-3-flash", provider="anthropic") == [UNSIGNED, None]
    assert marks("gemini-2.5-pro") == [None, None]


DETAILS = [{"type": "reasoning.encrypted", "data": "RU5D", "id": "rs_1", "index": 0}]
EXTRA = {"google": {"thought_signature": "S"}}
OPENROUTER = Quirks(reasoning_details=True, reasoning_back="reasoning")


def test_details_of_reasoning_go_back_to_who_knows_them() -> None:
    for turn in (
        answer(reasoning="hm", reasoning_details=DETAILS),
        answer(reasoning="hm", provider_parts=[{"type": "reasoning_details", "data": DETAILS}]),
    ):
        sent = messages_for("openai", USER, turn, RESULT, quirks=OPENROUTER)[1]
        assert (sent["reasoning_details"], sent["reasoning"]) == (DETAILS, "hm")
        assert "RU5D" not in str(messages_for("openai", USER, turn, RESULT))
    named = answer(provider="mine", reasoning_details=DETAILS)
    assert messages_for("openai", USER, named, RESULT, provider="mine")[1]["reasoning_details"] == DETAILS


def test_deepseek_gets_its_reasoning_back_with_each_turn() -> None:
    quirks = Quirks(reasoning_back="reasoning_content")
    turns = (USER, answer(reasoning_content="hm"), RESULT, {"role": "assistant", "content": "x", "reasoning": "so"})
    sent = messages_for("openai", *turns, USER, quirks=quirks)
    assert [turn.get("reasoning_content") for turn in sent if turn["role"] == "assistant"] == ["hm", "so"]
    assert "hm" not in str(messages_for("openai", *turns, USER))


@pytest.mark.parametrize(
    "turn",
    [
        answer(tool_calls=[{**CALL, "extra_content": EXTRA}]),
        answer(provider_parts=[{"type": "extra_content", "data": {"tool_call": 0, **EXTRA}}]),
    ],
)
def test_additions_of_a_provider_to_a_call_go_back_on_that_call(turn: dict[str, Any]) -> None:
    assert messages_for("openai", USER, turn, RESULT)[1]["tool_calls"][0]["extra_content"] == EXTRA


SECRETS = [
    THINKING,
    REDACTED,
    {"type": "signature_delta", "data": {"signature": "S1"}},
    {"type": "thoughtSignature", "data": {"signature": "S1", "tool_call": 0}},
    {"type": "reasoning_details", "data": DETAILS},
    {"type": "extra_content", "data": {"tool_call": 0, **EXTRA}},
    {"type": "citations_delta", "data": {"cited": "S1"}},
    {"type": "omitted", "data": "x"},
]


@pytest.mark.parametrize("wire_format", ["openai", "anthropic", "google"])
def test_a_provider_s_own_parts_go_to_no_other(wire_format: str) -> None:
    turn = answer(
        provider="other",
        content="Look.",
        reasoning="hm",
        tool_calls=[{**CALL, "thought_signature": "S1", "extra_content": EXTRA}],
        provider_parts=SECRETS,
    )
    plain = answer(content="Look.")
    quirks = Quirks(reasoning_details=True, reasoning_back="reasoning_content")
    for model in ("m", "gemini-2.5-pro"):
        sent = messages_for(wire_format, USER, turn, RESULT, provider="mine", quirks=quirks, model=model)
        assert sent == messages_for(wire_format, USER, plain, RESULT, provider="mine", quirks=quirks, model=model)


# -- what was read goes back

CHUNK = {"id": "x", "object": "chat.completion.chunk"}
TOLD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "anthropic": (
        [
            {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "h"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "S1"}},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "redacted_thinking", "data": "R2"},
            },
            {"type": "content_block_stop", "index": 1},
            {
                "type": "content_block_start",
                "index": 2,
                "content_block": {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
            },
            {"type": "content_block_stop", "index": 2},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
            {"type": "message_stop"},
        ],
        "claude-sonnet-4-5",
    ),
    "google": (
        [
            {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]},
            {
                "candidates": [
                    {
                        "content": {
                            "parts": [
                                {"functionCall": {"name": "look", "args": {}}},
                                {"functionCall": {"name": "look", "args": {"at": "b"}}, "thoughtSignature": "S2"},
                            ]
                        },
                        "finishReason": "STOP",
                    }
                ]
            },
        ],
        "gemini-3-pro",
    ),
    "openai": (
        [
            {**CHUNK, "choices": [{"delta": {"reasoning": "hm", "reasoning_details": DETAILS}}]},
            {
                **CHUNK,
                "choices": [
                    {
                        "delta": {
                            "tool_calls": [
                                {
                                    "index": 0,
                                    "function": {"name": "look", "arguments": ""},
                                    "type": "function",
                                    "extra_content": EXTRA,
                                }
                            ]
                        }
                    }
                ],
            },
            {**CHUNK, "choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        ],
        "m",
    ),
}


def record_of(wire_format: str) -> dict[str, Any]:
    """The record's fields of this answer, through JSON as a caller gets them."""
    events, model = TOLD[wire_format]
    reader, transcript = adapter(wire_format).reader(GenerationRequest(model, [])), Transcript()
    for event in events:
        for meaning in reader.read(ServerSentEvent("message", json.dumps(event), "")):
            if isinstance(meaning, Said):
                transcript.add(meaning.delta)
    record: dict[str, Any] = json.loads(json.dumps(transcript.as_data()))
    return record


@pytest.mark.parametrize("provider", [None, "mine"])
@pytest.mark.parametrize("wire_format", TOLD)
def test_a_record_is_taken_back_as_it_was_told_and_reaches_its_maker(
    wire_format: str, provider: str | None
) -> None:
    record = record_of(wire_format)
    turn = {"role": "assistant", "content": record.pop("text"), **record}
    if provider:
        turn["provider"] = provider
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in record["tool_calls"]]
    model = TOLD[wire_format][1]
    sent = messages_for(wire_format, USER, turn, *results, model=model, provider="mine", quirks=OPENROUTER)[1]
    match wire_format:
        case "anthropic":
            assert sent["content"] == [
                *BLOCKS,
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
            ]
        case "google":
            assert [part.get("thoughtSignature") for part in sent["parts"]] == [None, "S2"]
            assert [part["functionCall"]["args"] for part in sent["parts"]] == [{}, {"at": "b"}]
        case "openai":
            assert (sent["reasoning"], sent["reasoning_details"]) == ("hm", DETAILS)
            (call,) = sent["tool_calls"]
            assert (call["extra_content"], call["function"]["arguments"]) == (EXTRA, "{}")
            assert call["id"]


@pytest.mark.parametrize("to", TOLD)
@pytest.mark.parametrize("maker", TOLD)
def test_a_record_can_be_sent_to_every_other_provider_without_what_only_its_maker_understands(
    maker: str, to: str
) -> None:
    record = record_of(maker)
    turn = {"role": "assistant", "content": record.pop("text"), **record, "provider": "maker"}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in record["tool_calls"]]
    sent = str(messages_for(to, USER, turn, *results, provider="other", quirks=OPENROUTER))
    assert not [secret for secret in ("S1", "R2", "S2", "RU5D", "'S'", "hm") if secret in sent]
    assert "look" in sent
