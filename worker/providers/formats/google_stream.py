"""Google's Gemini wire format: answers of ``streamGenerateContent``, as a stream of responses or a list. Pure, no
I/O.

Source: the Gemini API reference, "GenerateContentResponse", and Vertex AI's of the same name. Every event is a
whole response with the next parts. There is no end mark: the end of the body is the end. Usage counts grow from
event to event, and the last one counts. A function call comes in one piece, with ``STOP`` as its finish reason.
Gateways write names in snake case.

Parts that are neither text nor a call (``inlineData``, ``executableCode``, ``codeExecutionResult`` …) and a
candidate's other fields (``groundingMetadata``, ``citationMetadata`` …) are kept under ``provider``. A part's
``thoughtSignature`` is kept as ``{"signature", "tool_call"}``, with the index of its call if it has one: it must be
sent back with that call. Left out on purpose: ``safetyRatings``, because each event repeats them (they are kept if
they ended the answer); and ``modelVersion``, ``responseId``, ``createTime``, ``index``, ``avgLogprobs`` and token
counts, which say nothing about the answer.
"""

from collections.abc import Iterator
from typing import Any, Final

from worker.providers.base import Finish, ProviderEvent, Said, Usage
from worker.providers.formats.reader import (
    AnswerReader,
    count_of,
    finish_of,
    name_of,
    object_of,
    objects_of,
    text_of,
)

_SNAKE: Final = {
    "finish_reason": "finishReason",
    "finish_message": "finishMessage",
    "function_call": "functionCall",
    "thought_signature": "thoughtSignature",
    "usage_metadata": "usageMetadata",
    "prompt_feedback": "promptFeedback",
    "block_reason": "blockReason",
    "safety_ratings": "safetyRatings",
    "response_id": "responseId",
    "model_version": "modelVersion",
    "create_time": "createTime",
    "avg_logprobs": "avgLogprobs",
    "token_count": "tokenCount",
    "prompt_token_count": "promptTokenCount",
    "tool_use_prompt_token_count": "toolUsePromptTokenCount",
    "candidates_token_count": "candidatesTokenCount",
    "thoughts_token_count": "thoughtsTokenCount",
    "cached_content_token_count": "cachedContentTokenCount",
}
_KNOWN_OF_PART: Final = {"text", "thought", "functionCall", "thoughtSignature"}
_KNOWN_OF_CANDIDATE: Final = {"content", "finishReason", "index", "safetyRatings", "avgLogprobs", "tokenCount"}
_KNOWN: Final = {"candidates", "promptFeedback", "usageMetadata", "error"} | {
    "modelVersion",
    "responseId",
    "createTime",
}


class GoogleReader(AnswerReader):
    """See :class:`worker.providers.base.Reader`."""

    def _meaning(self, value: dict[str, Any], event: str) -> Iterator[ProviderEvent]:
        value = _camel(value)
        self._answer = self._answer or text_of(value.get("responseId"))
        for candidate in objects_of(value.get("candidates")):
            if not count_of(candidate.get("index")):  # one answer was requested
                yield from self._candidate(_camel(candidate))
        for name, one in value.items():
            if one and name not in _KNOWN:
                yield from self._others.keep(name, one)
        feedback = _camel(object_of(value.get("promptFeedback")))
        if feedback.get("blockReason"):
            yield from self._others.keep("promptFeedback", feedback)
            yield Finish("content_filter")
        if isinstance(usage := value.get("usageMetadata"), dict):
            yield _read_usage(_camel(usage))

    def _candidate(self, candidate: dict[str, Any]) -> Iterator[ProviderEvent]:
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else content
        for part in parts if isinstance(parts, list) else [parts]:
            yield from self._part(part)
        for name, value in candidate.items():
            if value and name not in _KNOWN_OF_CANDIDATE:
                yield from self._others.keep(name, value)
        reason = finish_of(candidate.get("finishReason"), name_of(candidate.get("finishMessage")))
        if reason == "content_filter" and candidate.get("safetyRatings"):
            yield from self._others.keep("safetyRatings", candidate["safetyRatings"])
        if reason is not None:
            yield Finish("tool_calls" if reason == "stop" and len(self._calls) else reason)

    def _part(self, raw: Any) -> Iterator[Said]:
        if not isinstance(raw, dict):
            yield from self._said("text", text_of(raw))
            return
        part = _camel(raw)
        yield from self._said("reasoning" if part.get("thought") is True else "text", text_of(part.get("text")))
        signature: dict[str, Any] = {"signature": part.get("thoughtSignature")}
        if isinstance(call := part.get("functionCall"), dict):
            index, said = self._call(call)
            signature["tool_call"] = index
            yield from said
        if signature["signature"]:
            yield from self._others.keep("thoughtSignature", signature)
        for name, value in part.items():
            if value and name not in _KNOWN_OF_PART:
                yield from self._others.keep(name, value)

    def _call(self, call: dict[str, Any]) -> tuple[int, list[Said]]:
        """One whole call. If Google gives no id, it is made from the answer's id, because results must name their
        call."""
        index = len(self._calls)
        made = f"call_{self._answer}_{index}" if self._answer else None
        arguments = call.get("args") or call.get("arguments")
        return self._call_piece(None, call.get("id") or made, call.get("name"), arguments, anew=True, whole=True)


def _camel(value: dict[str, Any]) -> dict[str, Any]:
    """The object with Google's own names; some gateways write them in snake case."""
    if _SNAKE.keys().isdisjoint(value):
        return value
    return {_SNAKE.get(name, name): one for name, one in value.items()}


def _read_usage(usage: dict[str, Any]) -> Usage:
    taken, given = count_of(usage.get("promptTokenCount")), count_of(usage.get("candidatesTokenCount"))
    thoughts, by_tools = count_of(usage.get("thoughtsTokenCount")), count_of(usage.get("toolUsePromptTokenCount"))
    return Usage(
        input_tokens=None if taken is None else taken + (by_tools or 0),
        output_tokens=None if given is None and thoughts is None else (given or 0) + (thoughts or 0),
        cached_tokens=count_of(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )
