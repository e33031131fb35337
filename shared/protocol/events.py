"""The event vocabulary, and how data is written. Pure, no I/O. How deltas add up:
:mod:`shared.protocol.transcript`.

A *delta* is the data of a ``message`` event: a dict with exactly one of the keys

- ``text``: str, a piece of the answer;
- ``reasoning``: str, a piece of the model's reasoning;
- ``tool_call``: ``{"index": int, "id"?: str, "name"?: str, "arguments"?: str}``, a piece of one tool call:
  ``id`` and ``name`` come once, ``arguments`` is appended. ``index`` is our own count of the answer's calls. A new
  ``id`` opens a call, whatever its index; a piece without one belongs to the last call of its index;
- ``provider``: ``{"type": str, "data": any JSON}``, what a provider sends that has no word above, under its own
  name: citations, signatures, searches that it ran itself. Each stands for itself; an answer's share is bounded
  where it is read (:data:`worker.providers.formats.reader.MAX_KEPT_BYTES`). Those that a provider wants back with a
  tool's result are whole blocks: ``thinking`` ``{"index", "thinking", "signature"}`` and ``redacted_thinking``
  ``{"index", "data"}`` of Claude; ``thoughtSignature`` ``{"signature", "tool_call"?}`` of Gemini, with the index of
  the call that it stands at; ``extra_content`` ``{"tool_call", …}``, of a call in the OpenAI format; and
  ``reasoning_details``, a list with one block of OpenRouter's.
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
"""For a turn at the provider, with the place in line."""
PAUSED: Final = "paused"
RESUMED: Final = "resumed"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
SNAPSHOT: Final = "snapshot"
"""Not stored in the log: the reader sends it."""

TERMINAL: Final = frozenset({DONE, FAILED, CANCELLED})
FRESH: Final = frozenset({STARTED, RESTART})
"""Openings from which the text counts anew."""
OPENINGS: Final = FRESH | {CONTINUED}
"""What an attempt begins with."""

encode_data: Final[Callable[[dict[str, Any]], bytes]] = msgspec.json.Encoder().encode
"""One event's data as compact JSON: a single line, for JSON escapes every line break."""

_decoder = msgspec.json.Decoder()


def decode_data(raw: bytes) -> dict[str, Any]:
    """The data of one event. Raises ``msgspec.DecodeError`` for what is no JSON object."""
    data = _decoder.decode(raw)
    if not isinstance(data, dict):
        raise msgspec.DecodeError("event data is not a JSON object")
    return data


def decode_many(raw: Iterable[bytes]) -> list[dict[str, Any]]:
    """The data of several events, each what :data:`encode_data` made: in one step, a third of the time."""
    found: list[dict[str, Any]] = _decoder.decode(b"[%b]" % b",".join(raw))
    return found
