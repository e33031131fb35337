"""The OpenAI chat completions wire format: answers, as a stream of chunks or whole. Pure, no I/O.

Source: the OpenAI API reference, "Chat / Create chat completion / Streaming", and the variants of other providers:
``reasoning_content`` or ``reasoning`` (DeepSeek, vLLM, llama.cpp, OpenRouter), content as a list of parts
(Mistral), ``reasoning_details`` (OpenRouter), ``extra_content`` of a tool call (Gemini's signature in Google's and
others' gateways), usage in ``x_groq`` or in the choice (Groq, Moonshot), ``message`` instead of ``delta``, nulls
instead of missing fields, errors in the choice.

Unknown fields of a delta are kept under ``provider``, and so are log probabilities, which come only if they were
requested. A block of ``reasoning_details`` comes in pieces and is kept whole, at its end. The fields that are
around the choices, the same in every chunk, are left out on purpose (``id``, ``system_fingerprint``,
``service_tier``, ``obfuscation``, ``prompt_filter_results``, llama.cpp's ``timings``): they would cost a whole
entry for each token.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from shared.protocol.events import Delta
from worker.providers.base import Finish, ProviderEvent, Said, Usage
from worker.providers.formats.reader import (
    MAX_KEPT_BYTES,
    MAX_PARTS_DEPTH,
    UNREADABLE,
    AnswerReader,
    Pieces,
    count_of,
    encoded,
    error_of,
    finish_of,
    object_of,
    objects_of,
    text_of,
)

_REASONING: Final = frozenset({"reasoning_content", "reasoning", "reasoning_details"})
_LEFT_OUT: Final = frozenset({"index", "tool_call_id", "token_id", "token_ids", "channel"})
"""Fields that come with each token from Mistral, Together, vLLM and Groq, and are left out."""
_KNOWN: Final = (
    frozenset({"role", "name", "content", "refusal", "tool_calls", "function_call"}) | _REASONING | _LEFT_OUT
)
_TEXTS_OF_DETAILS: Final = ("text", "summary", "data", "signature")
"""Fields of a block of reasoning whose pieces are appended."""
_EXTRAS_OF_CALLS: Final = ("extra_content",)
"""Fields of a tool call that must be sent back with it."""


class _PlainDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    content: str
    role: str | None = None


class _PlainChoice(msgspec.Struct, frozen=True):
    delta: _PlainDelta
    index: Literal[0] | None = None
    logprobs: None = None
    finish_reason: None = None


class _PlainChunk(msgspec.Struct, frozen=True):
    """A chunk with a piece of text and nothing else, as almost all chunks are. It is read in one step, without a
    dict or an event in between: 849 instructions a token in the whole worker, instead of 1,047."""

    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None


_plain_chunks: Final = msgspec.json.Decoder(_PlainChunk)


class _Details:
    """A block of ``reasoning_details``, which comes in pieces."""

    def __init__(self, first: dict[str, Any]) -> None:
        self._fields: dict[str, Any] = {name: first.get(name) for name in ("type", "index") if name in first}
        self._texts: dict[str, Pieces] = {}
        self._left = MAX_KEPT_BYTES

    def takes(self, one: dict[str, Any]) -> bool:
        """Whether this piece belongs to this block."""
        return all(self._fields.get(name) == one.get(name) for name in ("type", "index"))

    def add(self, one: dict[str, Any]) -> None:
        """Add a piece. Texts are appended. Other fields are the same in each piece, or come once."""
        for name, value in one.items():
            if name in _TEXTS_OF_DETAILS and isinstance(value, str):
                self._texts.setdefault(name, Pieces()).add(value)
            elif value is not None and self._fields.get(name) != value and self._left >= 0:
                try:
                    self._left -= len(encoded({name: value}))
                except ValueError:
                    self._left = -1
                self._fields[name] = value

    def whole(self) -> dict[str, Any] | None:
        """The block; None if it is too long to be kept."""
        texts = {name: pieces.text() for name, pieces in self._texts.items()}
        return None if self._left < 0 or None in texts.values() else {**self._fields, **texts}


class OpenAIReader(AnswerReader):
    """See :class:`worker.providers.base.Reader`."""

    def __init__(self) -> None:
        super().__init__()
        self._by_delta = False
        """Whether pieces came as deltas: then a ``message`` after them only repeats them."""
        self._flows = False
        """Whether the last event was plain text: then no surrogate half and no block is open."""
        self._refuses = False
        """Whether the model has said in words that it refuses."""
        self._details: _Details | None = None
        """The block of ``reasoning_details`` that is open."""

    def texts(self, bare: Sequence[bytes]) -> list[Delta] | None:
        """See :class:`worker.providers.base.Reader`."""
        if not self._flows and (self._details or self._halves):
            return None
        try:
            read = map(_plain_chunks.decode, bare)
            texts: list[Delta] = [{"text": text} for chunk in read if (text := chunk.choices[0].delta.content)]
        except UNREADABLE:
            return None
        if not self._flows:
            self._flows = self._by_delta = True
        return texts

    def last(self) -> Iterator[Said]:
        """See :class:`worker.providers.formats.reader.AnswerReader`."""
        yield from super().last()
        yield from self._close_details()

    def _is_whole(self, value: dict[str, Any]) -> bool:
        return any("message" in choice for choice in objects_of(value.get("choices")))

    def _meaning(self, value: dict[str, Any], event: str) -> Iterator[ProviderEvent]:
        self._flows = False
        self._answer = self._answer or text_of(value.get("id"))
        usage = value.get("usage")
        if usage is None:
            usage = object_of(value.get("x_groq")).get("usage")
        for choice in objects_of(value.get("choices")):
            # One answer was requested; null and 0 both mean the first.
            if not count_of(choice.get("index")):
                yield from self._choice(choice)
                usage = choice.get("usage") if usage is None else usage
        if isinstance(usage, dict):
            yield _read_usage(usage)

    def _choice(self, choice: dict[str, Any]) -> Iterator[ProviderEvent]:
        delta, message = choice.get("delta"), choice.get("message")
        if delta and isinstance(delta, dict | list | str):
            self._by_delta = True
            yield from self._piece(delta)
        elif message and not self._by_delta:
            yield from self._piece(message)
        elif choice.get("text") and not self._by_delta:  # the older completions
            yield from self._said("text", text_of(choice["text"]))
        if logprobs := choice.get("logprobs"):
            yield from self._others.keep("logprobs", logprobs)
        if error := choice.get("error"):
            raise error_of({"error": error})
        if (reason := finish_of(choice.get("finish_reason"))) is not None:
            yield from self._close_details()
            if reason == "tool_calls":
                yield from self._calls.last(self._answer)
            yield Finish(reason)

    def _piece(self, delta: Any) -> Iterator[Said]:
        if not isinstance(delta, dict):
            delta = {"content": delta}
        content, refusal, calls = delta.get("content"), delta.get("refusal"), delta.get("tool_calls")
        if not _REASONING.isdisjoint(delta):
            yield from self._reasoning(delta)
        if self._details and (content or calls) and not delta.get("reasoning_details"):
            yield from self._close_details()
        if content or content == 0:
            yield from self._content("text", content)
        if refusal:
            if not self._refuses:
                self._refuses = True
                yield from self._others.keep("refusal", {})
            yield from self._content("text", refusal)
        if calls:
            positions: set[int | None] = set()
            for call in objects_of(calls):
                yield from self._call(call, positions)
        if function := object_of(delta.get("function_call")):
            _, said = self._call_piece(0, None, function.get("name"), function.get("arguments"))
            yield from said
        if not _KNOWN.issuperset(delta):
            for name, value in delta.items():
                if value and name not in _KNOWN:
                    yield from self._others.keep(name, value)

    def _reasoning(self, delta: dict[str, Any]) -> Iterator[Said]:
        details = objects_of(delta.get("reasoning_details"))
        # Some gateways send the same reasoning under both names, and again in the details.
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if not reasoning:
            reasoning = "".join(text_of(one.get("text") or one.get("summary")) for one in details)
        if reasoning:
            yield from self._content("reasoning", reasoning)
        for one in details:
            if self._details is None or not self._details.takes(one):
                yield from self._close_details()
                self._details = _Details(one)
            self._details.add(one)

    def _close_details(self) -> Iterator[Said]:
        if self._details is not None:
            details, self._details = self._details.whole(), None
            kept = "reasoning_details"
            yield from self._others.omit(kept) if details is None else self._others.keep(kept, [details])

    def _content(self, kind: str, content: Any, depth: int = MAX_PARTS_DEPTH) -> Iterator[Said]:
        """Content as a text, or as parts: texts, thinking, and parts that fit no other kind of delta."""
        if not isinstance(content, list | dict):
            if said := self._whole_pairs(kind, text_of(content)):
                yield Said({kind: said})
            return
        for part in (content if isinstance(content, list) else [content]) if depth else ():
            if not isinstance(part, dict):
                yield from self._content(kind, part, depth - 1)
                continue
            thinking = part.get("thinking") or part.get("reasoning")
            text = part.get("text") or part.get("content") or part.get("refusal")
            if thinking:
                yield from self._content("reasoning", thinking, depth - 1)
            elif part.get("type") in ("thinking", "reasoning", "reasoning_text", "summary_text"):
                yield from self._content("reasoning", text, depth - 1)
            elif isinstance(text, str | list | dict):
                yield from self._content(kind, text, depth - 1)
            elif part:
                kept = part.get("type")
                yield from self._others.keep(kept if isinstance(kept, str) else "content", part)

    def _call(self, call: dict[str, Any], positions: set[int | None]) -> Iterator[Said]:
        """A piece of a tool call. ``positions``: the provider's indexes of earlier pieces in the same chunk."""
        function = object_of(call.get("function") or call.get("custom")) or call
        arguments = function.get("arguments") if "arguments" in function else function.get("input")
        position = count_of(call.get("index"))
        # Without an index, two names in one chunk mean two calls.
        anew = position is None and None in positions and bool(function.get("name")) and not call.get("id")
        positions.add(position)
        index, said = self._call_piece(position, call.get("id"), function.get("name"), arguments, anew=anew)
        yield from said
        for name in _EXTRAS_OF_CALLS:
            if extra := object_of(call.get(name)):
                yield from self._others.keep(name, {"tool_call": index, **extra})


def _read_usage(usage: dict[str, Any]) -> Usage:
    """Usage under OpenAI's names, DeepSeek's own name for cached tokens, or Anthropic's names (some gateways)."""
    taken = object_of(usage.get("prompt_tokens_details"))
    given = object_of(usage.get("completion_tokens_details"))

    def first(*values: Any) -> int | None:
        return next((count for value in values if (count := count_of(value)) is not None), None)

    return Usage(
        input_tokens=first(usage.get("prompt_tokens"), usage.get("input_tokens")),
        output_tokens=first(usage.get("completion_tokens"), usage.get("output_tokens")),
        cached_tokens=first(
            taken.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens")
        ),
        reasoning_tokens=first(given.get("reasoning_tokens"), usage.get("reasoning_tokens")),
    )
