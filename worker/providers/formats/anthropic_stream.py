"""The Anthropic messages wire format: answers, as a stream of events or as a whole message. Pure, no I/O.

Source: the Anthropic API reference, "Streaming messages" and "Errors", and llama.cpp's server, which speaks it too.
A stream is ``message_start``, then content blocks, each with its start, deltas and stop, then ``message_delta``
with the reason and ``message_stop``. ``ping`` and ``error`` may come anywhere, and so may new types.

Theory of operation. Text, thinking and tool use have their own kinds of delta. A block of thinking is also
kept under ``provider``, whole and with its signature, at its end: a later request with a tool's result must send it
back unchanged. The same holds for a block of ``redacted_thinking``. Every other block is kept at its end, with the
pieces of its input joined. Deltas of other types (``citations_delta``) and new types are kept as they come. All of
these have the ``index`` of their block. Left out on purpose: ``ping``, and the message's id, model, role and
service tier, which say nothing about the answer.
"""

from collections.abc import Iterator
from typing import Any, Final

from worker.providers.base import Finish, ProviderEvent, Said, Usage
from worker.providers.formats.reader import (
    MAX_KEPT_BYTES,
    AnswerReader,
    Pieces,
    arguments_of,
    count_of,
    decode,
    encoded,
    finish_of,
    object_of,
    objects_of,
    text_of,
)

MAX_OPEN: Final = 64
"""The most open blocks: Claude opens one at a time. When there are more, the oldest counts as complete."""

_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class _Block:
    """A content block that is open."""

    def __init__(self, index: int, kind: str, raw: Pieces) -> None:
        self.index = index
        self.kind = kind
        self.raw = raw
        """The block's start, as JSON text: decoded it would take many times as much memory."""
        self.call: int | None = None
        """Our index of its tool call."""
        self.in_pieces = False
        """Whether the call's input came in pieces."""
        self.thinking = Pieces()
        self.signature = Pieces()
        self.input = Pieces()


class AnthropicReader(AnswerReader):
    """See :class:`worker.providers.base.Reader`.

    ``at_seam``: the text so far ended in white space that was not sent back. Then the model begins with white space
    of its own, which is dropped, because viewers have already seen the white space.
    """

    def __init__(self, *, at_seam: bool = False) -> None:
        super().__init__()
        self._at_seam = at_seam
        self._open: dict[int, _Block] = {}
        self._last_index = -1
        """The index of the last block, for events that do not name theirs."""
        self._counts: dict[str, int] = {}
        self._content: Any = None
        """The content of ``message_start``. It is used only if no blocks follow."""
        self._raw_left = MAX_KEPT_BYTES
        """The bytes that remain for ``_Block.raw`` of all blocks together."""

    @property
    def open(self) -> bool:
        """See :class:`worker.providers.base.Reader`."""
        return bool(self._open) or super().open

    def last(self) -> Iterator[Said]:
        """See :class:`worker.providers.formats.reader.AnswerReader`."""
        if self._content:
            yield from self._blocks(self._content)
        for index in list(self._open):
            yield from self._stop(index)
        yield from super().last()

    def _is_whole(self, value: dict[str, Any]) -> bool:
        return value.get("type") == "message"

    def _meaning(self, value: dict[str, Any], event: str) -> Iterator[ProviderEvent]:
        kind = value.get("type")
        if not isinstance(kind, str):
            kind = event
        match kind:
            case "message_start":
                message = object_of(value.get("message"))
                self._answer = text_of(message.get("id"))
                self._content = message.get("content")
                yield from self._count(message.get("usage"))
            case "content_block_start":
                yield from self._start(self._index(value, opens=True), object_of(value.get("content_block")))
            case "content_block_delta":
                yield from self._add(self._index(value), object_of(value.get("delta")))
            case "content_block_stop":
                yield from self._stop(self._index(value))
            case "message_delta":
                yield from self._finish(object_of(value.get("delta")), value.get("usage"))
            case "message_stop":
                yield from self._end()
            case "message":  # whole
                self._answer = text_of(value.get("id"))
                yield from self._blocks(value.get("content"))
                yield from self._finish(value, value.get("usage"))
            case "ping":
                pass
            case _ if isinstance(value.get("type"), str):
                if rest := _rest(value):  # else it is only a sign of life
                    yield from self._others.keep(kind, rest)

    def _index(self, value: dict[str, Any], *, opens: bool = False) -> int:
        index = count_of(value.get("index"))
        if index is None:
            index = self._last_index + opens
        self._last_index = max(index, 0)
        return self._last_index

    def _blocks(self, content: Any) -> Iterator[Said]:
        self._content = None
        if not isinstance(content, list | dict):
            content = [{"type": "text", "text": content}]
        for index, block in enumerate(objects_of(content)):
            yield from self._start(index, block)
            yield from self._stop(index)

    def _start(self, index: int, raw: dict[str, Any]) -> Iterator[Said]:
        self._content = None
        yield from self._stop(index)  # the same index twice means two blocks
        kind = raw.get("type")
        if not isinstance(kind, str):
            kind = "tool_use" if "input" in raw else "thinking" if "thinking" in raw else "text"
        while len(self._open) >= MAX_OPEN:
            yield from self._stop(next(iter(self._open)))
        block = self._open[index] = _Block(index, kind, self._kept(kind, raw))
        if kind == "text":
            yield from self._text(raw.get("text"))
        elif kind == "thinking":
            yield from self._think(block, raw.get("thinking"), raw.get("signature"))
        elif kind == "tool_use":
            block.call, said = self._call_piece(None, raw.get("id"), raw.get("name"), None, anew=True)
            yield from said

    def _kept(self, kind: str, raw: dict[str, Any]) -> Pieces:
        """The start of a block of this kind, if it is needed at the block's end."""
        if kind in ("text", "thinking") or (kind == "tool_use" and not raw.get("input")):
            return Pieces("{}")
        try:
            told = encoded(raw).decode()
        except ValueError:
            return Pieces(None)
        self._raw_left -= len(told)
        return Pieces(told if self._raw_left >= 0 else None)

    def _add(self, index: int, raw: dict[str, Any]) -> Iterator[Said]:
        block = self._open.get(index)
        kind = raw.get("type")
        if not isinstance(kind, str):
            kind = next((f"{name}_delta" for name in ("text", "thinking", "signature") if name in raw), "")
            kind = "input_json_delta" if "partial_json" in raw else kind
        if kind == "text_delta":
            yield from self._text(raw.get("text"))
        elif kind == "thinking_delta":
            yield from self._think(block, raw.get("thinking"), raw.get("signature"))
        elif kind == "signature_delta" and block is not None and block.kind == "thinking":
            block.signature.add(text_of(raw.get("signature")))
        elif kind == "input_json_delta" and block is not None:
            piece = arguments_of(raw.get("partial_json"))
            if block.call is None:
                block.input.add(piece)
            elif piece:
                block.in_pieces = True
                yield from self._calls.add(block.call, self._whole_pairs("arguments", piece))
        elif raw:
            yield from self._others.keep(kind or "delta", {"index": index, **_rest(raw)})

    def _stop(self, index: int) -> Iterator[Said]:
        block = self._open.pop(index, None)
        if block is None or block.kind == "text":
            return
        if block.kind == "thinking":
            yield from self._keep_thinking(block)
        elif block.call is not None:
            # The input is usually {} at the start, and then comes in pieces. If it is whole at the start, it comes
            # once.
            began = object_of(decode(block.raw.text() or ""))
            whole_input = "" if block.in_pieces else arguments_of(began.get("input"))
            yield from self._calls.complete(block.call, whole_input)
        elif (pieces := block.input.text()) is None or (raw := block.raw.text()) is None:
            yield from self._others.omit(block.kind)
        else:
            data = {"index": index, **_rest(object_of(decode(raw)))}
            if pieces:
                value = decode(pieces)
                data["input"] = pieces if value is None else value
            yield from self._others.keep(block.kind, data)

    def _keep_thinking(self, block: _Block) -> Iterator[Said]:
        """Keep a block of thinking. Without its signature it could not be sent back."""
        thinking, signature = block.thinking.text(), block.signature.text()
        if thinking is None or signature is None:
            yield from self._others.omit(block.kind)
        elif signature:
            data = {"index": block.index, "thinking": thinking, "signature": signature}
            yield from self._others.keep(block.kind, data)

    def _think(self, block: _Block | None, thinking: Any, signature: Any) -> Iterator[Said]:
        text = text_of(thinking)
        if block is not None:
            block.thinking.add(text)
            block.signature.add(text_of(signature))
        yield from self._said("reasoning", text)

    def _text(self, text: Any) -> Iterator[Said]:
        said = text_of(text)
        if self._at_seam:
            said = said.lstrip()
        if said:
            self._at_seam = False
            yield from self._said("text", said)

    def _finish(self, delta: dict[str, Any], usage: Any) -> Iterator[ProviderEvent]:
        if stop_sequence := delta.get("stop_sequence"):
            yield from self._others.keep("stop_sequence", stop_sequence)
        if server_tool_use := object_of(usage).get("server_tool_use"):
            yield from self._others.keep("server_tool_use", server_tool_use)
        reason = finish_of(delta.get("stop_reason"))
        if reason is not None:
            yield Finish(reason)
        yield from self._count(usage)

    def _count(self, usage: Any) -> Iterator[Usage]:
        """Usage so far. The counts are cumulative, and null or missing if they did not change."""
        if not isinstance(usage, dict):
            return
        self._counts |= {name: count for name in _COUNTS if (count := count_of(usage.get(name))) is not None}
        taken, given, cached, written = (self._counts.get(name) for name in _COUNTS)
        yield Usage(None if taken is None else taken + (cached or 0) + (written or 0), given, cached)


def _rest(value: dict[str, Any]) -> dict[str, Any]:
    return {name: what for name, what in value.items() if name != "type"}
