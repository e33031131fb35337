"""What the three wire formats say, side by side: the table of ``tests/unit/test_wire_format_contract.py``.

One row is one :class:`WireFormatRow`. The words of all rows mean the same, so a case is written once.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.protocol.sse import ServerSentEvent
from shared.protocol.transcript import Transcript
from tests.support.conversation import TOOL
from worker.providers import adapter
from worker.providers.base import GenerationRequest, HttpCall, ProviderEvent, Reader, Said
from worker.providers.formats.anthropic import DEFAULT_MAX_TOKENS

Json = dict[str, Any]


@dataclass(frozen=True)
class WireFormatRow:
    """One wire format: what is sent for a request, and the events in which it says something."""

    name: str

    # What is sent.
    path: str
    """Of a call to the model ``m``."""
    key_header: tuple[str, str]
    """The header of the key ``sk-secret``."""
    asked: Callable[[str], Json]
    """The body of a call that asks this, and nothing else."""
    wishes: Json
    """What the body says of ``max_tokens=5, temperature=0.0, top_p=1.0, stop=["."], tools=[TOOL]``."""
    options: Json
    """Options of the provider's own, some of which stand against those wishes."""
    with_options: Json
    """What the body says of both."""
    conversation: Json
    """What the body says of ``tests.support.conversation.CONVERSATION``."""

    # What comes.
    text: Callable[[Any], Json]
    thinking: Callable[[str], Json]
    calls: Callable[..., list[Json]]
    """Tool calls ``(id, name, arguments)``, one behind the other; an id or arguments of None are left out."""
    finish: Callable[[Any], Json]
    usage: Callable[[Any, Any], Json]
    """Counts of input and output tokens."""
    error: Callable[[str], Json]
    """An error of this kind in the stream, whose words are ``Oh no``."""
    end: list[str | Json]
    """The mark of the end, if there is one."""
    whole: Callable[..., Json]
    """An answer without a stream: text, one call ``(id, name, arguments)``, reason, counts."""
    finish_reasons: dict[str, str]
    failing_ends: list[str]
    errors: dict[str, tuple[str, bool]]
    """By kind: the code, and whether to try again."""
    odd: list[Any]
    """Events that say nothing, and must not cost the text behind them."""

    def call(self, request: GenerationRequest, key: str = "") -> HttpCall:
        return adapter(self.name).call(request, key)

    def reader(self, **fields: Any) -> Reader:
        return adapter(self.name).reader(GenerationRequest("m", [], **fields))

    def read(self, *events: Any, name: str = "message") -> list[ProviderEvent]:
        """What these events mean, one after the other. Each is JSON, or the text of one."""
        reader = self.reader()
        return [meaning for event in events for meaning in reader.read(sse(event, name))]

    def told(self, *events: Any) -> Json:
        """What a record tells of an answer of these events."""
        reader, transcript = self.reader(), Transcript()
        meanings = [meaning for event in events for meaning in reader.read(sse(event))]
        for meaning in [*meanings, *reader.last()]:
            if isinstance(meaning, Said):
                transcript.add(meaning.delta)
        return transcript.as_data()

    def told_calls(self, *events: Any) -> list[tuple[Any, ...]]:
        """The tool calls of such a record: ``(id, name, arguments)``."""
        calls = self.told(*events).get("tool_calls", [])
        return [(call["id"], call["name"], call["arguments"]) for call in calls]


def sse(event: Any, name: str = "message") -> ServerSentEvent:
    return ServerSentEvent(name, event if isinstance(event, str) else json.dumps(event), "")


ODD_TEXTS: list[tuple[Any, str]] = [
    (1, "1"),
    (4.5, "4.5"),
    (True, "true"),
    (["a", "b"], "ab"),
    ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
    ({"text": "a"}, "a"),
    ({"type": "text", "text": "a"}, "a"),
    ([{"type": "output_text", "text": {"text": "a"}}], "a"),
    ("\ud83d", "\ufffd"),
    ("a\udc00b", "a\ufffdb"),
]
"""What stands in a text's place, and the text that it means."""


def _given(**fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


# -- OpenAI chat completions ----------------------------------------------------------------------------


def _chunk(**delta: Any) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def _openai_calls(*calls: tuple[Any, Any, Any]) -> list[Json]:
    return [
        _chunk(tool_calls=[_given(index=index, id=call_id, function=_given(name=name, arguments=arguments))])
        for index, (call_id, name, arguments) in enumerate(calls)
    ]


def _openai_usage(taken: Any, given: Any) -> Json:
    return {"prompt_tokens": taken, "completion_tokens": given}


OPENAI = WireFormatRow(
    name="openai",
    path="/chat/completions",
    key_header=("Authorization", "Bearer sk-secret"),
    asked=lambda prompt: {
        "model": "m",
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    wishes={
        "max_tokens": 5,
        "temperature": 0.0,
        "top_p": 1.0,
        "stop": ["."],
        "tools": [{"type": "function", "function": TOOL}],
    },
    options={"temperature": 0.5, "seed": None},
    with_options={"max_tokens": 5, "temperature": 0.5, "seed": None},
    conversation={
        "messages": [
            {"role": "system", "content": "Be short."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"a"}'}},
                    {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": '{"seen":"流れ"}'},
            {"role": "tool", "tool_call_id": "c2", "content": "nothing"},
            {"role": "user", "content": "And now?"},
        ]
    },
    text=lambda text: _chunk(content=text),
    thinking=lambda text: _chunk(reasoning_content=text),
    calls=_openai_calls,
    finish=lambda reason: {"choices": [{"delta": {}, "finish_reason": reason}]},
    usage=lambda taken, given: {"choices": [], "usage": _openai_usage(taken, given)},
    error=lambda kind: {"error": {"message": "Oh no", "code": kind}},
    end=["[DONE]"],
    whole=lambda text, call, reason, counts: {
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": text,
                    "tool_calls": [{"id": call[0], "function": {"name": call[1], "arguments": call[2]}}],
                },
                "finish_reason": reason,
            }
        ],
        "usage": _openai_usage(*counts),
    },
    finish_reasons={
        "stop": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
        "content_filter": "content_filter",
        "STOP": "stop",
        "eos": "stop",
        "end_turn": "stop",
        "COMPLETE": "stop",
        "model_length": "length",
        "MAX_TOKENS": "length",
        "tool_use": "tool_calls",
        "sensitive": "content_filter",
        "something_new": "other",
    },
    failing_ends=["error", "abort", "insufficient_system_resource", "ERROR", "cancelled", "timed_out"],
    errors={"529": ("provider_error_event", True), "something_new": ("provider_error_event", True)},
    odd=[
        {},
        {"choices": {}},
        {"choices": [None]},
        {"choices": [{"delta": []}]},
        {"choices": [{"delta": {"content": None, "tool_calls": {}, "function_call": []}}]},
        {"choices": [{"delta": {"tool_calls": [None, 1, {}, {"index": -1}, {"function": None}]}}]},
        {"choices": [{"finish_reason": 1}]},
        {"choices": [{"finish_reason": "null"}]},
        {"usage": []},
        {"object": "something.new", "data": {"a": 1}},
    ],
)

# -- Anthropic messages ---------------------------------------------------------------------------------


def _anthropic_delta(kind: str, **fields: Any) -> Json:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


def _anthropic_calls(*calls: tuple[Any, Any, Any]) -> list[Json]:
    events: list[Json] = []
    for index, (call_id, name, arguments) in enumerate(calls):
        block = {"type": "tool_use", **_given(id=call_id, name=name)}
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        if arguments is not None:
            delta = {"type": "input_json_delta", "partial_json": arguments}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    return events


def _anthropic_usage(taken: Any, given: Any) -> Json:
    return {"input_tokens": taken, "output_tokens": given}


ANTHROPIC = WireFormatRow(
    name="anthropic",
    path="/messages",
    key_header=("x-api-key", "sk-secret"),
    asked=lambda prompt: {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}],
        "max_tokens": DEFAULT_MAX_TOKENS,
        "stream": True,
    },
    wishes={
        "max_tokens": 5,
        "temperature": 0.0,
        "top_p": 1.0,
        "stop_sequences": ["."],
        "tools": [{"name": "look", "description": "Looks at a thing.", "input_schema": TOOL["parameters"]}],
    },
    options={"thinking": {"type": "enabled", "budget_tokens": 1024}, "temperature": None},
    with_options={
        "max_tokens": 5,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "temperature": None,
    },
    conversation={
        "system": "Be short.",
        "messages": [
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
        ],
    },
    text=lambda text: _anthropic_delta("text_delta", text=text),
    thinking=lambda text: _anthropic_delta("thinking_delta", thinking=text),
    calls=_anthropic_calls,
    finish=lambda reason: {"type": "message_delta", "delta": {"stop_reason": reason}},
    usage=lambda taken, given: {"type": "message_delta", "delta": {}, "usage": _anthropic_usage(taken, given)},
    error=lambda kind: {"type": "error", "error": {"type": kind, "message": "Oh no"}},
    end=[{"type": "message_stop"}],
    whole=lambda text, call, reason, counts: {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "text", "text": text},
            {"type": "tool_use", "id": call[0], "name": call[1], "input": json.loads(call[2])},
        ],
        "stop_reason": reason,
        "usage": _anthropic_usage(*counts),
    },
    finish_reasons={
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
        "pause_turn": "other",
        "something_new": "other",
    },
    failing_ends=["error", "ABORT", "insufficient_system_resource", "internal_failure"],
    errors={
        "overloaded_error": ("provider_error_event", True),
        "rate_limit_error": ("provider_error_event", True),
        "api_error": ("provider_error_event", True),
        "something_new": ("provider_error_event", True),
        "authentication_error": ("provider_auth", False),
        "permission_error": ("provider_no_access", False),
        "billing_error": ("provider_no_credit", False),
        "request_too_large": ("context_too_long", False),
        "not_found_error": ("provider_unknown_model", False),
        "invalid_request_error": ("provider_refused", False),
    },
    odd=[
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

# -- Gemini -----------------------------------------------------------------------------------------------


def _parts(*parts: Json, **candidate: Any) -> Json:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **candidate}]}


def _google_call(call_id: Any, name: Any, arguments: Any) -> Json:
    args = None if arguments is None else json.loads(arguments)
    return {"functionCall": _given(id=call_id, name=name, args=args)}


def _google_usage(taken: Any, given: Any) -> Json:
    return {"promptTokenCount": taken, "candidatesTokenCount": given}


GOOGLE = WireFormatRow(
    name="google",
    path="/models/m:streamGenerateContent?alt=sse",
    key_header=("x-goog-api-key", "sk-secret"),
    asked=lambda prompt: {"contents": [{"role": "user", "parts": [{"text": prompt}]}]},
    wishes={
        "generationConfig": {"maxOutputTokens": 5, "temperature": 0.0, "topP": 1.0, "stopSequences": ["."]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "look",
                        "description": "Looks at a thing.",
                        "parametersJsonSchema": TOOL["parameters"],
                    }
                ]
            }
        ],
    },
    options={
        "generationConfig": {"topP": 0.5, "thinkingConfig": {"includeThoughts": True}},
        "safetySettings": [],
    },
    with_options={
        "generationConfig": {
            "maxOutputTokens": 5,
            "temperature": 0.0,
            "topP": 0.5,
            "stopSequences": ["."],
            "thinkingConfig": {"includeThoughts": True},
        },
        "safetySettings": [],
    },
    conversation={
        "systemInstruction": {"parts": [{"text": "Be short."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "What is it?"},
                    {"fileData": {"fileUri": "https://example.com/a.png"}},
                    {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"id": "c1", "name": "look", "args": {"at": "a"}}},
                    {"functionCall": {"id": "c2", "name": "look", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "c1", "name": "look", "response": {"seen": "流れ"}}},
                    {"functionResponse": {"id": "c2", "name": "look", "response": {"result": "nothing"}}},
                    {"text": "And now?"},
                ],
            },
        ],
    },
    text=lambda text: _parts({"text": text}),
    thinking=lambda text: _parts({"text": text, "thought": True}),
    calls=lambda *calls: [_parts(_google_call(*call)) for call in calls],
    finish=lambda reason: _parts(finishReason=reason),
    usage=lambda taken, given: {"usageMetadata": _google_usage(taken, given)},
    error=lambda kind: {"error": {"code": 1, "message": "Oh no", "status": kind}},
    end=[],
    whole=lambda text, call, reason, counts: {
        **_parts({"text": text}, _google_call(*call), finishReason=reason),
        "usageMetadata": _google_usage(*counts),
    },
    finish_reasons={
        "STOP": "stop",
        "MAX_TOKENS": "length",
        "SAFETY": "content_filter",
        "RECITATION": "content_filter",
        "BLOCKLIST": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "SPII": "content_filter",
        "stop": "stop",
        "max_tokens": "length",
        "LANGUAGE": "other",
        "SOMETHING_NEW": "other",
        "OTHER": "other",
    },
    failing_ends=["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "ERROR"],
    errors={
        "UNAVAILABLE": ("provider_error_event", True),
        "RESOURCE_EXHAUSTED": ("provider_error_event", True),
        "INTERNAL": ("provider_error_event", True),
        "UNAUTHENTICATED": ("provider_auth", False),
        "PERMISSION_DENIED": ("provider_no_access", False),
        "NOT_FOUND": ("provider_unknown_model", False),
        "INVALID_ARGUMENT": ("provider_refused", False),
    },
    odd=[
        {"candidates": {}},
        {"candidates": [None]},
        {"candidates": 1},
        {"candidates": [{"content": []}]},
        {"candidates": [{"content": {"parts": {}}}]},
        _parts({"functionCall": []}),
        {"candidates": [{"finishReason": 1}]},
        {"candidates": [{"index": "x", "finishReason": None}]},
        {"usageMetadata": []},
        {"promptFeedback": []},
    ],
)

WIRE_FORMATS = (OPENAI, ANTHROPIC, GOOGLE)
