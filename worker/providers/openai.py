"""The OpenAI chat completions wire format, streamed. Pure, no I/O.

Source: the OpenAI API reference, "Chat / Create chat completion / Streaming", and the dialects of it that
DeepSeek, vLLM, llama.cpp and OpenRouter speak: ``reasoning_content`` or ``reasoning``, nulls where a field
could be missing, ``error`` objects in the stream.

What a chunk may look like is written down as types; what does not fit them is garbage, and said so.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec

from shared.sse import ServerSentEvent
from worker.providers.base import (
    End,
    Finish,
    FinishReason,
    GenerationRequest,
    HttpCall,
    ProviderError,
    ProviderEvent,
    Said,
    Usage,
)

Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Past 2**53 a browser can't count, and no answer has that many tokens."""
Index = Annotated[int, msgspec.Meta(ge=0, le=1023)]
"""No provider runs a thousand tool calls in one answer."""

_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, frozen=True):
    index: Index | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct, frozen=True):
    cached_tokens: Tokens | None = None


class _OutputDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: Tokens | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    prompt_cache_hit_tokens: Tokens | None = None
    """DeepSeek's word for cached tokens."""
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(_Chunk)
_anything = msgspec.json.Decoder()
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


class OpenAIAdapter:
    """See :class:`worker.providers.base.Adapter`."""

    def call(self, request: GenerationRequest, api_key: str) -> HttpCall:
        """``POST /chat/completions`` that asks for a stream with its usage at the end."""
        headers = {"Accept": "text/event-stream"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        optional: dict[str, Any] = {
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": request.stop or None,
            "tools": request.tools or None,
        }
        messages = request.messages
        if request.prefix:
            messages = [*messages, {"role": "assistant", "content": request.prefix}]
            if request.continues == "vllm":
                optional |= {"continue_final_message": True, "add_generation_prompt": False}
        body = {
            "model": request.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in optional.items() if value is not None},
        }
        return HttpCall("/chat/completions", headers, body)

    def read(self, event: ServerSentEvent) -> Iterator[ProviderEvent]:
        """The meaning of one event: nothing, or deltas, then a finish reason, then usage.

        Raises :class:`ProviderError` with ``provider_error_event`` or ``provider_garbage``.
        """
        data = event.data.strip()
        if event.event == "error":
            raise _error_event(_sentence(_decode(data)) or data)
        if not data:
            return
        if data == "[DONE]":
            yield End()
            return
        try:
            chunk = _chunks.decode(data)
        except _UNREADABLE:
            raise _garbage() from None
        if chunk.error:
            raise _error_event(_sentence(chunk.error))
        for choice in chunk.choices or ():
            if not choice.index:  # one answer was asked for; null and 0 both mean the first
                yield from _read_choice(choice)
        if chunk.usage is not None:
            yield _read_usage(chunk.usage)

    def refusal(self, status: int, body: bytes) -> str:
        """The provider's own sentence in an error response; '' for an HTML page or for nothing."""
        decoded = _decode(body)
        if decoded is not None:
            return _sentence(decoded)
        text = body.decode("utf-8", "replace").strip()
        return "" if text.startswith(("<", "{", "[")) else text


def _read_choice(choice: _Choice) -> Iterator[ProviderEvent]:
    delta = choice.delta
    if delta is not None:
        # Some gateways send the same reasoning under both names.
        if reasoning := delta.reasoning_content or delta.reasoning:
            yield Said({"reasoning": reasoning})
        if delta.content:
            yield Said({"text": delta.content})
        if delta.refusal:
            yield Said({"text": delta.refusal})
        for position, call in enumerate(delta.tool_calls or ()):
            yield from _read_call(position if call.index is None else call.index, call.id, call.function)
        if delta.function_call is not None:
            yield from _read_call(0, None, delta.function_call)
    if choice.finish_reason:
        yield Finish(_FINISH_REASONS.get(choice.finish_reason, "other"))


def _read_call(index: int, call_id: str | None, function: _Function | None) -> Iterator[Said]:
    pieces = {
        "id": call_id,
        "name": function and function.name,
        "arguments": function and function.arguments,
    }
    said = {field: value for field, value in pieces.items() if value}
    if said:
        yield Said({"tool_call": {"index": index, **said}})


def _read_usage(usage: _Usage) -> Usage:
    taken = usage.prompt_tokens_details or _InputDetails()
    given = usage.completion_tokens_details or _OutputDetails()
    cached = taken.cached_tokens
    return Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=usage.prompt_cache_hit_tokens if cached is None else cached,
        reasoning_tokens=given.reasoning_tokens,
    )


def _decode(raw: str | bytes) -> Any:
    try:
        return _anything.decode(raw)
    except _UNREADABLE:
        return None


def _sentence(value: Any) -> str:
    """The words for people in any error object met so far: ``{"error": {"message"}}``, ``{"error": text}``,
    ``{"message"}``, ``{"detail"}``, or a list around one of them."""
    for _ in range(4):  # list, error, message, text: no provider nests deeper
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, list):
            value = value[0] if value else None
        elif isinstance(value, dict):
            value = value.get("error") or value.get("message") or value.get("detail")
        else:
            break
    return value.strip() if isinstance(value, str) else ""


def _error_event(sentence: str) -> ProviderError:
    text = "The provider broke off with an error" + (f": {sentence}" if sentence else ".")
    return ProviderError("provider_error_event", text, retryable=True)


def _garbage() -> ProviderError:
    return ProviderError(
        "provider_garbage", "The provider sent an event that is no chat completion chunk.", retryable=True
    )


ADAPTER = OpenAIAdapter()
