"""Who speaks for a stream, and who comes next. Pure.

Theory of operation. A request names its provider and model and, in ``fallbacks``, those that are asked in their
place, in this order, when one fails before its first token. Who speaks is state of the record: falling back moves
the request itself to its next fallback, and all that the record tells of it, in the one fenced script that gives
the stream back. So whoever claims the stream from then on, another worker too, asks the one it was moved to, and
the new attempt's opening event tells viewers which that is. Each move takes one off the list, so it ends; it is
no try of ``max_attempts``, for those bound what one request costs, and a provider that said nothing costs nothing.

What counts as failing before the first token: all that a provider does, refusals too (another one may have a valid
key, know the model, or filter less), and a content filter that let nothing through. Not this side's own limits.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

MAX_FALLBACKS: Final = 4
"""Each may take its whole time to the first token before it fails; nobody waits for more than five of those."""


def full_name(request: Mapping[str, Any]) -> str:
    """``provider/model`` of the one that a request asks."""
    return f"{request['provider']}/{request['model']}"


def speaker(request: Mapping[str, Any]) -> dict[str, str]:
    """The record's fields that tell who speaks; ``about`` is what opening events say of it (JSON)."""
    model, provider = full_name(request), request["provider"]
    about = msgspec.json.encode({"model": model, "provider": provider}).decode()
    return {"about": about, "model": model, "provider": provider}


def moved_on(request: Mapping[str, Any], code: str) -> dict[str, Any] | None:
    """The same request to its next fallback, after a failure with this code; None where none is left."""
    fallbacks = request.get("fallbacks")
    if not fallbacks:
        return None
    tried = [*request.get("tried", []), f"{full_name(request)} ({code})"]
    return {**request, **fallbacks[0], "fallbacks": fallbacks[1:], "tried": tried}


def with_tried(message: str, request: Mapping[str, Any]) -> str:
    """A failure's message, and all that were asked before the one that it tells of."""
    tried = request.get("tried")
    return f"{message} Asked before, and failed: {', '.join(tried)}." if tried else message
