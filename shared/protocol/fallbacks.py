"""The provider and model that answer a stream, and its fallbacks. Pure.

Theory of operation. A request names its provider and model. Its ``fallbacks`` name others, which are asked in this
order when the one before fails before its first token. The record holds the current one: the fenced script that
releases the stream also changes the record's request, and its other fields about provider and model, to the next
fallback. So any worker that claims the stream later asks that fallback, and the new attempt's opening event names
it to the viewers. Each fallback removes one entry from the list, so this ends. A fallback is not counted in
``max_attempts``, which bounds the cost of one request: a provider that said nothing costs nothing.

Failures before the first token are all failures of the provider: refusals too (another provider may have a valid
key, know the model, or filter less), and a content filter that let nothing through. Headrace's own limits are not
among them.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

MAX_FALLBACKS: Final = 4
"""Each may take its whole time to the first token before it fails, so a caller waits for at most five of those."""


def full_name(request: Mapping[str, Any]) -> str:
    """``provider/model`` of a request."""
    return f"{request['provider']}/{request['model']}"


def speaker(request: Mapping[str, Any]) -> dict[str, str]:
    """The record's fields about the provider and model; ``about`` is the part that opening events repeat (JSON)."""
    model, provider = full_name(request), request["provider"]
    about = msgspec.json.encode({"model": model, "provider": provider}).decode()
    return {"about": about, "model": model, "provider": provider}


def moved_on(request: Mapping[str, Any], code: str) -> dict[str, Any] | None:
    """The request for its next fallback, after a failure with this code; None where no fallback is left."""
    fallbacks = request.get("fallbacks")
    if not fallbacks:
        return None
    tried = [*request.get("tried", []), f"{full_name(request)} ({code})"]
    return {**request, **fallbacks[0], "fallbacks": fallbacks[1:], "tried": tried}


def with_tried(message: str, request: Mapping[str, Any]) -> str:
    """A failure's message, with the list of all models that were asked before and failed."""
    tried = request.get("tried")
    return f"{message} Asked before, and failed: {', '.join(tried)}." if tried else message
