"""What the readers of all wire formats have in common. Pure, no I/O.

Theory of operation. A reader takes what it understands, and an odd field never costs the text. A value of another
type than documented is converted if its meaning is plain (a number as text, a text as a number, an object as JSON),
and left out if it is not. An event that begins like JSON but is not JSON was cut, and is garbage. A bare word is a
sign of life.

*Text.* JSON may contain half of a surrogate pair, and some providers split a pair between two pieces. A half at the
end of a piece waits for the next piece of its kind. A half that stays alone becomes U+FFFD.

*Tool calls.* The index that a provider gives does not identify a call: some providers give one index to all calls,
or none. A new id that is not empty opens a call. A piece without an index belongs to the last call. The index that
viewers see is our own count (:class:`Calls`). An input may come both in pieces and whole, at the start or at the
end. It is reported once.

*The end.* Some things are known only at the answer's end: that a call has no arguments or no id, that a half has no
other half, that a block of reasoning is complete. :meth:`AnswerReader.last` gives them.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2s
from typing import Any, Final

import msgspec

from shared.protocol.events import encode_data
from shared.protocol.json_depth import levels
from shared.protocol.sse import ServerSentEvent
from worker.providers.base import End, Finish, FinishReason, ProviderError, ProviderEvent, Reader, Said
from worker.providers.errors import ErrorInAnswer, is_error_object, read_error

MAX_COUNT: Final = 2**53
"""The largest integer that a browser counts exactly. No answer has that many tokens."""
MAX_BARE_WORD: Final = 200
"""The most characters of a sign of life that is not JSON: ``ping``, or a few words."""

MAX_PARTS_DEPTH: Final = 16
"""The most levels of parts in which a text is looked for: no gateway wraps it in more than two or three."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""The errors that decoding and encoding foreign JSON may raise."""

MAX_LOOKS: Final = 8
"""How often one call's arguments are parsed to see whether they are complete. Providers repeat them once."""

MAX_KEPT_BYTES: Final = 1024 * 1024
"""The most bytes of one answer that are kept for parts that fit no other kind of delta: as much as a single event
of a provider may hold. More than that (an image, or the pages that a search found) would take more memory than
everything that the model says."""

_anything: Final = msgspec.json.Decoder()
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ENDS_HALF: Final = re.compile("[\ud800-\udbff]\\Z")


# -- JSON -------------------------------------------------------------------------------------------------


def decode(raw: str | bytes) -> Any:
    """Any JSON; None if it can't be read. Strings may hold lone surrogates, and NaN becomes null."""
    try:
        return _anything.decode(raw)
    except UNREADABLE:
        pass
    try:
        return json.loads(raw, strict=False, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def encoded(value: Any) -> bytes:
    """A foreign value as JSON. Raises ValueError if it nests too deep or can't be written."""
    for _ in levels(value):
        pass
    try:
        try:
            return encode_data(value)
        except UnicodeEncodeError:
            return encode_data(_mended(value))
    except (*UNREADABLE, OverflowError) as error:
        raise ValueError("this can't be written as JSON") from error


def mended(text: str) -> str:
    """The text with its surrogate pairs joined, and U+FFFD for each lone half."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return [_mended(one) for one in value]
    if isinstance(value, dict):
        return {mended(name): _mended(one) for name, one in value.items()}
    return value


# -- fields -----------------------------------------------------------------------------------------------


def text_of(value: Any, depth: int = MAX_PARTS_DEPTH) -> str:
    """A value as text: a number or a boolean as it is written, a list or a part as the text in it; '' for anything
    else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and depth:
        return "".join(text_of(one, depth - 1) for one in value)
    return text_of(value.get("text"), depth - 1) if isinstance(value, dict) and depth else ""


def name_of(value: Any) -> str:
    """A name or an id as text, with its surrogate pairs joined; '' for anything else."""
    return mended(text_of(value)) if isinstance(value, str | int) else ""


def count_of(value: Any) -> int | None:
    """A count of tokens, or an index; None for anything else."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_COUNT:
        return None
    return int(value)


def object_of(value: Any) -> dict[str, Any]:
    """The value if it is an object, else {}."""
    return value if isinstance(value, dict) else {}


def objects_of(value: Any) -> list[dict[str, Any]]:
    """The objects of a list. A single object counts as a list of one."""
    if isinstance(value, dict):
        return [value]
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def arguments_of(value: Any) -> str:
    """A tool's arguments, or a piece of them, as text. Some providers send an object."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return encoded(value).decode()
    except ValueError:
        return ""


# -- why an answer ends -----------------------------------------------------------------------------------

_REASONS: Final[dict[FinishReason, str]] = {
    "stop": "stop end_turn stop_sequence eos eos_token end_of_text end_of_turn end complete completed finished "
    "done success normal",
    "length": "length max_tokens model_length max_length max_output_tokens max_completion_tokens max_new_tokens "
    "model_context_window_exceeded context_length error_limit",
    "tool_calls": "tool_calls tool_call function_call function_calls tool_use",
    "content_filter": "content_filter content_filtered content_moderation moderation sensitive refusal safety "
    "recitation blocklist prohibited_content spii image_safety blocked image_prohibited_content image_recitation "
    "guardrail_intervened error_toxic",
}
"""The reasons of all formats in one table, because gateways mix them."""
_ENDS: Final[dict[str, FinishReason]] = {
    word: reason for reason, words in _REASONS.items() for word in words.split()
}
_BAD: Final = re.compile(
    r"error|abort|fail|cancel|insufficient|unavailable|time_?d?_?out|malformed|invalid|interrupt|exception|"
    r"overload|unexpected|kill|crash|disconnect|network|internal|missing|too_many|rejected|incomplete"
)
"""Words in an unknown reason that mean that the provider did not end as intended."""
_UNSAID: Final = frozenset({"", "null", "none", "finish_reason_unspecified", "unspecified"})


def finish_of(value: Any, sentence: str = "") -> FinishReason | None:
    """Why the provider ended, in our words; None if it gives no reason. In: its reason, and its sentence about it.

    Raises :class:`ProviderError` for a reason that means a failure. Any other unknown reason is ``other``.
    """
    if isinstance(value, dict):
        value = value.get("reason") or value.get("type")
    if not isinstance(value, str):
        return None
    reason = value.strip().lower().replace("-", "_").replace(" ", "_").removeprefix("finish_reason_")
    if reason in _UNSAID:
        return None
    known = _ENDS.get(reason)
    if known is None and _BAD.search(reason):
        says = f": {sentence}" if sentence else "."
        text = f"The provider broke off, and names {name_of(value)[:80]!r} as the reason{says}"
        raise ProviderError("provider_error_event", text, retryable=True)
    return known or "other"


# -- tool calls -------------------------------------------------------------------------------------------


class _Call:
    """One tool call of an answer, as far as it has arrived."""

    __slots__ = ("_looks", "id", "index", "name", "pieces", "position")

    def __init__(self, index: int, position: int | None) -> None:
        self.index = index
        self.position = position
        """The index that the provider gives it."""
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []
        self._looks = MAX_LOOKS

    def seems_whole(self) -> Any:
        """As :meth:`whole`, but always None after MAX_LOOKS calls, because each one parses all of it."""
        self._looks -= 1
        return self.whole() if self._looks >= 0 else None

    def whole(self) -> Any:
        """Its arguments, if they are a complete object; else None."""
        text = "".join(self.pieces).strip()
        value = decode(text) if text.startswith("{") and text.endswith("}") else None
        return value if isinstance(value, dict) else None


class Calls:
    """The tool calls of one answer: finds the call that a piece belongs to, and gives it our own index."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_position: dict[int | None, _Call] = {}
        """The last call at each of the provider's indexes."""

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def open(self) -> bool:
        """Whether arguments that are an object were begun and are not complete. (The input of custom tools is not
        an object.)"""
        return any(
            call.pieces[0].lstrip().startswith("{") and call.whole() is None for call in self._calls if call.pieces
        )

    def take(
        self,
        *,
        position: int | None = None,
        call_id: str = "",
        name: str = "",
        arguments: str = "",
        anew: bool = False,
        whole: bool = False,
    ) -> tuple[int, list[Said]]:
        """Take one piece. ``position``: the provider's index; ``anew``: it certainly opens a call; ``whole``: it is
        a whole call. Out: our index of its call, and what is new.

        Arguments of ``{}`` wait for the end: some gateways send them first, and the real ones later.
        """
        call = None if anew else self._find(position, call_id, name, arguments)
        if call is None and not (anew or call_id or name or arguments):
            return len(self._calls), []  # an empty piece opens no call
        if call is None:
            call = _Call(len(self._calls), position)
            self._calls.append(call)
            self._by_position[position] = call
            if call_id in self._by_id:
                call_id = ""  # another call has this id; this one gets an id at the end
        if whole:
            arguments = arguments or "{}"
            call.id = call_id or _made_id(call.index, name, arguments)
            self._by_id.setdefault(call.id, call)
            call.name, call.pieces = name, [arguments]
            told = {"index": call.index, "id": call.id, **({"name": name} if name else {}), "arguments": arguments}
            return call.index, [Said({"tool_call": told})]
        return call.index, self._told(call, position, call_id, name, arguments)

    def add(self, index: int, arguments: str) -> list[Said]:
        """Add a piece of arguments to the call with this index of ours."""
        return self._told(self._calls[index], None, "", "", arguments)

    def complete(self, index: int, arguments: str) -> list[Said]:
        """The call is complete. ``arguments``: all of them, used if none came in pieces."""
        call = self._calls[index]
        if call.pieces:
            return []
        call.pieces.append(arguments or "{}")
        return [Said({"tool_call": {"index": index, "arguments": arguments or "{}"}})]

    def last(self, answer: str) -> Iterator[Said]:
        """What calls still lack at the answer's end: an id, made from the answer's id, and arguments."""
        for call in self._calls:
            said = {}
            if not call.id:
                call.id = said["id"] = _made_id(call.index, call.name, answer + "".join(call.pieces))
            if not call.pieces:
                call.pieces.append("{}")
                said["arguments"] = "{}"
            if said:
                yield Said({"tool_call": {"index": call.index, **said}})

    def _find(self, position: int | None, call_id: str, name: str, arguments: str) -> _Call | None:
        at = self._at(position)
        if call_id:
            if at is not None and not name and position is not None and at.id in ("", call_id):
                return at
            call = self._by_id.get(call_id)
            if call is not None and (not name or position is None or call.position in (None, position)):
                return call
            # A call's id may come after its first piece.
            return at if at is not None and not at.id and (not name or not at.name) else None
        if at is None or not (name and at.name):
            return at
        if name != at.name:
            return None
        whole = at.seems_whole()  # the same name again: it is repeated, or there is another call of the same tool
        return at if whole is None or not arguments or decode(arguments) == whole else None

    def _at(self, position: int | None) -> _Call | None:
        last = self._calls[-1] if self._calls else None
        if position is None or last is None or last.position == position:
            return last
        # A call that began without an index may get one with a later piece.
        known = self._by_position.get(position)
        return last if known is None and last.position is None else known

    def _told(self, call: _Call, position: int | None, call_id: str, name: str, arguments: str) -> list[Said]:
        said: dict[str, Any] = {}
        if call.position is None and position is not None:
            call.position = position
            if (known := self._by_position.get(position)) is None or known.index < call.index:
                self._by_position[position] = call
        if call_id and not call.id:
            call.id = said["id"] = call_id
            self._by_id[call_id] = call
        if name and not call.name:
            call.name = said["name"] = name
        if (
            arguments
            and not (not call.pieces and arguments.strip() in ("{}", "null"))
            and not _repeats(call, arguments)
        ):
            call.pieces.append(arguments)
            said["arguments"] = arguments
        return [Said({"tool_call": {"index": call.index, **said}})] if said else []


def _made_id(*parts: Any) -> str:
    """An id for a call without one. The same answer gives the same id, another answer another id."""
    made = "/".join(map(str, parts)).encode("utf-8", "replace")
    return f"call_{blake2s(made, digest_size=9).hexdigest()}"


def _repeats(call: _Call, arguments: str) -> bool:
    """Whether a piece repeats complete arguments. Parsed only if it begins like an object and the last piece ended
    like one."""
    if not (call.pieces and arguments.lstrip().startswith("{") and call.pieces[-1].rstrip().endswith("}")):
        return False
    whole = call.seems_whole()
    return whole is not None and decode(arguments) in (whole, {})


# -- other parts --------------------------------------------------------------------------------------


class Others:
    """Parts that fit no other kind of delta (:mod:`shared.protocol.events`), kept unchanged, within a bound.

    When an answer has reached the bound, one part of type ``omitted`` says so, and nothing more is kept.
    """

    __slots__ = ("_left",)

    def __init__(self, most: int = MAX_KEPT_BYTES) -> None:
        self._left = most

    def omit(self, kind: str) -> Iterator[Said]:
        """A part that says that a thing of this kind was left out."""
        if self._left >= 0:
            yield Said({"provider": {"type": "omitted", "data": mended(kind)}})

    def keep(self, kind: str, data: Any) -> Iterator[Said]:
        """One part, with the provider's own name for it. Data that nests too deep for some readers is left out, and
        ``omitted`` says so."""
        if self._left < 0:
            return
        kind = mended(kind)
        delta: dict[str, Any] = {"provider": {"type": kind, "data": data}}
        omitted = Said({"provider": {"type": "omitted", "data": kind}})
        try:
            for _ in levels(data):
                pass
            try:
                size = len(encode_data(delta))
            except UnicodeEncodeError:
                delta = _mended(delta)
                size = len(encode_data(delta))
        except (*UNREADABLE, OverflowError, ValueError):
            yield omitted
            return
        self._left -= size
        yield Said(delta) if self._left >= 0 else omitted


class Pieces:
    """A text that comes in pieces and is kept whole, up to MAX_KEPT_BYTES characters. A longer text is dropped."""

    __slots__ = ("_left", "_pieces")

    def __init__(self, text: str | None = "") -> None:
        """``text``: the first piece; None for a text that was too long."""
        self._left = MAX_KEPT_BYTES if text is not None else -1
        self._pieces: list[str] = []
        self.add(text or "")

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, text: str) -> None:
        self._left -= len(text)
        if self._left < 0:
            self._pieces.clear()
        elif text:
            self._pieces.append(text)

    def text(self) -> str | None:
        """The whole text; None if it was too long."""
        return "".join(self._pieces) if self._left >= 0 else None


# -- one answer -------------------------------------------------------------------------------------------


class AnswerReader(Reader):
    """The common part of all formats' readers. A format defines the meaning of one decoded object
    (:meth:`_meaning`)."""

    def __init__(self) -> None:
        self._others = Others()
        self._calls = Calls()
        self._halves: dict[str, str] = {}
        self._answer = ""
        """The answer's id, if the provider gives one."""

    @property
    def open(self) -> bool:
        """See :class:`worker.providers.base.Reader`."""
        return self._calls.open

    def read(self, event: ServerSentEvent) -> Iterator[ProviderEvent]:
        """The meaning of one event, in its order; it may be empty.

        Raises :class:`ProviderError`, with the code of the error's subject, ``provider_error_event`` if it may
        pass, or ``provider_garbage`` for incomplete JSON."""
        try:  # nearly every event takes this path, without a generator around another
            value = _anything.decode(event.data)
        except UNREADABLE:
            value = None
        if type(value) is dict and event.event != "error" and not is_error_object(value):
            return self._meaning(value, event.event)
        return self._read_odd(event.data.strip(), event.event)

    def _read_odd(self, data: str, event: str) -> Iterator[ProviderEvent]:
        if event == "error":
            raise error_of(data)
        if not data:
            return
        value = decode(data)
        if value is None and "\n" in data:  # some gateways leave out the blank lines between events
            for line in data.splitlines():
                yield from self._line(line.strip(), event)
        elif value is None:
            yield from self._line(data, event)
        else:
            yield from self._value(value, event)

    def whole(self, value: Any) -> Iterator[ProviderEvent]:
        """See :class:`worker.providers.base.Reader`. In: an object, or a list of them (Gemini's without SSE). A
        whole answer has ended, even if it gives no reason."""
        reasoned = False
        for meaning in self._value(value, "message"):
            reasoned = reasoned or isinstance(meaning, Finish)
            yield meaning
        if not reasoned and any(self._is_whole(one) for one in objects_of(value)):
            yield Finish("other")

    def last(self) -> Iterator[Said]:
        """What is known only at the answer's end, with or without an end mark. Called once."""
        for kind in ("reasoning", "text"):
            yield from self._said(kind, "", at_end=True)
        yield from self._calls.last(self._answer)

    def _is_whole(self, value: dict[str, Any]) -> bool:
        """Whether one object is a whole answer, and not a piece of one."""
        return False

    def _meaning(self, value: dict[str, Any], event: str) -> Iterator[ProviderEvent]:
        """The meaning of one object. ``event``: the name of the event that carried it."""
        raise NotImplementedError

    def _line(self, data: str, event: str) -> Iterator[ProviderEvent]:
        if data.casefold() == "[done]":
            yield from self._end()
            return
        value = decode(data)
        if value is not None:
            yield from self._value(value, event)
        elif (reading := read_error(data)) is not None:
            raise ErrorInAnswer(reading)
        elif len(data) > MAX_BARE_WORD or any(sign in data for sign in '{}["<'):
            raise ProviderError(
                "provider_garbage", "The provider sent an event that can't be read.", retryable=True
            )

    def _end(self) -> Iterator[ProviderEvent]:
        yield from self.last()
        yield End()

    def _value(self, value: Any, event: str) -> Iterator[ProviderEvent]:
        for one in objects_of(value):
            if not is_error_object(one):
                yield from self._meaning(one, event)
                continue
            if "choices" in one or "candidates" in one:
                with suppress(ProviderError):  # its finish reason may report the same error with fewer words
                    yield from self._meaning(one, event)
            raise error_of(one)

    def _said(self, kind: str, text: str, *, at_end: bool = False) -> Iterator[Said]:
        """A delta of text or reasoning, with its surrogate pairs joined."""
        if text := self._whole_pairs(kind, text, at_end=at_end):
            yield Said({kind: text})

    def _whole_pairs(self, kind: str, text: str, *, at_end: bool = False) -> str:
        """A piece with its surrogate pairs joined. A half at its end waits for the next piece of this kind."""
        if not self._halves and _SURROGATE.search(text) is None:
            return text
        text = self._halves.pop(kind, "") + text
        if not at_end and _ENDS_HALF.search(text):
            text, self._halves[kind] = text[:-1], text[-1]
        return mended(text)

    def _call_piece(
        self,
        position: int | None,
        call_id: Any,
        name: Any,
        arguments: Any,
        *,
        anew: bool = False,
        whole: bool = False,
    ) -> tuple[int, list[Said]]:
        """A piece of a tool call as it came. Out: our index of the call, and what is new."""
        # The calls need not be told apart here: a pair is never split between the pieces of two calls.
        piece = self._whole_pairs("arguments", arguments_of(arguments))
        return self._calls.take(
            position=position, call_id=name_of(call_id), name=name_of(name), arguments=piece, anew=anew, whole=whole
        )


def error_of(value: Any) -> ProviderError:
    """The error in this value, which may have any shape."""
    reading = read_error(value, is_error=True)
    assert reading is not None
    return ErrorInAnswer(reading)
