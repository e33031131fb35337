"""The request of OpenAI's Responses: a body in, :class:`api.schemas.requests.CreateStream` and what is told of the
request again out.

Theory of operation. ``input`` is text, or a list of *items*: messages, function calls and their outputs, reasoning.
Clients send back the items of an answer as they came, with fields that only they know. So the known fields of an
item are taken, and all others are dropped. Items that follow one another and are the assistant's become one turn.
The history of ``previous_response_id`` is items, too: what that response was asked, and what it said.

What changes the meaning of an answer and can't be honoured is refused; what changes nothing (tiers, caches) is
passed over; a field that is not known is refused, because it may be a typing mistake.
"""

import binascii
import contextlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from fastapi.exceptions import RequestValidationError

from api.schemas.foreign import FieldPath, Refused, refuse, validated, while_read, wrong
from api.schemas.messages import NO_PARAMETERS, check_json, check_kept
from api.schemas.requests import CreateStream

MAX_METADATA: Final = 16
MAX_METADATA_KEY: Final = 64
MAX_METADATA_VALUE: Final = 512
"""OpenAI's own limits."""
MAX_ITEMS: Final = 5000
"""A turn may be several items."""

ASKED: Final = "responses"
"""The name of this protocol's part in the record's field ``asked``."""
UNASKED: Final[Mapping[str, Any]] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""The fields of its request that a response repeats, with the values for a request that leaves them out."""

_AS_THEY_ARE: Final = (
    "model",
    "temperature",
    "top_p",
    "user",
    "tool_choice",
    "parallel_tool_calls",
    "fallbacks",
    "provider_options",
)
_NAMES: Final = {"max_tokens": "max_output_tokens", "messages": "input", "response_format": "text"}
"""Fields of a stream's request, and what they are called here."""
_PASSED_OVER: Final = frozenset(
    {
        "include",
        "max_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "truncation",
        "top_logprobs",
    }
)
_KNOWN: Final = frozenset(
    {
        *_AS_THEY_ARE,
        *_PASSED_OVER,
        *("input", "instructions", "max_output_tokens", "metadata", "previous_response_id", "reasoning"),
        *("background", "store", "stream", "text", "tools"),
    }
)
_REFUSED: Final[Refused] = {
    "conversation": ("there are no conversations here yet: send previous_response_id, or the items themselves", ()),
    "prompt": ("there are no stored prompts here: send instructions and input", ()),
    "context_management": ("it can't be honoured: leave it out", ()),
    "moderation": ("it can't be honoured: leave it out", ()),
    "truncation": ("nothing is cut out of an input: leave it out", ("disabled",)),
    "service_tier": ("there are no tiers here: leave it out", ("auto", "default")),
    "top_logprobs": ("they are not kept: leave it out", (0,)),
}


class ResponseRequest(NamedTuple):
    """What is asked, and how the caller reads it. ``told``: what the response tells of its request; ``items``: all
    that is said to the model, but for the instructions."""

    asked: CreateStream
    stream: bool
    background: bool
    told: dict[str, Any]
    items: list[dict[str, Any]]

    @property
    def keeps(self) -> dict[str, Any]:
        """Fields of the record."""
        return {"asked": {ASKED: self.told}, **({"input": self.items} if self.told["store"] else {})}


def previous_response(body: Any) -> str | None:
    """The id of the response that a body goes on with; None for none. Raises ``RequestValidationError``."""
    if not isinstance(body, dict):
        raise _wrong("", "send a JSON object", kind="model_type")
    previous = body.get("previous_response_id")
    if previous is not None and body.get("conversation") is not None:
        raise _wrong("previous_response_id", "it can't stand beside conversation: send one of the two")
    if not isinstance(previous, str | None):
        raise _wrong("previous_response_id", "Input should be a string")
    return previous


def response_request(
    body: Mapping[str, Any], history: Sequence[Mapping[str, Any]], grace_s: float
) -> ResponseRequest:
    """Read a body. ``history``: items in front of its own; ``grace_s``: how long the generation goes on without its
    caller.

    Raises ``RequestValidationError``, whose places are the request's own fields.
    """
    sent = {name: value for name, value in body.items() if value is not None}
    _refuse(sent)
    background, stream, store = (_flag(sent, name, name == "store") for name in ("background", "stream", "store"))
    if background and not store:
        raise _wrong("store", "a background response is read later: leave store out, or send true")
    _check_kept([*history, *(sent["input"] if isinstance(sent.get("input"), list) else ())])
    items = [*map(dict, history), *_items(sent.get("input", []))]
    instructions = _text(sent, "instructions")
    text, tools = _object(sent, "text"), _tools(sent.get("tools", []))
    reasoning = _object(sent, "reasoning")
    wanted: dict[str, Any] = {name: sent[name] for name in _AS_THEY_ARE if name in sent}
    if not tools:
        wanted.pop("parallel_tool_calls", None)
    effort = reasoning.get("effort")
    fields = {
        **wanted,
        "messages": list(turns(instructions, items)),
        **({"max_tokens": sent["max_output_tokens"]} if "max_output_tokens" in sent else {}),
        **({"tools": [_without_nulls(tool) for tool in tools]} if tools else {}),
        **_format(text),
        **({"reasoning": {"effort": effort}} if effort is not None else {}),
        "on_failure": "continue_or_fail",
        **({} if background else while_read(grace_s)),
    }
    asked = validated(CreateStream, fields, {}, _field)
    told = {
        **UNASKED,
        **{name: sent[name] for name in UNASKED if name in sent},
        "metadata": _metadata(sent.get("metadata", {})),
        "tools": [{"type": "function", **tool} for tool in tools],
        "text": {"format": {"type": "text"}, **text},
        "reasoning": {"effort": effort, "summary": reasoning.get("summary")},
        "background": background,
        "store": store,
    }
    for name, value in told.items():
        try:
            check_json(value)
        except ValueError as error:
            raise _wrong(name, str(error)) from None
    return ResponseRequest(asked, stream, background, told, items)


def _refuse(sent: Mapping[str, Any]) -> None:
    refuse({}, sent, _REFUSED)
    for name in sent:
        if name not in _KNOWN:
            raise _wrong(name, "there is no such field: leave it out", kind="extra_forbidden")
    include = sent.get("include", [])
    if not isinstance(include, list):
        raise _wrong("include", "Input should be a list")
    if "message.output_text.logprobs" in include:
        raise _wrong("include", "logprobs are not kept: leave them out")


def _field(place: FieldPath) -> FieldPath:
    """The field of the body that a field of a stream's request comes from."""
    return tuple(_NAMES.get(str(part), part) for part in place[:1])


def _format(text: Mapping[str, Any]) -> dict[str, Any]:
    """``text.format`` as ``response_format``."""
    wanted = text.get("format")
    if wanted is None:
        return {}
    if not isinstance(wanted, dict):
        raise _wrong("text.format", "Input should be an object")
    rest = {name: value for name, value in wanted.items() if name != "type" and value is not None}
    shape = {"type": wanted.get("type")}
    if wanted.get("type") == "text":
        return {}
    return {"response_format": {**shape, "json_schema": rest} if rest else shape}


def _tools(sent: Any) -> list[dict[str, Any]]:
    if not isinstance(sent, list):
        raise _wrong("tools", "Input should be a list")
    tools = []
    for n, tool in enumerate(sent):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise _wrong(f"tools.{n}.type", "only function tools can be given here")
        told = {name: tool.get(name) for name in ("name", "description", "parameters", "strict")}
        tools.append({**told, "parameters": told["parameters"] or NO_PARAMETERS})
    return tools


def _metadata(sent: Any) -> dict[str, str]:
    if not isinstance(sent, dict) or len(sent) > MAX_METADATA:
        raise _wrong("metadata", f"Input should be an object with at most {MAX_METADATA} fields")
    for name, value in sent.items():
        if not isinstance(value, str) or len(name) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE:
            raise _wrong(
                f"metadata.{name[:MAX_METADATA_KEY]}",
                f"a name has at most {MAX_METADATA_KEY} characters, and its value is text of at most "
                f"{MAX_METADATA_VALUE}",
            )
    return sent


def kept(provider: str, parts: Sequence[Mapping[str, Any]]) -> str:
    """``encrypted_content``: what this provider wants back."""
    return urlsafe_b64encode(msgspec.json.encode({"provider": provider, "parts": parts})).decode()


def unkept(content: str) -> tuple[str, list[Any]]:
    """The reverse of :func:`kept`: the provider and its parts; ('', []) for a text that it did not make."""
    try:
        found = msgspec.json.decode(_unpacked(content))
        return str(found["provider"]), list(found["parts"])
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        return "", []


def _unpacked(content: Any) -> bytes:
    """Raises ``ValueError`` for what is no base64, TypeError for what is no text."""
    if not isinstance(content, str):
        raise TypeError("encrypted_content is text")
    return urlsafe_b64decode(content.encode())


def _check_kept(items: Sequence[Any]) -> None:
    texts = []
    for item in items:
        with contextlib.suppress(ValueError, TypeError):
            texts.append(_unpacked(item.get("encrypted_content")) if isinstance(item, dict) else b"")
    try:
        check_kept(texts)
    except ValueError as error:
        raise _wrong("input", str(error)) from None


# -- items ------------------------------------------------------------------------------------------------


def _items(sent: Any) -> list[dict[str, Any]]:
    """An input as items, with what is known of each."""
    if isinstance(sent, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": sent}]}]
    if not isinstance(sent, list) or len(sent) > MAX_ITEMS:
        raise _wrong("input", f"Input should be text, or a list of at most {MAX_ITEMS} items")
    return [_item(f"input.{n}", item) for n, item in enumerate(sent)]


def _item(place: str, sent: Any) -> dict[str, Any]:
    if not isinstance(sent, dict):
        raise _wrong(place, "Input should be an item: an object")
    kind = sent.get("type") or ("message" if "role" in sent else None)
    item: dict[str, Any] = {"type": kind}
    match kind:
        case "message":
            item["role"] = sent.get("role")
            if item["role"] not in ("user", "assistant", "system", "developer"):
                raise _wrong(f"{place}.role", "Input should be user, assistant, system or developer")
            item["content"] = _content(f"{place}.content", sent.get("content"), item["role"])
        case "function_call":
            item |= {name: _string(place, sent, name) for name in ("call_id", "name", "arguments")}
        case "function_call_output":
            item["call_id"] = _string(place, sent, "call_id")
            output = sent.get("output")
            item["output"] = output if isinstance(output, str) else _content(f"{place}.output", output, "user")
        case "reasoning":
            item["summary"] = _texts(sent.get("summary"), "summary_text")
            if content := _texts(sent.get("content"), "reasoning_text"):
                item["content"] = content
            if isinstance(sent.get("encrypted_content"), str) and unkept(sent["encrypted_content"])[1]:
                item["encrypted_content"] = sent["encrypted_content"]
        case _:
            raise _wrong(
                f"{place}.type", f"there is no item {kind!r} here: send messages, function calls and their outputs"
            )
    if isinstance(sent.get("id"), str):
        item["id"] = sent["id"]
    return item


def _content(place: str, sent: Any, role: str) -> list[dict[str, Any]]:
    text = "output_text" if role == "assistant" else "input_text"
    if isinstance(sent, str):
        return [{"type": text, "text": sent}]
    if not isinstance(sent, list):
        raise _wrong(place, "Input should be text, or a list of parts")
    parts = []
    for n, part in enumerate(sent):
        kind = part.get("type") if isinstance(part, dict) else None
        match kind:
            case "input_text" | "output_text" | "text":
                parts.append({"type": text, "text": _string(f"{place}.{n}", part, "text")})
            case "refusal":
                parts.append({"type": "refusal", "refusal": _string(f"{place}.{n}", part, "refusal")})
            case "input_image" if isinstance(part.get("image_url"), str):
                detail = part.get("detail")
                more = {"detail": detail} if detail in ("low", "high", "auto") else {}
                parts.append({"type": kind, "image_url": part["image_url"], **more})
            case _:
                raise _wrong(
                    f"{place}.{n}.type", "Input should be input_text, output_text or input_image (by image_url)"
                )
    return parts


def _texts(sent: Any, kind: str) -> list[dict[str, str]]:
    """The texts of a reasoning item's list."""
    found = [part.get("text") for part in sent if isinstance(part, dict)] if isinstance(sent, list) else []
    return [{"type": kind, "text": text} for text in found if isinstance(text, str)]


def turns(instructions: str | None, items: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Items as the turns of a conversation; instructions stand in front of all."""
    if instructions:
        yield {"role": "system", "content": instructions}
    said: dict[str, Any] = {}
    for item in items:
        if item["type"] in ("reasoning", "function_call") or item.get("role") == "assistant":
            _say(said, item)
            continue
        if said:
            yield {"role": "assistant", **said}
            said = {}
        if item["type"] == "function_call_output":
            output = item["output"]
            content = output if isinstance(output, str) else _parts(output) or ""
            yield {"role": "tool", "tool_call_id": item["call_id"], "content": content}
        else:
            yield {"role": item["role"], "content": _parts(item["content"])}
    if said.keys() - {"reasoning", "provider_parts", "provider"}:
        yield {"role": "assistant", **said}


def _say(said: dict[str, Any], item: Mapping[str, Any]) -> None:
    """Add one of the assistant's items to its turn."""
    match item["type"]:
        case "message":
            said.setdefault("content", []).extend(_parts(item["content"]))
        case "function_call":
            call = {"id": item["call_id"], "name": item["name"], "arguments": item["arguments"]}
            said.setdefault("tool_calls", []).append(call)
        case "reasoning":
            text = "".join(part["text"] for part in (*item.get("summary", ()), *item.get("content", ())))
            if text:
                said["reasoning"] = said.get("reasoning", "") + text
            provider, parts = unkept(item.get("encrypted_content", ""))
            if parts and said.get("provider", provider) == provider:
                said["provider"] = provider
                said.setdefault("provider_parts", []).extend(parts)


def _parts(content: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": part["refusal"]} if part["type"] == "refusal" else dict(part)
        for part in content
        if part.get("text") != ""
    ]


# -- fields -----------------------------------------------------------------------------------------------


def _flag(sent: Mapping[str, Any], name: str, default: bool) -> bool:
    value = sent.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(name, "Input should be true or false")
    return value


def _text(sent: Mapping[str, Any], name: str) -> str | None:
    value = sent.get(name)
    if not isinstance(value, str | None):
        raise _wrong(name, "Input should be text")
    return value


def _object(sent: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = sent.get(name, {})
    if not isinstance(value, dict):
        raise _wrong(name, "Input should be an object")
    return value


def _string(place: str, sent: Mapping[str, Any], name: str) -> str:
    value = sent.get(name)
    if not isinstance(value, str):
        raise _wrong(f"{place}.{name}", "Input should be text")
    return value


def _without_nulls(sent: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sent.items() if value is not None}


def _wrong(field: str, why: str, kind: str = "value_error") -> RequestValidationError:
    return wrong({}, *((field,) if field else ()), why=why, kind=kind)
