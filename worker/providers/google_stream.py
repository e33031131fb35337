"""What Gemini's ``streamGenerateContent`` answers, as a stream of responses. Pure, no I/O.

Source: the Gemini API reference, "GenerateContentResponse". Every event is a whole response with the next parts in
it; there is no end mark, the body's end is the end. Usage counts grow from event to event, and the last one counts.
A function call comes in one piece, and the reason beside it is ``STOP``.

Parts that are neither text nor a call (``inlineData``, ``executableCode``, ``codeExecutionResult`` …), a part's
``thoughtSignature``, and what a candidate holds beside its content (``groundingMetadata``, ``citationMetadata`` …)
are kept under ``provider``. Left out on purpose: ``safetyRatings``, unless they ended the answer, for each event
repeats them; and ``modelVersion``, ``responseId``, ``createTime``, ``index``, ``avgLogprobs`` and token counts,
which say nothing about the answer.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from shared.events import encode_data
from shared.sse import ServerSentEvent
from worker.providers.base import About, Finish, FinishReason, ProviderError, ProviderEvent, Reader, Said, Usage
from worker.providers.wire import (
    UNREADABLE,
    Others,
    Tokens,
    decode,
    error_event,
    error_object,
    garbage,
    sentence_in,
)

_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "STOP": "stop",
    "FUNCTION_CALL": "tool_calls",  # no word of Google's own: gateways carry OpenAI's over
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}
_ABOUT: Final[dict[Any, About]] = {
    "UNAUTHENTICATED": "key",
    "PERMISSION_DENIED": "key",
    "NOT_FOUND": "model",
    "INVALID_ARGUMENT": "request",
    "FAILED_PRECONDITION": "request",
    "OUT_OF_RANGE": "request",
}
"""What no other try would mend; ``UNAVAILABLE``, ``RESOURCE_EXHAUSTED``, ``INTERNAL`` pass."""
_UNSAID: Final = "FINISH_REASON_UNSPECIFIED"
_KNOWN_OF_PART: Final = {"text", "thought", "functionCall"}
_KNOWN_OF_CANDIDATE: Final = {"content", "finishReason", "index", "safetyRatings", "avgLogprobs", "tokenCount"}
_KNOWN: Final = {"candidates", "promptFeedback", "usageMetadata", "error"} | {
    "modelVersion",
    "responseId",
    "createTime",
}


class _Call(msgspec.Struct, frozen=True):
    name: str | None = None
    id: str | None = None
    args: dict[str, Any] | None = None


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    function_call: _Call | None = None


class _Content(msgspec.Struct, frozen=True):
    parts: list[dict[str, Any]] | None = None


class _Candidate(msgspec.Struct, frozen=True, rename="camel"):
    index: int | None = None
    content: _Content | None = None
    finish_reason: str | None = None
    safety_ratings: Any = None


class _Feedback(msgspec.Struct, frozen=True, rename="camel"):
    block_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True, rename="camel"):
    prompt_token_count: Tokens | None = None
    tool_use_prompt_token_count: Tokens | None = None
    candidates_token_count: Tokens | None = None
    thoughts_token_count: Tokens | None = None
    cached_content_token_count: Tokens | None = None


_responses: Final = msgspec.json.Decoder(dict[str, Any])


class GoogleReader(Reader):
    """See :class:`worker.providers.base.Reader`."""

    def __init__(self) -> None:
        self._others = Others()
        self._calls = 0

    def read(self, event: ServerSentEvent) -> Iterator[ProviderEvent]:
        """The meaning of one event. Raises :class:`ProviderError` for an error (by its status) and garbage."""
        data = event.data.strip()
        if event.event == "error":
            raise _error_of(decode(data), data)
        if not data:
            return
        try:
            yield from self._meaning(_responses.decode(data), data)
        except UNREADABLE:
            raise garbage("that is no Gemini response") from None

    def _meaning(self, raw: dict[str, Any], data: str) -> Iterator[ProviderEvent]:
        if raw.get("error"):
            raise _error_of(raw, data)
        candidates = msgspec.convert(raw.get("candidates"), list[dict[str, Any]] | None)
        usage = msgspec.convert(raw.get("usageMetadata"), _Usage | None)
        for one in candidates or ():
            candidate = msgspec.convert(one, _Candidate)
            if not candidate.index:  # one answer was asked for
                yield from self._candidate(candidate, one, str(raw.get("responseId") or ""))
        for name, value in raw.items():
            if value and name not in _KNOWN:
                yield from self._others.keep(name, value)
        feedback = msgspec.convert(raw.get("promptFeedback"), _Feedback | None)
        if feedback is not None and feedback.block_reason:
            yield from self._others.keep("promptFeedback", raw["promptFeedback"])
            yield Finish("content_filter")
        if usage is not None:
            yield _read_usage(usage)

    def _candidate(self, candidate: _Candidate, raw: dict[str, Any], answer: str) -> Iterator[ProviderEvent]:
        content = candidate.content or _Content()
        for part in content.parts or ():
            yield from self._part(part, answer)
        for name, value in raw.items():
            if value and name not in _KNOWN_OF_CANDIDATE:
                yield from self._others.keep(name, value)
        said = candidate.finish_reason
        if said and said != _UNSAID:
            reason = _FINISH_REASONS.get(said, "other")
            if reason == "content_filter" and candidate.safety_ratings:
                yield from self._others.keep("safetyRatings", candidate.safety_ratings)
            yield Finish("tool_calls" if reason == "stop" and self._calls else reason)

    def _part(self, raw: dict[str, Any], answer: str) -> Iterator[Said]:
        part = msgspec.convert(raw, _Part)
        if part.text:
            yield Said({"reasoning" if part.thought else "text": part.text})
        if part.function_call is not None:
            yield self._call(part.function_call, answer)
        for name, value in raw.items():
            if value and name not in _KNOWN_OF_PART:
                yield from self._others.keep(name, value)

    def _call(self, call: _Call, answer: str) -> Said:
        """One whole call. Where Google gives no id it is made of the answer's: results must name their call."""
        index, self._calls = self._calls, self._calls + 1
        made = "_".join(filter(None, ("call", answer, str(index))))
        arguments = encode_data(call.args or {}).decode()
        named = {"name": call.name} if call.name else {}
        return Said({"tool_call": {"index": index, "id": call.id or made, **named, "arguments": arguments}})


def _read_usage(usage: _Usage) -> Usage:
    taken, given = usage.prompt_token_count, usage.candidates_token_count
    thoughts = usage.thoughts_token_count
    return Usage(
        input_tokens=None if taken is None else taken + (usage.tool_use_prompt_token_count or 0),
        output_tokens=None if given is None and thoughts is None else (given or 0) + (thoughts or 0),
        cached_tokens=usage.cached_content_token_count,
        reasoning_tokens=thoughts,
    )


def _error_of(value: Any, data: str) -> ProviderError:
    status = error_object(value).get("status")
    return error_event(sentence_in(value) or data, _ABOUT.get(status, "") if isinstance(status, str) else "")
