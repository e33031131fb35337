"""The Anthropic messages wire format: requests. Pure, no I/O. For answers see
:mod:`worker.providers.formats.anthropic_stream`.

Source: the Anthropic API reference, "Messages" (``POST /v1/messages``), "Extended thinking", "Adaptive thinking"
and "Structured outputs". In this format ``system`` is separate from the messages, the user's and the assistant's
turns alternate, and the results of tools are blocks at the start of the user's next turn.
"""

from typing import Any, Final

from shared.config.capabilities import MIN_BUDGET, claude
from worker.providers.base import GenerationRequest, HttpCall
from worker.providers.formats.anthropic_stream import AnthropicReader
from worker.providers.formats.history import (
    arguments_object,
    call_id,
    called_name,
    is_own,
    parts_of,
    signature_in,
    text_in,
)

VERSION: Final = "2023-06-01"
DEFAULT_MAX_TOKENS: Final = 8192
"""Anthropic requires a limit in every request. If the caller gives none, it is this limit plus the budget of
thinking, which every model since Claude 3.5 accepts. An answer that reaches it ends with ``length``."""
BUDGETS: Final = {"minimal": MIN_BUDGET, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 23000, "max": 23000}
"""Tokens of thinking for each effort, for models that accept only a budget. With the default above, the largest
stays within 32,000, the most tokens of an answer of Claude Opus 4."""


class AnthropicAdapter:
    """See :class:`worker.providers.base.Adapter`."""

    def call(self, request: GenerationRequest, api_key: str) -> HttpCall:
        """``POST /messages`` for a stream."""
        quirks = request.quirks
        headers = {
            "Accept": "text/event-stream",
            "anthropic-version": VERSION,
            **quirks.key_header("x-api-key", api_key),
        }
        system, messages = _conversation(request)
        thinking, effort = _thinking(request)
        budget = request.options.get("thinking", thinking)
        room = budget.get("budget_tokens", 0) if isinstance(budget, dict) else 0
        optional: dict[str, Any] = {
            "system": system or None,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop_sequences": request.stop or None,
            "tools": [_tool(tool) for tool in request.tools] or None,
            "tool_choice": _choice(request),
            "thinking": thinking,
            "output_config": {**effort, **_format(request)} or None,
            "metadata": {"user_id": request.user} if request.user else None,
        }
        body = {
            "model": request.model,
            "messages": messages,
            "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS + (room if isinstance(room, int) else 0),
            "stream": True,
            **{name: value for name, value in optional.items() if value is not None},
            **request.options,
        }
        return HttpCall(f"/messages{quirks.query}", headers, body)

    def reader(self, request: GenerationRequest) -> AnthropicReader:
        return AnthropicReader(at_seam=_sent_prefix(request) != request.prefix)


def _sent_prefix(request: GenerationRequest) -> str:
    """The prefix without white space at its end, which Anthropic refuses (see :class:`AnthropicReader`)."""
    return request.prefix.rstrip()


def _thinking(request: GenerationRequest) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The fields ``thinking`` and ``output_config`` for the request's effort or budget."""
    reasoning = request.reasoning or {}
    effort = reasoning.get("effort")
    # With thinking an answer can't be continued.
    if request.prefix or effort == "none" or not reasoning:
        return None, {}
    version = claude(request.model)
    if effort is None:
        return {"type": "enabled", "budget_tokens": reasoning["budget_tokens"]}, {}
    if version is None or version.thinks_by_effort:
        return {"type": "adaptive"}, {"effort": "low" if effort == "minimal" else effort}
    budget = BUDGETS[effort]
    if request.max_tokens is not None:  # some of these tokens must be left for the answer
        budget = max(MIN_BUDGET, min(budget, request.max_tokens * 4 // 5))
    return {"type": "enabled", "budget_tokens": budget}, {}


def _format(request: GenerationRequest) -> dict[str, Any]:
    response_format = request.response_format or {}
    if response_format.get("type") != "json_schema":
        return {}
    return {"format": {"type": "json_schema", "schema": response_format["json_schema"]["schema"]}}


def _choice(request: GenerationRequest) -> dict[str, Any] | None:
    choice, alone = request.tool_choice, request.parallel_tool_calls is False
    if choice is None and not (alone and request.tools):
        return None
    if isinstance(choice, dict):
        told = {"type": "tool", "name": choice["name"]}
    else:
        told = {"type": {"required": "any", None: "auto"}.get(choice, choice)}
    return told | ({"disable_parallel_tool_use": True} if alone and choice != "none" else {})


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if "type" in tool:
        return tool
    return {("input_schema" if name == "parameters" else name): value for name, value in tool.items()}


def _conversation(request: GenerationRequest) -> tuple[str | list[dict[str, Any]], list[dict[str, Any]]]:
    """Out: the system prompt (several are joined; as blocks if one has a cache hint) and the messages. The prefix
    is the beginning of the answer."""
    system: list[Any] = []
    messages: list[dict[str, Any]] = []
    prefix = _sent_prefix(request)
    said = [*request.messages, {"role": "assistant", "content": prefix}] if prefix else request.messages
    for turn in said:
        if turn["role"] in ("system", "developer"):
            system.append(_text_of(turn["content"]))
            continue
        role = "assistant" if turn["role"] == "assistant" else "user"
        blocks = _blocks(turn, request)
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": role, "content": blocks})
    if any(isinstance(one, list) for one in system):
        return [block for one in system for block in _as_blocks(one)], messages
    return "\n\n".join(system), messages


def _text_of(content: str | list[dict[str, Any]]) -> Any:
    """A system prompt as text; as blocks if a part of it has a cache hint."""
    if isinstance(content, list) and any("cache_control" in part for part in content):
        return [_block(part) for part in content]
    return text_in(content)


def _as_blocks(content: Any) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _blocks(turn: dict[str, Any], request: GenerationRequest) -> list[dict[str, Any]]:
    content = turn.get("content") or []
    if turn["role"] == "tool":
        result = content if isinstance(content, str) else [_block(part) for part in content]
        return [{"type": "tool_result", "tool_use_id": call_id("plain", turn["tool_call_id"]), "content": result}]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if turn["role"] == "user":
        return [_block(part) for part in parts]
    # Anthropic refuses a text of only white space in the assistant's turn.
    own = is_own(turn, request)
    said = [_block(part) for part in parts if (own and _is_signed(part)) or part.get("text", "").strip()]
    uses = [
        {
            "type": "tool_use",
            "id": call_id("plain", call["id"]),
            "name": called_name(call["name"]),
            "input": arguments_object(call),
        }
        for call in turn.get("tool_calls") or ()
    ]
    thought = [] if any(map(_is_signed, said)) else _thought(turn, request)
    return [*thought, *said, *uses]


def _is_signed(part: dict[str, Any]) -> bool:
    return part["type"] == "redacted_thinking" or (part["type"] == "thinking" and bool(part.get("signature")))


def _thought(turn: dict[str, Any], request: GenerationRequest) -> list[dict[str, Any]]:
    """The blocks of thinking, and of tools that Anthropic ran, which the record kept, in their order. If it kept
    only one signature, that signed the reasoning. With several signatures it is unknown what each of them
    signed."""
    blocks: list[dict[str, Any]] = []
    bare: list[str] = []
    # Anthropic refuses a tool's use without its result, or without its tool.
    of_server = any("type" in tool for tool in request.tools)
    ids = [_server_ids(kind, data) for kind, data in parts_of(turn, request) if of_server]
    paired = {used for used, _ in ids} & {answered for _, answered in ids}
    for kind, data in parts_of(turn, request):
        signature = signature_in(data)
        if kind == "redacted_thinking":
            secret = data.get("data") if isinstance(data, dict) else data
            if isinstance(secret, str):
                blocks.append({"type": "redacted_thinking", "data": secret})
        elif kind == "thinking" and signature and isinstance(data.get("thinking"), str):
            blocks.append({"type": "thinking", "thinking": data["thinking"], "signature": signature})
        elif kind in ("signature", "signature_delta", "thinking") and signature:
            bare.append(signature)
        elif any(one and one in paired for one in _server_ids(kind, data)):
            blocks.append({"type": kind, **{name: value for name, value in data.items() if name != "index"}})
    if len(bare) == 1 and not any(block["type"] == "thinking" for block in blocks):
        blocks.insert(0, {"type": "thinking", "thinking": turn.get("reasoning", ""), "signature": bare[0]})
    return blocks


def _server_ids(kind: str, data: Any) -> tuple[str, str]:
    """Two ids: of the use, if the part is the use of a tool that Anthropic ran; and of the use that it answers, if
    it is a result. '' if not."""
    if not isinstance(data, dict):
        return "", ""
    used = data.get("id") if kind == "server_tool_use" else ""
    answered = data.get("tool_use_id") if kind.endswith("_tool_result") else ""
    return (used if isinstance(used, str) else ""), (answered if isinstance(answered, str) else "")


def _block(part: dict[str, Any]) -> dict[str, Any]:
    hint = {"cache_control": part["cache_control"]} if "cache_control" in part else {}
    match part["type"]:
        case "text":
            return {"type": "text", "text": part["text"], **hint}
        case "image" if "url" in part:
            return {"type": "image", "source": {"type": "url", "url": part["url"]}, **hint}
        case "image":
            source = {"type": "base64", "media_type": part["media_type"], "data": part["data"]}
            return {"type": "image", "source": source, **hint}
    return part


ADAPTER = AnthropicAdapter()
