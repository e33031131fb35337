"""OpenAI's Responses: the events of a response, and the response as a whole. Pure, no I/O.

Source: the types of the packages ``openai`` (``ResponseStreamEvent``, ``Response``), and what their accumulators
check: ``response.created`` comes first, an item is added before anything is said of it, and the items' ids, the
order and the texts of the last event are those of the events in front of it.

Theory of operation. Each part of the answer is an item of ``output``: text is a message, reasoning is a reasoning
item with one summary text, a tool call is a function call. (OpenAI's types have two forms of reasoning; all
libraries show this one.) ``sequence_number`` counts all events: the number of an entry's last one is the index
of that entry and the count of the events that came on top (see :mod:`api.dialects.parts`). An entry without a word
here is an empty delta of the part that goes on, or ``response.in_progress`` in front of all parts. Both change
nothing. Both are small (except the first, with the whole request): a trimmed log sends one for each lost entry.

What the response tells of its request (instructions, tools, metadata) stands in the record's field ``asked``. What
only the provider understands (signatures, blocks of thinking) goes along as ``encrypted_content`` of a reasoning
item, so that a client that sends its items back gives the provider what it needs.

There is no ``response.cancelled`` among OpenAI's events. An answer that was stopped ends with
``response.incomplete``, whose response has the status ``cancelled``. An error of this connection alone is an
``error`` event under the last number that was said, and the response goes on.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar, Final

import msgspec

from api.dialects.base import About
from api.dialects.endings import Failure
from api.dialects.parts import WANTED_BACK, Kind, Part, PartsDialect
from api.schemas.responses import ASKED, UNASKED, kept
from shared.protocol.events import MESSAGE, decode_data, decode_many, encode_data
from shared.store.streams import Reading, json_field

PREFIXES: Final[Mapping[Kind, str]] = {"text": "msg", "reasoning": "rs", "tool": "fc"}
REFUSAL: Final = "refusal"
INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an answer that is not whole, and OpenAI's words for them."""
ERRORS: Final = {
    "provider_rate_limited": "rate_limit_exceeded",
    "provider_no_credit": "rate_limit_exceeded",
    "context_too_long": "invalid_prompt",
    "provider_refused": "invalid_prompt",
    "content_filtered": "invalid_prompt",
}
"""OpenAI's codes of a failed response for ours; ``server_error`` for all others."""
RUNNING: Final = {"queued": "queued", "running": "in_progress"}
"""OpenAI's words for the status of a record that has not ended."""

_EVENT: Final = b'%bevent: %b\ndata: {"type":"%b",%b,"sequence_number":%d}\n\n'
_TEXT_PART: Final = b'{"type":"output_text","text":%b,"annotations":[],"logprobs":[]}'
_REFUSAL: Final = b'{"type":"refusal","refusal":%b}'
_SUMMARY: Final = b'{"type":"summary_text","text":%b}'


def speak(about: About) -> "ResponsesDialect":
    """See :func:`api.dialects.dialect`."""
    return ResponsesDialect(about)


def response_id(stream_id: str) -> str:
    """The id of a stream's response."""
    return f"resp_{stream_id}"


def usage(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """OpenAI's usage, from ours; None where the provider told none."""
    if not told:
        return None
    taken, said = told.get("input_tokens") or 0, told.get("output_tokens") or 0
    return {
        "input_tokens": taken,
        "input_tokens_details": {"cached_tokens": told.get("cached_tokens") or 0, "cache_write_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": told.get("reasoning_tokens") or 0},
        "total_tokens": taken + said,
    }


class ResponsesDialect(PartsDialect):
    """See :class:`api.dialects.base.Dialect`."""

    name = "responses"
    OPENS: ClassVar[Mapping[Kind, int]] = {"text": 2, "reasoning": 2, "tool": 1}
    CLOSES: ClassVar[Mapping[Kind, int]] = {"text": 3, "reasoning": 3, "tool": 0}

    # -- events ---------------------------------------------------------------------------------------

    def begin(self, cursor: bytes) -> bytes:
        status = "queued" if self._asked().get("background") else "in_progress"
        return self._event(cursor, "response.created", 0, b'"response":%b' % self.response(status))

    def nothing(self, cursor: bytes) -> bytes:
        if self.parts:
            return self.delta(cursor, self.parts[-1], b"")
        response = self.response("in_progress", whole=self.index == 1)
        return self._event(cursor, "response.in_progress", self.index, b'"response":%b' % response)

    def open(self, part: Part) -> bytes:
        number = self.index + part.extras - self.OPENS[part.kind]
        place = self._place(part)
        item = b'"output_index":%d,"item":%b' % (part.number, self._item(part, "in_progress", b""))
        said = self._event(b"", "response.output_item.added", number, item)
        if part.kind == "text":
            piece = b'%b,"content_index":0,"part":%b' % (place, self._content(part) % b'""')
            return said + self._event(b"", "response.content_part.added", number + 1, piece)
        if part.kind == "reasoning":
            piece = b'%b,"summary_index":0,"part":%b' % (place, _SUMMARY % b'""')
            return said + self._event(b"", "response.reasoning_summary_part.added", number + 1, piece)
        return said

    def front(self, part: Part) -> bytes:
        match part.kind:
            case "reasoning":
                kind, more = b"response.reasoning_summary_text.delta", b',"summary_index":0'
            case "tool":
                kind, more = b"response.function_call_arguments.delta", b""
            case _ if self._refuses(part):
                kind, more = b"response.refusal.delta", b',"content_index":0'
            case _:
                kind, more = b"response.output_text.delta", b',"content_index":0,"logprobs":[]'
        return b'event: %b\ndata: {"type":"%b",%b%b,"delta":"' % (kind, kind, self._place(part), more)

    def delta(self, cursor: bytes, part: Part, raw: bytes) -> bytes:
        head = b"id: %b\n" % cursor if cursor else b""
        return b'%b%b%b","sequence_number":%d}\n\n' % (head, part.front, raw, self.index + self.extras)

    def close(self, part: Part) -> bytes:
        return self._closed(part, self.index + self.extras, "completed")

    def done(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return self._ended(cursor, {**self.verdict("done", data), "usage": usage(data.get("usage"))})

    def failed(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return self._ended(cursor, self.verdict("failed", data))

    def cancelled(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return self._ended(cursor, self.verdict("cancelled", data))

    def broken(self, data: Failure) -> bytes:
        told = encode_data({"code": data["code"], "message": data["message"], "param": None})[1:-1]
        return self._event(b"", "error", max(0, self.index + self.extras), told)

    def _event(self, cursor: bytes, kind: str, number: int, fields: bytes) -> bytes:
        name = kind.encode()
        return _EVENT % (b"id: %b\n" % cursor if cursor else b"", name, name, fields, number)

    def _closed(self, part: Part, number: int, status: str) -> bytes:
        place, text = self._place(part), part.raw()
        said = []
        if part.kind == "text":
            place += b',"content_index":0'
            if self._refuses(part):
                said.append(("response.refusal.done", b'%b,"refusal":%b' % (place, text)))
            else:
                said.append(("response.output_text.done", b'%b,"text":%b,"logprobs":[]' % (place, text)))
            said.append(("response.content_part.done", b'%b,"part":%b' % (place, self._content(part) % text)))
        elif part.kind == "reasoning":
            place += b',"summary_index":0'
            said.append(("response.reasoning_summary_text.done", b'%b,"text":%b' % (place, text)))
            said.append(("response.reasoning_summary_part.done", b'%b,"part":%b' % (place, _SUMMARY % text)))
        else:
            name = msgspec.json.encode(part.name)
            said.append(
                ("response.function_call_arguments.done", b'%b,"name":%b,"arguments":%b' % (place, name, text))
            )
        item = b'"output_index":%d,"item":%b' % (part.number, self._item(part, status, text))
        said.append(("response.output_item.done", item))
        return b"".join(self._event(b"", kind, number + n, fields) for n, (kind, fields) in enumerate(said))

    def _ended(self, cursor: bytes, verdict: Mapping[str, Any]) -> bytes:
        """Close what is open; then the last event. ``verdict``: arguments of :meth:`response`."""
        status = verdict["status"]
        kind = f"response.{'incomplete' if status == 'cancelled' else status}"
        last = "completed" if status == "completed" else "incomplete"
        said = []
        number = self.index + self.extras
        for part in self.unclosed:
            said.append(self._closed(part, number, last if part is self.parts[-1] else "completed"))
            number += 2 if part.kind == "tool" else self.CLOSES[part.kind]
        if rest := self._rest():
            for name in ("added", "done"):
                item = b'"output_index":%d,"item":%b' % (len(self.parts), rest)
                said.append(self._event(b"", f"response.output_item.{name}", number, item))
                number += 1
        said.append(self._event(cursor, kind, number, b'"response":%b' % self.response(**verdict)))
        self.extras = number - self.index
        return b"".join(said)

    # -- items and the response -----------------------------------------------------------------------

    def _id(self, part: Part) -> str:
        return f"{PREFIXES[part.kind]}_{self.about.stream_id}_{part.number}"

    def _place(self, part: Part) -> bytes:
        return b'"item_id":"%b","output_index":%d' % (self._id(part).encode(), part.number)

    def _item(self, part: Part, status: str, text: bytes) -> bytes:
        """``text``: as JSON, b'' for an item that only begins."""
        head = b'{"id":"%b",' % self._id(part).encode()
        if part.kind == "text":
            content = self._content(part) % text if text else b""
            return b'%b"type":"message","role":"assistant","status":"%b","content":[%b]}' % (
                head,
                status.encode(),
                content,
            )
        if part.kind == "reasoning":
            wanted = self._wanted_back(part) if text else b""
            return b'%b"type":"reasoning","summary":[%b]%b}' % (head, _SUMMARY % text if text else b"", wanted)
        call = encode_data({"call_id": part.call_id, "name": part.name})[1:-1]
        return b'%b"type":"function_call","status":"%b",%b,"arguments":%b}' % (
            head,
            status.encode(),
            call,
            text or b'""',
        )

    def _content(self, part: Part) -> bytes:
        return _REFUSAL if self._refuses(part) else _TEXT_PART

    def _refuses(self, part: Part) -> bool:
        """Whether this text is a refusal: the provider said so between the part in front of it and this one."""
        before = self.parts[part.number - 1].first if part.number else -1
        return any(found["type"] == REFUSAL for found in self._between(before, part.first))

    def _wanted_back(self, part: Part) -> bytes:
        """What the provider wants back of what came with this part of reasoning."""
        return self._kept(self._between(part.first, self._until(part)))

    def _rest(self) -> bytes:
        """An item of its own for what came elsewhere; b'' where nothing did."""
        rest: list[dict[str, Any]] = []
        behind = -1
        for part in self.parts:
            if part.kind == "reasoning":
                rest += self._between(behind, part.first)
                behind = self._until(part)
        wanted = self._kept([*rest, *self._between(behind, self.index + 1)])
        name = f"{PREFIXES['reasoning']}_{self.about.stream_id}_{len(self.parts)}".encode()
        return b'{"id":"%b","type":"reasoning","summary":[]%b}' % (name, wanted) if wanted else b""

    def _until(self, part: Part) -> int:
        """The index at which the next part began, or will begin."""
        following = part.number + 1
        return self.parts[following].first if following < len(self.parts) else self.index + 1

    def _between(self, first: int, until: int) -> list[dict[str, Any]]:
        """What the provider sent from this index on, in front of that one."""
        at = itemgetter(0)
        between = self.provided[
            bisect_left(self.provided, first, key=at) : bisect_left(self.provided, until, key=at)
        ]
        return [found for _, raw in between if (found := decode_data(raw)).get("type") in (*WANTED_BACK, REFUSAL)]

    def _kept(self, found: Sequence[Mapping[str, Any]]) -> bytes:
        wanted = [one for one in found if one["type"] in WANTED_BACK]
        if not wanted:
            return b""
        return b',"encrypted_content":"%b"' % kept(self.about.provider, wanted).encode()

    def _asked(self) -> Mapping[str, Any]:
        asked = self.about.kept(ASKED)
        return UNASKED if asked is None else asked

    def verdict(self, ended: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """How a response has ended, as arguments of :meth:`response`. In: the record's status, and the data of the
        log's last event."""
        if ended == "failed" and not (told["code"] == "content_filtered" and self.parts):
            return {"status": "failed", "error": told}
        if ended == "cancelled":
            return {"status": "cancelled"}
        reason = INCOMPLETE.get("content_filter" if ended == "failed" else told.get("finish_reason") or "")
        return {"status": "incomplete" if reason else "completed", "reason": reason}

    def output(self, status: str) -> bytes:
        """The items so far, as a JSON array. ``status``: of the response."""
        items = []
        for part in self.parts:
            last = part is self.parts[-1]
            if status == "completed" or not (last or (part.kind == "tool" and status == "in_progress")):
                own = "completed"
            else:
                own = "in_progress" if status == "in_progress" else "incomplete"
            items.append(self._item(part, own, part.raw()))
        if status != "in_progress" and (rest := self._rest()):
            items.append(rest)
        return b"[%b]" % b",".join(items)

    def response(
        self,
        status: str,
        *,
        error: Mapping[str, Any] | None = None,
        reason: str | None = None,
        usage: Mapping[str, Any] | None = None,
        whole: bool = True,
    ) -> bytes:
        """The response as JSON. ``error``: ``code`` and ``message`` of ours; ``whole``: with all that it tells of
        its request."""
        told = {
            **(self._asked() if whole else UNASKED),
            "id": response_id(self.about.stream_id),
            "object": "response",
            "created_at": self.about.created_ms // 1000,
            "model": self.about.model,
            "status": status,
            "error": error and failure(error),
            "incomplete_details": {"reason": reason} if reason else None,
            "usage": usage,
        }
        return b'%b,"output":%b}' % (encode_data(told)[:-1], self.output(status) if self.parts else b"[]")

    def follow(self, reading: Reading) -> None:
        """Take in everything that a record holds, for :meth:`response`. Event numbers are wrong afterwards."""
        for delta in (*decode_many(reading.snapshot.splitlines()), *reading.deltas()):
            self.entry(b"", MESSAGE, encode_data(delta))


def failure(told: Mapping[str, Any]) -> dict[str, Any]:
    """The error of a failed response; its ``type`` is our own code."""
    code = ERRORS.get(told["code"], "server_error")
    return {"code": code, "message": told["message"], "type": told["code"], "param": None}


def respond(about: About, reading: Reading) -> bytes:
    """The response that a record tells, as JSON."""
    dialect = ResponsesDialect(about)
    dialect.follow(reading)
    record = reading.record
    result = json_field(record, "result") or {}
    told = usage(result.get("usage") or json_field(record, f"usage:{reading.attempt}"))
    status = record["status"]
    if status in RUNNING:
        return dialect.response(RUNNING[status], usage=told)
    return dialect.response(**dialect.verdict(status, result), usage=told)


def output_of(about: About, reading: Reading) -> list[dict[str, Any]]:
    """The items that a record tells."""
    return list(decode_data(respond(about, reading))["output"])
