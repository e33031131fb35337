"""What Anthropic's messages API answers, as a stream of events. Pure, no I/O.

Source: the Anthropic API reference, "Streaming messages" and "Errors", and llama.cpp's server, which
speaks it too. A stream is ``message_start``, then content blocks, each with its start, deltas and stop, then
``message_delta`` with the reason and ``message_stop``; ``ping`` and ``error`` may come anywhere, and so may types
that are new.

Blocks of text, thinking and tool use have words in the vocabulary. All others, deltas that are no piece of those
(``citations_delta``, ``signature_delta``) and types that are new are kept under ``provider``, with the ``index``
of their block. Left out on purpose: ``ping``, ``content_block_stop``, and the message's id, model, role and
service tier, which say nothing about the answer.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from shared.events import encode_data
from shared.sse import ServerSentEvent
from worker.providers.base import (
    About,
    End,
    Finish,
    FinishReason,
    ProviderError,
    ProviderEvent,
    Reader,
    Said,
    Usage,
)
from worker.providers.wire import (
    UNREADABLE,
    Index,
    Others,
    Tokens,
    decode,
    error_event,
    error_object,
    garbage,
    sentence_in,
)

_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_ABOUT: Final[dict[Any, About]] = {
    "authentication_error": "key",
    "permission_error": "key",
    "not_found_error": "model",
    "invalid_request_error": "request",
    "request_too_large": "request",
    "billing_error": "request",
}
"""What no other try would mend; ``overloaded_error``, ``rate_limit_error``, ``api_error`` pass. They have not the
code of the same trouble told by a status (529): that one says that nothing was generated, and ends the answer."""


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cache_read_input_tokens: Tokens | None = None
    cache_creation_input_tokens: Tokens | None = None
    server_tool_use: Any = None


class _Message(msgspec.Struct, frozen=True):
    usage: _Usage | None = None


class _Delta(msgspec.Struct, frozen=True):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Block(msgspec.Struct, frozen=True):
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    input: Any = None


class _Event(msgspec.Struct, frozen=True):
    type: str
    index: Index = 0
    message: _Message | None = None
    content_block: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    usage: _Usage | None = None
    error: Any = None


_events: Final = msgspec.json.Decoder(_Event)


class AnthropicReader(Reader):
    """See :class:`worker.providers.base.Reader`.

    ``at_seam``: what was said before ended in white space that was not sent. The model begins with white space of
    its own then, and that is dropped: at the seam counts what viewers have seen.
    """

    def __init__(self, *, at_seam: bool = False) -> None:
        self._others = Others()
        self._at_seam = at_seam
        self._calls: dict[int, int] = {}
        self._bare: set[int] = set()
        self._usage = _Usage()

    def read(self, event: ServerSentEvent) -> Iterator[ProviderEvent]:
        """The meaning of one event. Raises :class:`ProviderError` for an ``error`` (by its type) and garbage."""
        data = event.data.strip()
        if event.event == "error":
            raise _error_of(decode(data), data)
        if not data:
            return
        try:
            yield from self._meaning(_events.decode(data), data)
        except UNREADABLE:
            raise garbage("that is none of the messages API") from None

    def _meaning(self, event: _Event, data: str) -> Iterator[ProviderEvent]:
        match event.type:
            case "message_start":
                if event.message is not None and event.message.usage is not None:
                    yield self._count(event.message.usage)
            case "content_block_start":
                yield from self._start(event.index, event.content_block or {})
            case "content_block_delta":
                yield from self._add(event.index, event.delta or {})
            case "content_block_stop":
                if event.index in self._bare:  # a tool without arguments gets no delta
                    self._bare.discard(event.index)
                    yield _call_piece(self._calls[event.index], arguments="{}")
            case "message_delta":
                yield from self._finish(event)
            case "message_stop":
                yield End()
            case "ping":
                pass
            case "error":
                raise _error_of(decode(data), data)
            case _:
                yield from self._others.keep(event.type, _rest(decode(data)))

    def _start(self, index: int, raw: dict[str, Any]) -> Iterator[Said]:
        kind = _type_of(raw)
        if kind not in ("text", "thinking", "tool_use"):
            yield from self._others.keep(kind, {"index": index, **_rest(raw)})
            return
        block = msgspec.convert(raw, _Block)
        yield from self._text(block.text)
        if block.thinking:
            yield Said({"reasoning": block.thinking})
        if kind == "tool_use":
            call = self._calls.setdefault(index, len(self._calls))
            named = {name: value for name, value in (("id", block.id), ("name", block.name)) if value}
            yield _call_piece(call, **named)
            if block.input:  # whole at once; usually it is {} here, and comes in pieces
                yield _call_piece(call, arguments=encode_data(block.input).decode())
            else:
                self._bare.add(index)

    def _add(self, index: int, raw: dict[str, Any]) -> Iterator[Said]:
        kind = _type_of(raw)
        known = kind in ("text_delta", "thinking_delta") or (kind == "input_json_delta" and index in self._calls)
        if not known:
            yield from self._others.keep(kind, {"index": index, **_rest(raw)})
            return
        delta = msgspec.convert(raw, _Delta)
        yield from self._text(delta.text)
        if delta.thinking:
            yield Said({"reasoning": delta.thinking})
        if delta.partial_json:
            self._bare.discard(index)
            yield _call_piece(self._calls[index], arguments=delta.partial_json)

    def _text(self, text: str | None) -> Iterator[Said]:
        said = text or ""
        if self._at_seam:
            said = said.lstrip()
        if said:
            self._at_seam = False
            yield Said({"text": said})

    def _finish(self, event: _Event) -> Iterator[ProviderEvent]:
        delta, usage = msgspec.convert(event.delta or {}, _Delta), event.usage
        if delta.stop_sequence:
            yield from self._others.keep("stop_sequence", delta.stop_sequence)
        if usage is not None and usage.server_tool_use:
            yield from self._others.keep("server_tool_use", usage.server_tool_use)
        if delta.stop_reason:
            yield Finish(_FINISH_REASONS.get(delta.stop_reason, "other"))
        if usage is not None:
            yield self._count(usage)

    def _count(self, usage: _Usage) -> Usage:
        """Counts are cumulative, and null or missing where nothing changed."""
        fields = (name for name in _Usage.__struct_fields__ if getattr(usage, name) is not None)
        self._usage = msgspec.structs.replace(self._usage, **{name: getattr(usage, name) for name in fields})
        now = self._usage
        cached, written = now.cache_read_input_tokens, now.cache_creation_input_tokens
        taken = None if now.input_tokens is None else now.input_tokens + (cached or 0) + (written or 0)
        return Usage(taken, now.output_tokens, cached)


def _call_piece(index: int, **fields: str) -> Said:
    return Said({"tool_call": {"index": index, **fields}})


def _type_of(raw: dict[str, Any]) -> str:
    kind = raw.get("type")
    if not isinstance(kind, str):
        raise garbage("that is no piece of a content block")
    return kind


def _error_of(value: Any, data: str) -> ProviderError:
    kind = error_object(value).get("type")
    return error_event(sentence_in(value) or data, _ABOUT.get(kind, "") if isinstance(kind, str) else "")


def _rest(value: dict[str, Any]) -> dict[str, Any]:
    return {name: what for name, what in value.items() if name != "type"}
