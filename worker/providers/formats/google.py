"""Google's Gemini wire format: requests. Pure, no I/O. For answers see
:mod:`worker.providers.formats.google_stream`.

Source: the Gemini API reference, "models.streamGenerateContent" (v1beta) and "Content", and "Thought signatures".
In this format the assistant is the ``model``, the system prompt is separate from the turns, and the results of
tools are parts of a user's turn.
"""

from typing import Any, Final
from urllib.parse import quote

from shared.config.capabilities import is_old_gemini, needs_signatures
from worker.providers.base import GenerationRequest, HttpCall
from worker.providers.formats.google_stream import GoogleReader
from worker.providers.formats.history import (
    arguments_object,
    call_id,
    call_index_in,
    called_name,
    is_own,
    parts_of,
    signature_in,
    text_in,
    texts_of,
)
from worker.providers.formats.reader import decode

_CONFIG: Final = "generationConfig"
BUDGETS: Final = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
"""Tokens of thinking for each effort, for a Gemini before 3: the mapping of Google's API in OpenAI's format."""
LEVELS: Final = {"xhigh": "high", "max": "high"}
"""Efforts that have another name in Gemini 3."""
UNSIGNED: Final = "skip_thought_signature_validator"
"""Sent instead of a signature for calls that another model made, because Gemini 3 refuses calls without any.
Source: "Thought signatures", on history that was made elsewhere."""


class GoogleAdapter:
    """See :class:`worker.providers.base.Adapter`."""

    def call(self, request: GenerationRequest, api_key: str) -> HttpCall:
        """``POST /models/{model}:streamGenerateContent?alt=sse``.

        The fields of a ``generationConfig`` in the options override those that are set here.
        """
        headers = {"Accept": "text/event-stream", **request.quirks.key_header("x-goog-api-key", api_key)}
        system, contents = _conversation(request)
        config = {
            "maxOutputTokens": request.max_tokens,
            "temperature": request.temperature,
            "topP": request.top_p,
            "stopSequences": request.stop or None,
            "seed": request.seed,
            "thinkingConfig": _thinking(request),
            **_format(request),
        }
        body: dict[str, Any] = {"contents": contents}
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if request.tools:
            body["tools"] = _tools(request.tools)
        if request.tool_choice is not None:
            body["toolConfig"] = {"functionCallingConfig": _choice(request.tool_choice)}
        given = {name: value for name, value in config.items() if value is not None}
        options = dict(request.options)
        if isinstance(options.get(_CONFIG), dict):
            given |= options.pop(_CONFIG)
        if given:
            body[_CONFIG] = given
        # The caller's model must stay one segment of the path, with any characters.
        model = quote(request.model.removeprefix("models/"), safe="")
        return HttpCall(f"/models/{model}:streamGenerateContent?alt=sse", headers, body | options)

    def reader(self, request: GenerationRequest) -> GoogleReader:
        return GoogleReader()


def _thinking(request: GenerationRequest) -> dict[str, Any] | None:
    reasoning = request.reasoning
    if not reasoning:
        return None
    effort = reasoning.get("effort")
    if effort is None:
        return {"includeThoughts": True, "thinkingBudget": reasoning["budget_tokens"]}
    if is_old_gemini(request.model):
        return {"includeThoughts": effort != "none", "thinkingBudget": BUDGETS[effort]}
    return {"includeThoughts": True, "thinkingLevel": LEVELS.get(effort, effort)}


def _format(request: GenerationRequest) -> dict[str, Any]:
    response_format = request.response_format or {}
    match response_format.get("type"):
        case "json_object":
            return {"responseMimeType": "application/json"}
        case "json_schema":
            schema = response_format["json_schema"]["schema"]
            return {"responseMimeType": "application/json", "responseJsonSchema": schema}
    return {}


def _choice(choice: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(choice, dict):
        return {"mode": "ANY", "allowedFunctionNames": [choice["name"]]}
    return {"mode": {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice]}


def _conversation(request: GenerationRequest) -> tuple[str, list[dict[str, Any]]]:
    """Out: the system prompt ('' for none; several are joined) and the contents."""
    system: list[str] = []
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for turn in request.messages:
        if turn["role"] in ("system", "developer"):
            system.append(text_in(turn["content"]))
            continue
        names |= {call["id"]: call["name"] for call in turn.get("tool_calls") or ()}
        role = "model" if turn["role"] == "assistant" else "user"
        parts = _parts(turn, names, request)
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    if request.prefix:
        contents.append({"role": "model", "parts": [{"text": request.prefix}]})
    return "\n\n".join(system), contents


def _parts(turn: dict[str, Any], names: dict[str, str], request: GenerationRequest) -> list[dict[str, Any]]:
    said = [_part(part) for part in texts_of(turn)]
    if turn["role"] == "tool":
        call = turn["tool_call_id"]
        name = called_name(turn.get("name") or names.get(call, ""))
        texts = "".join(part.get("text", "") for part in said)
        images = [part for part in said if "text" not in part]
        return [{"functionResponse": {**_id(call, request), "name": name, "response": _result(texts)}}, *images]
    calls = [
        {
            "functionCall": {
                **_id(call["id"], request),
                "name": called_name(call["name"]),
                "args": arguments_object(call),
            }
        }
        for call in turn.get("tool_calls") or ()
    ]
    if turn["role"] == "assistant":
        _sign(turn, said, calls, request)
    return [*said, *calls]


def _id(given: str, request: GenerationRequest) -> dict[str, str]:
    form = request.quirks.call_ids
    return {} if form == "none" else {"id": call_id(form, given)}


def _sign(
    turn: dict[str, Any], said: list[dict[str, Any]], calls: list[dict[str, Any]], request: GenerationRequest
) -> None:
    """Put each signature onto the part that it came with: the call that it names, else the last text, else the
    first call."""
    own = is_own(turn, request)
    for call, told in zip(calls, turn.get("tool_calls") or (), strict=True):
        extra = (told.get("extra_content") or {}).get("google")
        if own and (signature := told.get("thought_signature") or signature_in(extra)):
            call["thoughtSignature"] = signature
    for kind, data in parts_of(turn, request):
        if kind == "extra_content" and isinstance(data, dict):
            signature = signature_in(data.get("google"))
        else:
            signature = signature_in(data) if kind in ("thoughtSignature", "thought_signature") else ""
        if not signature:
            continue
        index = call_index_in(data, turn)
        if index is not None:
            calls[index].setdefault("thoughtSignature", signature)
        elif target := (said[-1:] or calls[:1]):
            target[0].setdefault("thoughtSignature", signature)
    signed = any("thoughtSignature" in call for call in calls)
    if calls and not signed and needs_signatures(request.model):
        calls[0]["thoughtSignature"] = UNSIGNED


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"text": part["text"]}
    media = {"mimeType": part["media_type"]} if "media_type" in part else {}
    if "url" in part:
        return {"fileData": {**media, "fileUri": part["url"]}}
    return {"inlineData": {**media, "data": part["data"]}}


def _result(content: str) -> dict[str, Any]:
    """A tool's result, which must be an object in this format. Anything else becomes its ``result`` field."""
    value = decode(content)
    return value if isinstance(value, dict) else {"result": content}


def _tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All functions are in one object. Each of Google's own tools is a field of a separate object."""
    functions = [_tool(tool) for tool in tools if "type" not in tool]
    others = [
        {tool["type"]: {name: value for name, value in tool.items() if name != "type"}}
        for tool in tools
        if "type" in tool
    ]
    return [*([{"functionDeclarations": functions}] if functions else ()), *others]


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in tool.items() if name not in ("strict", "cache_control")}
    return {("parametersJsonSchema" if name == "parameters" else name): value for name, value in known.items()}


ADAPTER = GoogleAdapter()
