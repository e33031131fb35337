"""One answer of a provider: bytes in, batches of deltas out. Pure, no I/O; times are passed in.

Theory of operation. An answer is a state machine, as h11 is one for HTTP. :meth:`StreamDecoder.feed` and
:meth:`StreamDecoder.feed_eof` take what the connection brought, :meth:`StreamDecoder.read` gives the deltas, and
:meth:`StreamDecoder.expire` ends an answer whose time is over. After the end nothing changes the answer any more.

*What ends an answer.* A finish reason is a hint. Some providers send it with every chunk, or together with the
reasoning, long before the text. Text, reasoning or a tool call after a reason makes it void. The end is one of
three: the provider's end mark, the end of the body, or a bounded silence after a reason. The length of that silence
depends on how far the reason can be trusted. A reason is trusted if it was alone in its event, followed text or a
tool call, and the provider has never taken one back; then END_WAIT_S of silence are enough. After any other reason
it is the idle timeout. A silence with an open tool call, part or reasoning is no success. After a trusted reason
errors are ignored, because the answer is complete; after any other reason they count.

Without a reason an end mark is an end (``other``). The end of the body is not: the provider broke off.

*Timeouts.* The first-token timeout and the idle timeout are about content. Everything else (comments, pings,
encrypted reasoning) is a sign of life. It extends the deadline, up to the liveness timeout since the last content;
after a trusted reason it extends nothing. The longest time for which data lay unread since the last content does
not count, because the delay was ours. (Not the sum of these times: data of a provider that sends without a pause is
always unread for a moment.)

*Bounds.* An answer that exceeds its bytes, its tool calls or the length of their names ends with the reason
``length`` and names the limit. An event that is too large is skipped, with a part ``omitted``. One feed takes
TAKE_BYTES at most, and the rest waits for the next one (``behind``), so that no answer delays the others of its
worker. Everything that is not content passes a token bucket: a provider that sends meaningless lines as fast as it
can is given up after some 16,000 of them, long before any timeout.
"""

from collections.abc import Iterable
from operator import itemgetter
from typing import Final, NamedTuple

from shared.config.providers import Provider
from shared.protocol.events import Delta, encode_data
from shared.protocol.sse import LOOSE, OMITTED, ServerSentEvent, SseError, SseParser
from shared.protocol.transcript import PIECE, split_delta
from worker.providers import failures
from worker.providers.base import (
    Batch,
    End,
    Finish,
    FinishReason,
    GenerationRequest,
    ProviderError,
    ProviderEvent,
    Reader,
    Said,
    Usage,
)
from worker.providers.errors import ErrorInAnswer, empty_answer, read_error, to_provider_error
from worker.providers.formats.reader import decode
from worker.providers.http.encodings import BadEncoding, inflater

END_WAIT_S: Final = 5.0
"""Usage and the end follow a finish reason at once. A provider that never closes sends neither after this time."""
MAX_TOOL_CALLS: Final = 1024
"""No provider runs a thousand tool calls in one answer."""
MAX_NAME: Final = 1024
"""The most characters of a tool call's id or name. Gemini's ids are the longest, with some hundred."""
SEAM_BYTES: Final = 128
"""Counted in addition to a delta's bytes if it can't be joined to the one before it. It is then an entry of its own
in the log, a line in the snapshot, and an object for each reader."""
TAKE_BYTES: Final = 32 * 1024
"""The most bytes of one feed. With the smallest events they take 2 to 5 ms of the worker's event loop."""

LINE_WEIGHT: Final = 256
"""The weight of a line without content, in bytes, because reading a line takes a microsecond or more."""
MAX_NOISE_WEIGHT: Final = 4 * 1024 * 1024
"""The size of the token bucket for noise (everything that is not content), in bytes: some events of the largest
size, or 16,000 lines, which take 20 to 100 ms. Bytes that the parser skips do not count; they have their own
bound."""
NOISE_WEIGHT_PER_S: Final = 128 * 1024
"""The rate of noise that is allowed for long: 500 lines a second. Providers that send an empty delta for each token
of a secret reasoning send 300."""
NOISE_WEIGHT_PER_BYTE: Final = 2 * 1024
"""The noise that is allowed for each byte of content: more than the lines that come with it in any wire format."""

_text_of = itemgetter("text")
_STARTS: Final = (b"data", b"event", b"id", b"retry", b"error", b":", b"{", b"[")
"""How a stream of events, or a JSON document, begins."""


class AnswerLimits(NamedTuple):
    """The limits of one answer: seconds to its first token, between tokens, and without any content; and its size
    in bytes (texts in UTF-8, everything else as JSON)."""

    first_token_s: float
    idle_s: float
    liveness_s: float
    max_bytes: int


class StreamDecoder:
    """One answer (see above). ``behind``: bytes wait here for the next feed. ``sooner``: bytes wait, or the
    deadline may have moved nearer since it was last read."""

    def __init__(
        self,
        provider: Provider,
        reader: Reader,
        limits: AnswerLimits,
        now: float,
        *,
        kind: str = "text/event-stream",
        encoding: str = "",
        request: GenerationRequest | None = None,
    ) -> None:
        """``kind`` and ``encoding``: of the body, from the response's head. If ``request`` continues a text, the
        answer may be empty."""
        self._provider = provider
        self._request = request
        self._reader = reader
        self._limits = limits
        self._max_bytes = limits.max_bytes
        self._kind = kind
        self._inflate = inflater(encoding)
        self._parser = SseParser(liberal=True)
        self._may_be_empty = request is not None and bool(request.prefix)
        self._unsniffed: bytes | None = None if kind == "text/event-stream" else b""
        self._raw = self._inflate is not None or self._unsniffed is not None
        """Whether the bytes must be unpacked or inspected first."""
        self._understood = False

        self._deltas: list[Delta] = []
        self._usage: Usage | None = None
        self._new_usage: Usage | None = None
        self._ending: Batch | None = None
        self.ended = False

        self._said = False
        self._last = ""
        """The kind of the last delta."""
        self._flows = False
        """Whether text came last, and no finish reason since."""
        self._size = 0
        self._calls: set[int] = set()
        self._last_call = 0
        self._finish: FinishReason | None = None
        self._trusted = False
        self._took_back = False

        self.sooner = True
        self._timeout_s = limits.first_token_s
        self._content_at = self._heard_at = now
        self._held_s = 0.0
        self._held_since = now
        """The time of the content since which ``_held_s`` was measured."""
        self._noise = 0.0
        self._weighed_at = now
        self._weighed_size = 0
        self._waiting = b""
        self.behind = False

    # -- in -----------------------------------------------------------------------------------------

    def feed(self, data: bytes, now: float, unread_s: float = 0.0) -> None:
        """Take bytes of the body, which lay unread for ``unread_s`` seconds. While the answer is ``behind``, it
        must be fed b""."""
        if self.ended:
            return
        self._heard_at = now
        if self._raw and data:
            data = self._unpacked(data)
        if not data:
            data, self._waiting, self.behind = self._waiting, b"", False
        if long := len(data) > PIECE:
            data = self._some_of(data)
        bare = self._parser.bare(data)
        if bare is None:
            if self._within_noise_bound(data, now, unread_s):
                self._read(self._parser.feed(data), now)
        elif (texts := self._reader.texts(bare)) is None:
            if self._within_noise_bound(data, now, unread_s):
                self._read(self._parser.messages(bare), now)
        elif not texts:
            self._within_noise_bound(data, now, unread_s)
        else:
            if not self._flows:
                self._begin("text")
            self._content_at = now
            if long:
                texts = [piece for text in texts for piece in split_delta(text)]
            self._size += len("".join(map(_text_of, texts)).encode("utf-8", "surrogatepass"))
            if self._deltas:
                self._deltas += texts
            else:
                self._deltas = texts
            if self._size > self._max_bytes:
                self._limit("answer_bytes")

    def feed_eof(self, now: float, *, cut: bool) -> None:
        """The body has ended, or (``cut``) was cut off before its end. Ignored while the answer is ``behind``."""
        if self.ended or self.behind:
            return
        if self._unsniffed:
            self._read(self._parser.feed(self._sniff(b"", last=True)), now)
        if not cut and not self.ended and (last := self._parser.finish()) is not None:
            self._read((last,), now)
        if self.ended:
            return
        if not (self._understood or self._said) and self._kind != "text/event-stream":
            self._fail(failures.unreadable(self._provider, self._kind))
        elif self._finish is None or (cut and self._is_open):
            self._fail(failures.upstream_cut(self._provider))
        else:
            self._end_unmarked(self._finish)

    @property
    def deadline(self) -> float:
        """When :meth:`expire` ends this answer, if no content comes."""
        since = self._content_at + (self._held_s if self._held_since == self._content_at else 0.0)
        if self._trusted:
            return since + END_WAIT_S
        return min(self._heard_at + self._timeout_s, since + max(self._timeout_s, self._limits.liveness_s))

    def expire(self, now: float) -> None:
        """End the answer if its deadline has passed. Everything that came must have been fed."""
        if self.ended or now < self.deadline:
            return
        silent = failures.upstream_silent if self._said else failures.first_token_timeout
        self._give_up(silent(self._provider))

    def _give_up(self, error: ProviderError) -> None:
        """No more content comes. After a finish reason this is the end, without one it is an error."""
        if self._finish is not None and not self._is_open:
            self._end_unmarked(self._finish)
        else:
            self._fail(error)

    # -- out ----------------------------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether :meth:`read` would give a delta, or the end."""
        return bool(self._deltas) or self.ended

    @property
    def failed_unsaid(self) -> ProviderError | None:
        """The error of an answer that ended before any content; else None."""
        return None if self._said or self._ending is None else self._ending.error

    def read(self) -> Batch:
        """What came since the last call. After the end every call gives the end again."""
        deltas, self._deltas = self._deltas, []
        usage, self._new_usage = self._new_usage, None
        if self._ending is None:
            return Batch(deltas, None, usage)
        ending = self._ending
        return Batch(deltas, ending.finish, usage, ending.error, limit=ending.limit, ended=True)

    # -- between ------------------------------------------------------------------------------------

    def _some_of(self, data: bytes) -> bytes:
        """The bytes that one feed takes, cut between events if possible. The rest waits."""
        cut = len(data)
        if cut > TAKE_BYTES:
            cut = data.rfind(b"\n\n", 0, TAKE_BYTES) + 2
            cut = TAKE_BYTES if cut == 1 else cut
            self.sooner = True
        self._waiting = data[cut:]
        self.behind = bool(self._waiting)
        return data[:cut]

    def _within_noise_bound(self, data: bytes, now: float, unread_s: float) -> bool:
        """Count these bytes, which may have no content, as noise. Out: whether the noise is still within its
        bound."""
        if self._held_since != self._content_at:
            self._held_since, self._held_s = self._content_at, 0.0
        self._held_s = max(self._held_s, unread_s)
        made_up = NOISE_WEIGHT_PER_S * (now - self._weighed_at)
        made_up += NOISE_WEIGHT_PER_BYTE * (self._size - self._weighed_size)
        self._weighed_at, self._weighed_size = now, self._size
        lines = data.count(b"\n") + data.count(b"\r")
        weight = LINE_WEIGHT * lines + (0 if self._parser.skipping else len(data))
        self._noise = max(0.0, self._noise - made_up) + weight
        if self._noise <= MAX_NOISE_WEIGHT:
            return True
        self._give_up(failures.noise(self._provider))
        return False

    def _unpacked(self, data: bytes) -> bytes:
        if self._inflate is not None:
            try:
                data = self._inflate(data)
            except BadEncoding:
                self._fail(failures.garbage(self._provider, "in an encoding that can't be read"))
                return b""
        if self._unsniffed is not None:
            data = self._sniff(data)
            self._raw = self._inflate is not None or self._unsniffed is not None
        return data

    def _sniff(self, data: bytes, *, last: bool = False) -> bytes:
        """Inspect the first bytes of a body whose content type is not that of events. Out: the bytes to parse
        now."""
        assert self._unsniffed is not None
        data = self._unsniffed + data
        begins = data.removeprefix(b"\xef\xbb\xbf").lstrip()
        if begins.startswith(_STARTS):
            self._unsniffed = None
            return data
        if not last and (not begins or any(start.startswith(begins) for start in _STARTS) or len(data) < 3):
            self._unsniffed = data[-1024:]
            return b""
        self._unsniffed = None
        self._fail(failures.unreadable(self._provider, self._kind))
        return b""

    def _read(self, events: Iterable[ServerSentEvent], now: float) -> None:
        try:
            for event in events:
                if not self.ended:
                    self._take(event, now)
        except SseError:
            self._fail(failures.too_large(self._provider))

    def _take(self, event: ServerSentEvent, now: float) -> None:
        said = False
        try:
            for meaning in self._meanings(event):
                self._understood = True
                if isinstance(meaning, Said):
                    said = True
                    self._say(meaning.delta, now)
                elif isinstance(meaning, Finish):
                    self._hint(meaning.reason, now, alone=not said)
                elif isinstance(meaning, Usage):
                    self._usage = self._new_usage = meaning
                elif isinstance(meaning, End):
                    self._end(self._finish or "other")
                if self.ended:
                    return
        except ProviderError as error:
            if not self._trusted:
                self._fail(error)

    def _meanings(self, event: ServerSentEvent) -> Iterable[ProviderEvent]:
        """Raises ProviderError, after the meanings that came before the error."""
        if event.event == OMITTED:
            return (Said({"provider": {"type": "omitted", "data": "event"}}),)
        return self._whole(event) if event.event == LOOSE else self._reader.read(event)

    def _whole(self, event: ServerSentEvent) -> Iterable[ProviderEvent]:
        """JSON that is not an event: a whole answer, an error, or (between events) something without a meaning."""
        value = decode(event.data)
        if (reading := read_error(value)) is not None:
            raise to_provider_error(reading, self._provider, in_stream=self._said)
        if value is None:  # several lines, each an object
            value = [decode(line) for line in event.data.splitlines()]
        return self._reader.whole(value)

    def _say(self, delta: Delta, now: float) -> None:
        kind = next(iter(delta))
        self._begin(kind)
        self._content_at = now
        self._size += len(delta["text"].encode("utf-8", "surrogatepass")) if kind == "text" else _size_of(delta)
        if kind == "tool_call":
            call = delta["tool_call"]
            if call["index"] != self._last_call:
                self._last_call = call["index"]
                self._size += SEAM_BYTES
            self._calls.add(call["index"])
            if len(self._calls) > MAX_TOOL_CALLS or any(len(call.get(n, "")) > MAX_NAME for n in ("id", "name")):
                self._limit("tool_calls")
                return
        self._deltas += split_delta(delta)
        if self._size > self._max_bytes:
            self._limit("answer_bytes")

    def _begin(self, kind: str) -> None:
        """Content of this kind begins. It makes an earlier finish reason void, unless it is a part in the
        provider's own form (such as its sources), which may follow a reason."""
        if self._finish is not None and kind != "provider":
            self._finish, self._trusted, self._took_back = None, False, True
        if self._finish is None and self._timeout_s != self._limits.idle_s:
            self._timeout_s, self.sooner = self._limits.idle_s, True
        if kind != self._last:
            self._size += SEAM_BYTES
        self._last, self._flows = kind, kind == "text" and self._finish is None
        self._said = True

    def _hint(self, reason: FinishReason, now: float, *, alone: bool) -> None:
        if self._finish is not None and self._trusted:  # some gateways repeat the reason with the usage
            return
        self._finish, self._flows = reason, False
        self._trusted = alone and not self._took_back and self._last in ("text", "tool_call") and not self._is_open
        self._content_at = now
        self._timeout_s = END_WAIT_S if self._trusted else self._limits.idle_s
        self.sooner = True

    @property
    def _is_open(self) -> bool:
        return self._last == "reasoning" or self._reader.open

    def _limit(self, what: str) -> None:
        """A bound is exceeded: drop what exceeds it, and end the answer."""
        over = self._size - self._max_bytes
        while over > 0 and self._deltas:
            over -= _size_of(self._deltas.pop())
        self._finish_with(Batch([], "length", limit=what))

    def _end_unmarked(self, reason: FinishReason) -> None:
        """The answer ends without an end mark, so the reader's last deltas are added here."""
        for meaning in self._reader.last():
            self._said = True
            self._deltas.append(meaning.delta)
        self._end(reason)

    def _end(self, reason: FinishReason) -> None:
        silent = not self._said and not self._may_be_empty and reason not in ("length", "content_filter")
        if silent and (self._usage is None or self._usage.output_tokens != 0):
            self._fail(empty_answer(self._provider))
        else:
            self._finish_with(Batch([], reason))

    def _fail(self, error: ProviderError) -> None:
        if isinstance(error, ErrorInAnswer):
            error = error.by(self._provider)
        self._finish_with(Batch([], error=failures.cleaned(error, self._provider.api_key, self._request)))

    def _finish_with(self, ending: Batch) -> None:
        self._ending, self.ended, self._waiting, self.behind = ending, True, b"", False


def _size_of(delta: Delta) -> int:
    text = delta.get("text")
    return len(encode_data(delta) if text is None else text.encode("utf-8", "surrogatepass"))
