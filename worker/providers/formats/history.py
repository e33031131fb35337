"""What of a conversation's history goes to a provider, and in which form: the same for all wire formats. Pure, no
I/O.

Theory of operation. A conversation may have been made by several providers, and by models that do not always keep
to their format. Three things are put right on the way out, so that no provider refuses what another one said:

- *Ids of calls*: an id that does not fit the provider becomes a hash of itself, and so does the id in the tool's
  turn that answers it: the two still name each other, and a repeated request is the same request.
- *Names and arguments*: what is no name becomes one, and arguments that are no JSON object go along as the text of
  one, ``{"arguments": …}``: the model sees what it wrote.
- *What only its maker understands* (signatures, encrypted reasoning) goes back to its maker. A turn that names its
  ``provider`` gives it to that one alone; without a name each part goes to the wire format whose word it is.
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
    """The id of a call as this form of ids takes it: as it is where it fits, else a hash of it."""
    if form == "none" or _FITS[form].fullmatch(given):
        return given
    made = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
    return made[:9] if form == "nine" else f"call_{made[:24]}"


def called_name(name: str) -> str:
    """What a model called, as a name that all providers take."""
    return name if _NAME.fullmatch(name) else _NO_NAME.sub("_", name)[:64]


def arguments_object(call: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments as an object, whatever text the model made."""
    text = call["arguments"]
    try:
        found = _arguments.decode(text)
        for _ in levels(found):
            pass
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
        return {"arguments": text} if text.strip() else {}
    return found


def arguments_text(call: dict[str, Any]) -> str:
    """The same as text: as it came where it is an object."""
    found = arguments_object(call)
    kept = found != {"arguments": call["arguments"]} and call["arguments"].strip()
    return call["arguments"] if kept else msgspec.json.encode(found).decode()


def is_own(turn: dict[str, Any], request: GenerationRequest) -> bool:
    """Whether the provider that is asked may have made this turn."""
    return turn.get("provider") in (None, request.provider)


def is_surely_own(turn: dict[str, Any], request: GenerationRequest) -> bool:
    """Whether the turn says so."""
    return bool(request.provider) and turn.get("provider") == request.provider


def parts_of(turn: dict[str, Any], request: GenerationRequest) -> Iterator[tuple[str, Any]]:
    """The type and data of each part that only a provider understands, where they may go back to this one."""
    if is_own(turn, request):
        for part in turn.get("provider_parts") or ():
            yield part["type"], part.get("data")


def signature_in(data: Any) -> str:
    """The signature in a part's data, under one of its names; '' where there is none."""
    if isinstance(data, dict):
        data = next((data[name] for name in _SIGNATURES if name in data), None)
    return data if isinstance(data, str) else ""


_SIGNATURES: Final = ("signature", "thoughtSignature", "thought_signature")


def call_index_in(data: Any, turn: dict[str, Any]) -> int | None:
    """Which of the turn's calls a part belongs to: by its place or its id; None where it names none."""
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
    """A turn's content as parts; text that is empty, or of a kind that goes its own way, is not among them."""
    content = turn.get("content") or []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [part for part in parts if part["type"] in ("text", "image")]


def text_in(content: str | list[dict[str, Any]]) -> str:
    """A turn's content where only text may stand, whichever way it came."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
