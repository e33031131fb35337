"""The OpenAI chat completions wire format. Pure, no I/O. What comes back: :mod:`worker.providers.openai_stream`.

Source: the OpenAI API reference, "Chat / Create chat completion".
"""

from typing import Any, Final, get_args

from shared.providers import MaxTokensName
from worker.providers.base import About, GenerationRequest, HttpCall, Refusal
from worker.providers.openai_stream import OpenAIReader
from worker.providers.wire import decode, error_object, sentence_of

_ABOUT: Final[dict[Any, About]] = {
    "invalid_api_key": "key",
    "model_not_found": "model",
    "content_filter": "content",
    "content_policy_violation": "content",
}
"""Codes of error objects that gateways send under a status of their own."""


class OpenAIAdapter:
    """See :class:`worker.providers.base.Adapter`."""

    def call(self, request: GenerationRequest, api_key: str) -> HttpCall:
        """``POST /chat/completions`` that asks for a stream with its usage at the end."""
        headers = {"Accept": "text/event-stream"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        # Two names of one limit: a provider that knows both refuses them together.
        limited = any(name in request.options for name in get_args(MaxTokensName))
        optional: dict[str, Any] = {
            request.max_tokens_name: None if limited else request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": request.stop or None,
            "tools": [{"type": "function", "function": tool} for tool in request.tools] or None,
        }
        messages = [_message(turn) for turn in request.messages]
        if request.prefix:
            messages.append({"role": "assistant", "content": request.prefix})
            if request.continues == "vllm":
                optional |= {"continue_final_message": True, "add_generation_prompt": False}
        body = {
            "model": request.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in optional.items() if value is not None},
            **request.options,
        }
        return HttpCall("/chat/completions", headers, body)

    def reader(self, request: GenerationRequest) -> OpenAIReader:
        return OpenAIReader()

    def refusal(self, body: bytes) -> Refusal:
        """The sentence, and what it is about where the error's ``code`` is a known one."""
        code = error_object(decode(body)).get("code")
        return Refusal(sentence_of(body), _ABOUT.get(code, "") if isinstance(code, str) else "")


def _message(turn: dict[str, Any]) -> dict[str, Any]:
    if turn["role"] == "tool":
        return {name: turn[name] for name in ("role", "tool_call_id", "content")}
    message = {"role": turn["role"], "content": turn.get("content")}
    if isinstance(message["content"], list):
        message["content"] = [_part(part) for part in message["content"]]
    if calls := turn.get("tool_calls"):
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls
        ]
    return message


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    url = part.get("url") or f"data:{part['media_type']};base64,{part['data']}"
    return {"type": "image_url", "image_url": {"url": url}}


ADAPTER = OpenAIAdapter()
