"""What the wire formats have in common: numbers, error objects, and what has no word of its own. Pure.

An adapter writes down as types what an event may look like; what does not fit them is garbage, and said so.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec

from shared.events import encode_data
from shared.nesting import levels
from worker.providers.base import About, ProviderError, Said

Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Past 2**53 a browser can't count, and no answer has that many tokens."""
Index = Annotated[int, msgspec.Meta(ge=0, le=1023)]
"""No provider runs a thousand tool calls in one answer."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What decoding and encoding a stranger's JSON may raise."""

MAX_KEPT_BYTES: Final = 1024 * 1024
"""Of one answer, of what has no word: as much as a single event of a provider may hold. Beyond it an image or
the pages that a search found would outweigh in memory all that the model says."""

_anything: Final = msgspec.json.Decoder()


class Others:
    """What a provider sends that has no word in the vocabulary of :mod:`shared.events`, within a bound.

    When an answer's share is used up, one piece of type ``omitted`` says so, and nothing more is kept.
    """

    __slots__ = ("_left",)

    def __init__(self, most: int = MAX_KEPT_BYTES) -> None:
        self._left = most

    def keep(self, kind: str, data: Any) -> Iterator[Said]:
        """One piece, under the provider's own name for it. Raises ProviderError for what is no JSON, or nests so
        deep that not everybody could read it again."""
        if self._left < 0:
            return
        delta = {"provider": {"type": kind, "data": data}}
        try:
            for _ in levels(data):
                pass
            self._left -= len(encode_data(delta))
        except (*UNREADABLE, OverflowError, ValueError):
            raise garbage("that can't be kept") from None
        yield Said(delta if self._left >= 0 else {"provider": {"type": "omitted", "data": kind}})


def text_in(content: str | list[dict[str, Any]]) -> str:
    """A turn's content where only text may stand, whichever way it came."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def decode(raw: str | bytes) -> Any:
    """Any JSON, or None for what is none."""
    try:
        return _anything.decode(raw)
    except UNREADABLE:
        return None


def sentence_in(value: Any) -> str:
    """The words for people in any error object met so far: ``{"error": {"message"}}``, ``{"error": text}``,
    ``{"message"}``, ``{"detail"}``, or a list around one of them."""
    for _ in range(4):  # list, error, message, text: no provider nests deeper
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, list):
            value = value[0] if value else None
        elif isinstance(value, dict):
            value = value.get("error") or value.get("message") or value.get("detail")
        else:
            break
    return value.strip() if isinstance(value, str) else ""


def error_object(value: Any) -> dict[str, Any]:
    """The object that names the error in ``{"error": {…}}`` or a list around it; {} where there is none."""
    if isinstance(value, list):
        value = value[0] if value else None
    found = value.get("error") if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def sentence_of(body: bytes) -> str:
    """The provider's own sentence in an error response; '' for an HTML page or for nothing."""
    decoded = decode(body)
    if decoded is not None:
        return sentence_in(decoded)
    text = body.decode("utf-8", "replace").strip()
    return "" if text.startswith(("<", "{", "[")) else text


def error_event(sentence: str, about: About = "") -> ProviderError:
    """An error inside the stream: what passes is retryable, what is ``about`` something is a refusal."""
    says = f": {sentence}" if sentence else "."
    match about:
        case "key":
            return ProviderError("provider_auth", f"The provider does not accept the key{says}", refusal=True)
        case "model":
            return ProviderError(
                "provider_unknown_model", f"The provider does not know the model{says}", refusal=True
            )
        case "content":
            return ProviderError("content_filtered", f"The provider refuses this content{says}", refusal=True)
        case "request":
            return ProviderError("provider_refused", f"The provider refused the request{says}", refusal=True)
    return ProviderError("provider_error_event", f"The provider broke off with an error{says}", retryable=True)


def garbage(what: str) -> ProviderError:
    """An event that is none of this wire format."""
    return ProviderError("provider_garbage", f"The provider sent an event {what}.", retryable=True)
