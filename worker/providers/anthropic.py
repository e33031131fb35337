"""The Anthropic messages wire format. Pure, no I/O. What comes back: :mod:`worker.providers.anthropic_stream`.

Source: the Anthropic API reference, "Messages" (``POST /v1/messages``). There ``system`` stands beside the
messages, the user's and the assistant's turns alternate, and the results of tools are blocks in front of the user's
next turn.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from worker.providers.anthropic_stream import AnthropicReader
from worker.providers.base import GenerationRequest, HttpCall, Refusal
from worker.providers.wire import sentence_of, text_in

VERSION: Final = "2023-06-01"
DEFAULT_MAX_TOKENS: Final = 8192
"""Anthropic wants a limit in every request. Where the caller asked for none it is this one, which every model
since Claude 3.5 takes; an answer that meets it ends with ``length``."""


class AnthropicAdapter:
    """See :class:`worker.providers.base.Adapter`."""

    def call(self, request: GenerationRequest, api_key: str) -> HttpCall:
        """``POST /messages`` that asks for a stream."""
        headers = {"Accept": "text/event-stream", "anthropic-version": VERSION}
        if api_key:
            headers["x-api-key"] = api_key
        system, messages = _conversation(request.messages, _sent_prefix(request))
        optional: dict[str, Any] = {
            "system": system or None,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop_sequences": request.stop or None,
            "tools": [_tool(tool) for tool in request.tools] or None,
        }
        body = {
            "model": request.model,
            "messages": messages,
            "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
            "stream": True,
            **{name: value for name, value in optional.items() if value is not None},
            **request.options,
        }
        return HttpCall("/messages", headers, body)

    def reader(self, request: GenerationRequest) -> AnthropicReader:
        return AnthropicReader(at_seam=_sent_prefix(request) != request.prefix)

    def refusal(self, body: bytes) -> Refusal:
        """The sentence; its status says what it is about."""
        return Refusal(sentence_of(body))


def _sent_prefix(request: GenerationRequest) -> str:
    """White space at the end of a prefix is refused, so it is held back (see :class:`AnthropicReader`)."""
    return request.prefix.rstrip()


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {("input_schema" if name == "parameters" else name): value for name, value in tool.items()}


def _conversation(turns: Sequence[dict[str, Any]], prefix: str) -> tuple[str, list[dict[str, Any]]]:
    """Out: the system prompt ('' for none; several become one) and the messages. ``prefix`` is how the answer
    begins."""
    system: list[str] = []
    messages: list[dict[str, Any]] = []
    said = [*turns, {"role": "assistant", "content": prefix}] if prefix else turns
    for turn in said:
        if turn["role"] == "system":
            system.append(text_in(turn["content"]))
            continue
        role = "assistant" if turn["role"] == "assistant" else "user"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += _blocks(turn)
        else:
            messages.append({"role": role, "content": _blocks(turn)})
    return "\n\n".join(system), messages


def _blocks(turn: dict[str, Any]) -> list[dict[str, Any]]:
    content = turn.get("content") or []
    if turn["role"] == "tool":
        return [{"type": "tool_result", "tool_use_id": turn["tool_call_id"], "content": content}]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    uses = [
        {
            "type": "tool_use",
            "id": call["id"],
            "name": call["name"],
            "input": msgspec.json.decode(call["arguments"]),
        }
        for call in turn.get("tool_calls") or ()
    ]
    return [*map(_block, parts), *uses]


def _block(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    if "url" in part:
        return {"type": "image", "source": {"type": "url", "url": part["url"]}}
    source = {"type": "base64", "media_type": part["media_type"], "data": part["data"]}
    return {"type": "image", "source": source}


ADAPTER = AnthropicAdapter()
