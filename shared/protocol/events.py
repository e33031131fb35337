"""The types of events, and the encoding of their data. Pure, no I/O. Their sum: :mod:`shared.protocol.transcript`.

A *delta* is the data of a ``message`` event: a dict with exactly one of the keys

- ``text``: str, a piece of the answer;
- ``reasoning``: str, a piece of the model's reasoning;
- ``tool_call``: ``{"index": int, "id"?: str, "name"?: str, "arguments"?: str}``, a piece of one tool call. ``id``
  and ``name`` come once, ``arguments`` is appended. ``index`` is Headrace's own count of the answer's calls. A new
  ``id`` opens a call, whatever its index; a piece without an id belongs to the last call of its index;
- ``provider``: ``{"type": str, "data": any JSON}``, a part of the provider's own that fits none of the kinds above,
  under its name there: citations, signatures, searches that the provider ran itself. Each part stands alone; their
  size in an answer is bounded where it is read (:data:`worker.providers.formats.reader.MAX_KEPT_BYTES`). Parts that
  a provider wants back with a tool's result are whole blocks: ``thinking`` ``{"index", "thinking", "signature"}``
  and ``redacted_thinking`` ``{"index", "data"}`` of Claude; ``thoughtSignature`` ``{"signature", "tool_call"?}`` of
  Gemini, with the index of its call; ``extra_content`` ``{"tool_call", …}``, of a call in the OpenAI format; and
  ``reasoning_details``, a list with one block of OpenRouter's. ``refusal`` ``{}`` says that the text behind it is
  the model's refusal (OpenAI format).
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

Delta = dict[str, Any]

QUEUED: Final = "queued"
STARTED: Final = "started"
MESSAGE: Final = "message"
FINISHING: Final = "finishing"
RESTART: Final = "restart"
CONTINUED: Final = "continued"
WAITING: Final = "waiting"
"""The attempt waits for a turn at the provider; the data holds its place in the queue."""
PAUSED: Final = "paused"
RESUMED: Final = "resumed"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
SNAPSHOT: Final = "snapshot"
"""Not stored in the log: the API makes it for a viewer."""

TERMINAL: Final = frozenset({DONE, FAILED, CANCELLED})
FRESH: Final = frozenset({STARTED, RESTART})
"""Opening events after which the text begins again from nothing."""
OPENINGS: Final = FRESH | {CONTINUED}
"""The types of the event that opens an attempt."""

encode_data: Final[Callable[[dict[str, Any]], bytes]] = msgspec.json.Encoder().encode
"""One event's data as compact JSON. It is a single line, because JSON escapes every line break."""

_decoder = msgspec.json.Decoder()


def decode_data(raw: bytes) -> dict[str, Any]:
    """The data of one event. Raises ``msgspec.DecodeError`` if it is no JSON object."""
    data = _decoder.decode(raw)
    if not isinstance(data, dict):
        raise msgspec.DecodeError("event data is not a JSON object")
    return data


def decode_many(raw: Iterable[bytes]) -> list[dict[str, Any]]:
    """The data of several events, all made by :data:`encode_data`. One step for all takes a third of the time."""
    found: list[dict[str, Any]] = _decoder.decode(b"[%b]" % b",".join(raw))
    return found
