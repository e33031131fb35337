"""The OpenAI chat completions wire format: requests. Pure, no I/O. For answers see
:mod:`worker.providers.formats.openai_stream`.

Source: the OpenAI API reference, "Chat / Create chat completion", and the documentation of each provider that
speaks the format (``source`` in shared/config/providers.toml). Their differences are in
:class:`shared.config.providers.Quirks`.
"""

from typing import Any

from worker.providers.base import GenerationRequest, HttpCall
from worker.providers.formats.history import (
    arguments_text,
    call_id,
    call_index_in,
    called_name,
    is_own,
    is_surely_own,
    parts_of,
    text_in,
    texts_of,
)
from worker.providers.formats.openai_stream import OpenAIReader


class OpenAIAdapter:
    """See :class:`worker.providers.base.Adapter`."""

    def call(self, request: GenerationRequest, api_key: str) -> HttpCall:
        """``POST /chat/completions`` for a stream with its usage at the end."""
        quirks = request.quirks
        headers = {"Accept": "text/event-stream", **quirks.key_header("bearer", api_key)}
        optional: dict[str, Any] = {
            quirks.max_tokens_name: request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": request.stop or None,
            "tools": [_tool(tool, cached=quirks.cache_control) for tool in request.tools] or None,
            "tool_choice": _choice(request),
            "parallel_tool_calls": request.parallel_tool_calls,
            "response_format": request.response_format,
            quirks.seed_name: request.seed,
            "user": request.user,
            **_reasoning(request),
            "stream_options": {"include_usage": True} if quirks.stream_usage else None,
        }
        custom = {name for tool in request.tools if (name := _custom_name(tool))}
        messages = [message for turn in request.messages if (message := _message(turn, request, custom))]
        if request.prefix:
            messages.append({"role": "assistant", "content": request.prefix})
            if request.continues == "vllm":
                optional |= {"continue_final_message": True, "add_generation_prompt": False}
        body = {
            "model": request.model,
            "messages": messages,
            "stream": True,
            **{name: value for name, value in optional.items() if value is not None},
            **request.options,
        }
        return HttpCall(f"/chat/completions{quirks.query}", headers, body)

    def reader(self, request: GenerationRequest) -> OpenAIReader:
        return OpenAIReader()


def _reasoning(request: GenerationRequest) -> dict[str, Any]:
    reasoning = request.reasoning
    if not reasoning:
        return {}
    effort = reasoning.get("effort")
    match request.quirks.reasoning:
        case "object":
            return {"reasoning": {"effort": effort} if effort else {"max_tokens": reasoning.get("budget_tokens")}}
        case "thinking" if effort == "none":
            return {"thinking": {"type": "disabled"}}
        case "thinking":
            return {"thinking": {"type": "enabled"}, "reasoning_effort": effort}
    return {"reasoning_effort": effort}


def _choice(request: GenerationRequest) -> Any:
    choice = request.tool_choice
    if not isinstance(choice, dict):
        return choice
    kind = "custom" if choice["name"] in map(_custom_name, request.tools) else "function"
    return {"type": kind, kind: {"name": choice["name"]}}


def _custom_name(tool: dict[str, Any]) -> str | None:
    """The name of a custom tool, whose input is any text; None for other tools."""
    custom = tool.get("custom") if tool.get("type") == "custom" else None
    return custom.get("name") if isinstance(custom, dict) else None


def _tool(tool: dict[str, Any], *, cached: bool) -> dict[str, Any]:
    if "type" in tool:
        return tool
    function = {name: value for name, value in tool.items() if name != "cache_control"}
    return {"type": "function", "function": function, **(_hint(tool) if cached else {})}


def _hint(part: dict[str, Any]) -> dict[str, Any]:
    return {"cache_control": part["cache_control"]} if "cache_control" in part else {}


def _message(turn: dict[str, Any], request: GenerationRequest, custom: set[str]) -> dict[str, Any] | None:
    """One message; None for a turn that is empty in this format."""
    quirks, role = request.quirks, turn["role"]
    if role == "assistant":
        return _assistant(turn, request, custom)
    if role == "tool":
        message: dict[str, Any] = {"role": role, "tool_call_id": call_id(quirks.call_ids, turn["tool_call_id"])}
    else:
        message = {"role": "system" if role == "developer" and not quirks.developer else role}
    content = turn["content"]
    if isinstance(content, list):
        hinted = quirks.cache_control and any("cache_control" in part for part in content)
        # Every server of this format accepts parts in the user's turns, but not in others.
        as_text = role != "user" and not hinted
        content = text_in(content) if as_text else [_part(part, cached=quirks.cache_control) for part in content]
    return {**message, "content": content}


def _assistant(turn: dict[str, Any], request: GenerationRequest, custom: set[str]) -> dict[str, Any] | None:
    # As text: not every server of this format accepts parts here.
    text = "".join(part["text"] for part in texts_of(turn))
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    calls = turn.get("tool_calls") or []
    if calls:
        message["tool_calls"] = [_call(call, request, custom) for call in calls]
    elif not text:
        return None
    return message | _returned(turn, request, message.get("tool_calls", []))


def _call(call: dict[str, Any], request: GenerationRequest, custom: set[str]) -> dict[str, Any]:
    known = {"id": call_id(request.quirks.call_ids, call["id"])}
    if call["name"] in custom:
        return {**known, "type": "custom", "custom": {"name": call["name"], "input": call["arguments"]}}
    function = {"name": called_name(call["name"]), "arguments": arguments_text(call)}
    return {**known, "type": "function", "function": function}


def _returned(turn: dict[str, Any], request: GenerationRequest, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields that the turn's maker wants back. Fields that belong to a call are put into that call."""
    if not is_own(turn, request):
        return {}
    quirks = request.quirks
    back: dict[str, Any] = {}
    if quirks.reasoning_back and turn.get("reasoning"):
        back[quirks.reasoning_back] = turn["reasoning"]
    # Another provider of this format may have added fields that are unknown to this one.
    extras = is_surely_own(turn, request) or not quirks.strict
    details: list[Any] = []
    for kind, data in parts_of(turn, request):
        if kind == "reasoning_details" and (quirks.reasoning_details or is_surely_own(turn, request)):
            details += data if isinstance(data, list) else [data]
        elif kind == "extra_content" and isinstance(data, dict) and calls and extras:
            index = call_index_in(data, turn) or 0
            calls[index]["extra_content"] = {
                name: value for name, value in data.items() if name not in ("index", "tool_call")
            }
    if details:
        back["reasoning_details"] = details
    for call, told in zip(calls, turn.get("tool_calls") or (), strict=True):
        if extras and told.get("extra_content"):
            call["extra_content"] = told["extra_content"]
    return back


def _part(part: dict[str, Any], *, cached: bool) -> dict[str, Any]:
    hint = _hint(part) if cached else {}
    if part["type"] == "text":
        return {"type": "text", "text": part["text"], **hint}
    url = part.get("url") or f"data:{part['media_type']};base64,{part['data']}"
    detail = {"detail": part["detail"]} if "detail" in part else {}
    return {"type": "image_url", "image_url": {"url": url, **detail}, **hint}


ADAPTER = OpenAIAdapter()
