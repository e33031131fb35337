"""OpenAI's chat completions, as a stream of chunks. Pure, no I/O.

Source: the types of the packages ``openai`` (``ChatCompletionChunk``), and DeepSeek's documentation for
``reasoning_content``. Every chunk has the same ``id``, ``created`` and ``model``; the first one has the role; the
last events are the finish reason, the usage (where ``stream_options.include_usage`` asked for it: then all other
chunks have ``"usage": null``), and ``[DONE]``. What goes wrong is an object with a top-level ``error``, on which
OpenAI's libraries raise.

Nothing here depends on what was said before: a piece of a tool call names its call by the index that the log has.
The SSE id of an entry stands on the last event that it leads to. A viewer that is cut off among these events gets
all of them again; content stands in one event alone.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from api.dialects.base import About, Told
from api.dialects.endings import OneWayDialect
from shared.protocol.cursor import Cursor
from shared.protocol.events import MESSAGE, decode_data, encode_data
from shared.protocol.sse import encode_event

DONE_EVENT: Final = b"data: [DONE]\n\n"
_TEXT: Final = b'{"text":'
_REASONING: Final = b'{"reasoning":'


def speak(about: About) -> "OpenAIDialect":
    """See :func:`api.dialects.dialect`."""
    return OpenAIDialect(about)


def speak_with_usage(about: About) -> "OpenAIDialect":
    """The same for a caller that asked for the usage."""
    return OpenAIDialect(about, usage=True)


class OpenAIDialect(OneWayDialect):
    """See :class:`api.dialects.base.Dialect`."""

    stateful = False

    def __init__(self, about: About, *, usage: bool = False, begins: bool = True) -> None:
        """``begins``: for viewers that have seen nothing."""
        self.name = "openai-usage" if usage else "openai"
        self._about = about
        self._usage = usage
        self._begins = begins
        head: dict[str, Any] = {"id": completion_id(about.stream_id), "object": "chat.completion.chunk"}
        head |= {"created": about.created_ms // 1000, "model": about.model}
        self._head = encode_data(head)[:-1]
        self._chunk = b'%b,"choices":[{"index":0,"delta":' % self._head
        self._open_end = b',"logprobs":null,"finish_reason":null}]%b}\n\n' % (b',"usage":null' if usage else b"")

    def entry(self, cursor: bytes, kind: str, data: bytes) -> bytes:
        if kind != MESSAGE:
            return self.ending(cursor, kind, data)
        # The piece goes on as it stands in the log: {"text":"…"} is {"content":"…"} but for its name.
        if data.startswith(_TEXT):
            said = data[len(_TEXT) :]
            return b'id: %b\ndata: %b{"content":%b%b' % (cursor, self._chunk, said, self._open_end)
        if data.startswith(_REASONING):
            said = data[len(_REASONING) :]
            return b'id: %b\ndata: %b{"reasoning_content":%b%b' % (cursor, self._chunk, said, self._open_end)
        call = decode_data(data).get("tool_call")
        if call is None:
            return b""
        delta = encode_data({"tool_calls": [_call(call)]})
        return b"id: %b\ndata: %b%b%b" % (cursor, self._chunk, delta, self._open_end)

    def snapshot(self, told: Told) -> bytes:
        said = [self.entry(b"", MESSAGE, encode_data(delta)).removeprefix(b"id: \n") for delta in told.deltas]
        said = [one for one in said if one]
        if said and told.as_of is not None:  # the last one alone: a viewer cut off in front of it gets all again
            said[-1] = b"id: %b\n%b" % (told.as_of.encode(), said[-1])
        return self.greeting() + b"".join(said)

    def at(self, cursor: Cursor | None) -> "OpenAIDialect":
        return OpenAIDialect(self._about, usage=self._usage, begins=cursor is None)

    def greeting(self) -> bytes:
        """The role, for a viewer that begins. It has no id: there is nothing to come back to."""
        if not self._begins:
            return b""
        return b'data: %b{"role":"assistant","content":""}%b' % (self._chunk, self._open_end)

    def done(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        reason = encode_data({"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish_reason(data)})
        none = b',"usage":null' if self._usage else b""
        said = b'data: %b,"choices":[%b]%b}\n\n' % (self._head, reason, none)
        if self._usage:
            said += b'data: %b,"choices":[],"usage":%b}\n\n' % (self._head, msgspec.json.encode(usage(data)))
        return said + b"id: %b\n%b" % (cursor, DONE_EVENT)

    def failed(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        told = {"error": error(data["code"], data["message"], "server_error")}
        return encode_event("message", encode_data(told), cursor or None)


def completion_id(stream_id: str) -> str:
    """The id of a completion."""
    return f"chatcmpl-{stream_id}"


def error(code: str, message: str, kind: str, param: str | None = None) -> dict[str, str | None]:
    """OpenAI's error object; ``kind`` is its ``type``."""
    return {"message": message, "type": kind, "param": param, "code": code}


def finish_reason(data: Mapping[str, Any]) -> str:
    """OpenAI's word for the finish reason of ``done`` (``data``), or of a record."""
    reason: str = data.get("finish_reason") or "stop"
    return "stop" if reason == "other" else reason


def usage(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """OpenAI's usage, from that of ``done`` or of a record; None where the provider told none."""
    told = data.get("usage")
    if not told:
        return None
    prompt, said = told.get("input_tokens") or 0, told.get("output_tokens") or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
        "prompt_tokens_details": {"cached_tokens": told.get("cached_tokens") or 0},
        "completion_tokens_details": {"reasoning_tokens": told.get("reasoning_tokens") or 0},
    }


def _call(piece: Mapping[str, Any]) -> dict[str, Any]:
    """A piece of a tool call in OpenAI's form."""
    arguments = piece.get("arguments", "")
    if "id" not in piece and "name" not in piece:
        return {"index": piece["index"], "function": {"arguments": arguments}}
    function = {"name": piece.get("name") or "", "arguments": arguments}
    return {"index": piece["index"], "id": piece.get("id"), "type": "function", "function": function}
