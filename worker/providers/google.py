"""Google's Gemini wire format. Pure, no I/O. What comes back: :mod:`worker.providers.google_stream`.

Source: the Gemini API reference, "models.streamGenerateContent" (v1beta) and "Content". There the assistant is
the ``model``, the system prompt stands beside the turns, and the results of tools are parts of a user's turn.
"""

from typing import Any, Final
from urllib.parse import quote

import msgspec

from worker.providers.base import About, GenerationRequest, HttpCall, Refusal
from worker.providers.google_stream import GoogleReader
from worker.providers.wire import decode, error_object, sentence_of, text_in

_CONFIG: Final = "generationConfig"


class GoogleAdapter:
    """See :class:`worker.providers.base.Adapter`."""

    def call(self, request: GenerationRequest, api_key: str) -> HttpCall:
        """``POST /models/{model}:streamGenerateContent?alt=sse``.

        The options' own ``generationConfig`` goes into the one that is asked here, name by name.
        """
        headers = {"Accept": "text/event-stream"}
        if api_key:
            headers["x-goog-api-key"] = api_key
        system, contents = _conversation(request)
        config = {
            "maxOutputTokens": request.max_tokens,
            "temperature": request.temperature,
            "topP": request.top_p,
            "stopSequences": request.stop or None,
        }
        body: dict[str, Any] = {"contents": contents}
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if request.tools:
            body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
        asked = {name: value for name, value in config.items() if value is not None}
        options = dict(request.options)
        if isinstance(options.get(_CONFIG), dict):
            asked |= options.pop(_CONFIG)
        if asked:
            body[_CONFIG] = asked
        # A caller's model is one segment of the path, whatever it holds.
        model = quote(request.model.removeprefix("models/"), safe="")
        return HttpCall(f"/models/{model}:streamGenerateContent?alt=sse", headers, body | options)

    def reader(self, request: GenerationRequest) -> GoogleReader:
        return GoogleReader()

    def refusal(self, body: bytes) -> Refusal:
        """The sentence, and whether it is about the key: a wrong one is refused with 400."""
        error = error_object(decode(body))
        details = error.get("details")
        reasons = (
            [str(one.get("reason")) for one in details if isinstance(one, dict)]
            if isinstance(details, list)
            else []
        )
        about: About = "key" if any(reason.startswith("API_KEY_") for reason in reasons) else ""
        return Refusal(sentence_of(body), about)


def _conversation(request: GenerationRequest) -> tuple[str, list[dict[str, Any]]]:
    """Out: the system prompt ('' for none; several become one) and the contents."""
    system: list[str] = []
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for turn in request.messages:
        if turn["role"] == "system":
            system.append(text_in(turn["content"]))
            continue
        names |= {call["id"]: call["name"] for call in turn.get("tool_calls") or ()}
        role = "model" if turn["role"] == "assistant" else "user"
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += _parts(turn, names)
        else:
            contents.append({"role": role, "parts": _parts(turn, names)})
    if request.prefix:
        contents.append({"role": "model", "parts": [{"text": request.prefix}]})
    return "\n\n".join(system), contents


def _parts(turn: dict[str, Any], names: dict[str, str]) -> list[dict[str, Any]]:
    content = turn.get("content") or []
    if turn["role"] == "tool":
        call = turn["tool_call_id"]
        name = turn.get("name") or names.get(call, "")
        return [{"functionResponse": {"id": call, "name": name, "response": _result(turn["content"])}}]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    calls = [
        {"functionCall": {"id": call["id"], "name": call["name"], "args": msgspec.json.decode(call["arguments"])}}
        for call in turn.get("tool_calls") or ()
    ]
    return [*map(_part, parts), *calls]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"text": part["text"]}
    media = {"mimeType": part["media_type"]} if "media_type" in part else {}
    if "url" in part:
        return {"fileData": {**media, "fileUri": part["url"]}}
    return {"inlineData": {**media, "data": part["data"]}}


def _result(content: str) -> dict[str, Any]:
    """A result has to be an object here; one that is none becomes its ``result``."""
    value = decode(content)
    return value if isinstance(value, dict) else {"result": content}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {("parametersJsonSchema" if name == "parameters" else name): value for name, value in tool.items()}


ADAPTER = GoogleAdapter()
