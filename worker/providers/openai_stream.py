"""What OpenAI's chat completions answer, as a stream of chunks. Pure, no I/O.

Source: the OpenAI API reference, "Chat / Create chat completion / Streaming", and the dialects of it that
DeepSeek, vLLM, llama.cpp and OpenRouter speak: ``reasoning_content`` or ``reasoning``, nulls where a field
could be missing, ``error`` objects in the stream.

Fields of a delta that are not known here are kept under ``provider``, and so are log probabilities, which come
only where they were asked for. Left out on purpose: ``reasoning_details`` (OpenRouter: the reasoning once more),
and what stands around the choices in every chunk alike (``id``, ``system_fingerprint``, ``service_tier``,
``obfuscation``, llama.cpp's ``timings``): noise of a whole entry for each token.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from shared.events import Delta
from shared.sse import ServerSentEvent
from worker.providers.base import End, Finish, FinishReason, ProviderEvent, Reader, Said, Usage
from worker.providers.wire import UNREADABLE, Index, Others, Tokens, decode, error_event, garbage, sentence_in

_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_KNOWN: Final = {"role", "content", "refusal", "reasoning_content", "reasoning", "reasoning_details"} | {
    "tool_calls",
    "function_call",
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
    delta: dict[str, Any] | None = None
    logprobs: Any = None
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


class _PlainDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    content: str
    role: str | None = None


class _PlainChoice(msgspec.Struct, frozen=True):
    delta: _PlainDelta
    index: Literal[0] | None = None
    logprobs: None = None
    finish_reason: None = None


class _PlainChunk(msgspec.Struct, frozen=True):
    """A piece of text and nothing else, as almost all chunks are: read at once, without a dict or an event between.
    That is 849 instructions a token in the whole worker, and 1,047 without."""

    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None


_chunks: Final = msgspec.json.Decoder(_Chunk)
_plain_chunks: Final = msgspec.json.Decoder(_PlainChunk)


class OpenAIReader(Reader):
    """See :class:`worker.providers.base.Reader`."""

    def __init__(self) -> None:
        self._others = Others()

    def read(self, event: ServerSentEvent) -> Iterable[ProviderEvent]:
        """The meaning of one event: nothing, or deltas, then a finish reason, then usage.

        Raises :class:`ProviderError` with ``provider_error_event`` or ``provider_garbage``.
        """
        if event.event == "error":
            raise error_event(sentence_in(decode(event.data)) or event.data.strip())
        return self._read(event.data.strip())

    def texts(self, bare: Sequence[bytes]) -> list[Delta] | None:
        """See :class:`worker.providers.base.Reader`."""
        try:
            read = map(_plain_chunks.decode, bare)
            return [{"text": text} for chunk in read if (text := chunk.choices[0].delta.content)]
        except UNREADABLE:
            return None

    def _read(self, data: str) -> Iterator[ProviderEvent]:
        if not data:
            return
        if data == "[DONE]":
            yield End()
            return
        try:
            chunk = _chunks.decode(data)
            if chunk.error:
                raise error_event(sentence_in(chunk.error))
            # One answer was asked for; null and 0 both mean the first.
            choices = [choice for choice in chunk.choices or () if not choice.index]
            deltas = [msgspec.convert(choice.delta or {}, _Delta) for choice in choices]
        except UNREADABLE:
            raise garbage("that is no chat completion chunk") from None
        for choice, delta in zip(choices, deltas, strict=True):
            yield from _read_delta(delta)
            for name, value in (choice.delta or {}).items():
                if value and name not in _KNOWN:
                    yield from self._others.keep(name, value)
            if choice.logprobs:
                yield from self._others.keep("logprobs", choice.logprobs)
            if choice.finish_reason:
                yield Finish(_FINISH_REASONS.get(choice.finish_reason, "other"))
        if chunk.usage is not None:
            yield _read_usage(chunk.usage)


def _read_delta(delta: _Delta) -> Iterator[Said]:
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
