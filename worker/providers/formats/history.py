"""How a conversation's history goes to a provider: the rules that all wire formats share. Pure, no I/O.

Theory of operation. A conversation may have been made by several providers, and by models that do not always keep
to their format. Three things are corrected on the way out, so that no provider refuses what another one said:

- *Ids of calls*: an id that does not fit the provider is replaced by its hash, also in the tool's turn that answers
  it. So the two still match, and a repeated request is identical.
- *Names and arguments*: an invalid name is made valid. Arguments that are not a JSON object are sent as the text in
  one, ``{"arguments": …}``, so the model sees what it wrote.
- *Parts that only their maker understands* (signatures, encrypted reasoning) go back to their maker. If a turn
  names its ``provider``, only that provider gets them; if not, each part goes to the wire format that has its type.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from shared.config.providers import CallIds
from shared.protocol.json_depth import levels
from worker.providers.base import GenerationRequest

_FITS: Final[dict[CallIds, re.Pattern[str]]] = {
    "any": re.compile(r".{1,10000}", re.DOTALL),
    "short": re.compile(r".{1,40}", re.DOTALL),
    "plain": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "nine": re.compile(r"[A-Za-z0-9]{9}"),
}
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
_arguments: Final = msgspec.json.Decoder(dict[str, Any])


def call_id(form: CallIds, given: str) -> str:
    """The id of a call in this form: unchanged if it fits, else its hash."""
    if form == "none" or _FITS[form].fullmatch(given):
        return given
    made = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
    return made[:9] if form == "nine" else f"call_{made[:24]}"


def called_name(name: str) -> str:
    """The name of a called tool, in a form that all providers accept."""
    return name if _NAME.fullmatch(name) else _NO_NAME.sub("_", name)[:64]


def arguments_object(call: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments as an object, for any text that the model wrote."""
    text = call["arguments"]
    try:
        found = _arguments.decode(text)
        for _ in levels(found):
            pass
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
        return {"arguments": text} if text.strip() else {}
    return found


def arguments_text(call: dict[str, Any]) -> str:
    """The same as text: unchanged if it is an object."""
    found = arguments_object(call)
    kept = found != {"arguments": call["arguments"]} and call["arguments"].strip()
    return call["arguments"] if kept else msgspec.json.encode(found).decode()


def is_own(turn: dict[str, Any], request: GenerationRequest) -> bool:
    """Whether the provider that is asked may have made this turn."""
    return turn.get("provider") in (None, request.provider)


def is_surely_own(turn: dict[str, Any], request: GenerationRequest) -> bool:
    """Whether the turn names the provider that is asked as its maker."""
    return bool(request.provider) and turn.get("provider") == request.provider


def parts_of(turn: dict[str, Any], request: GenerationRequest) -> Iterator[tuple[str, Any]]:
    """The type and data of each part in a provider's own form, if they may go back to this provider."""
    if is_own(turn, request):
        for part in turn.get("provider_parts") or ():
            yield part["type"], part.get("data")


def signature_in(data: Any) -> str:
    """The signature in a part's data, under one of its names; '' for none."""
    if isinstance(data, dict):
        data = next((data[name] for name in _SIGNATURES if name in data), None)
    return data if isinstance(data, str) else ""


_SIGNATURES: Final = ("signature", "thoughtSignature", "thought_signature")


def call_index_in(data: Any, turn: dict[str, Any]) -> int | None:
    """The index of the turn's call that a part belongs to, found by index or id; None if it names none."""
    calls = turn.get("tool_calls") or []
    if isinstance(data, dict):
        for name in ("tool_call", "call", "index", "id", "tool_call_id"):
            named = data.get(name)
            if isinstance(named, int) and not isinstance(named, bool) and 0 <= named < len(calls):
                return named
            if isinstance(named, str):
                found = next((n for n, call in enumerate(calls) if call["id"] == named), None)
                if found is not None:
                    return found
    return None


def texts_of(turn: dict[str, Any]) -> list[dict[str, Any]]:
    """A turn's text and images as parts. Empty text, and parts of other types, are left out."""
    content = turn.get("content") or []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [part for part in parts if part["type"] in ("text", "image")]


def text_in(content: str | list[dict[str, Any]]) -> str:
    """A turn's content as text, for a place where only text is allowed."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
