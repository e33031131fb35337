"""What every provider adapter offers: a request becomes an HTTP call, and the response becomes normalised events.

An adapter owns one wire format. It is a pure function from a request to an HTTP call, and from the response's
events to the events below. Connecting, retrying and timeouts are the same for all adapters: see
:mod:`worker.providers.client`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from shared.config.providers import Continues, Quirks
from shared.protocol.events import Delta
from shared.protocol.sse import ServerSentEvent

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]


class Said(msgspec.Struct, frozen=True):
    """A piece of the answer (see :mod:`shared.protocol.events` for the shape of a delta)."""

    delta: Delta


@dataclass(frozen=True, slots=True)
class Finish:
    """The provider's finish reason. It is a hint, not the end: some providers send it with every chunk, and most
    send usage after it. :mod:`worker.providers.decoder` decides what ends an answer."""

    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counts (and bills) them, with one meaning for all providers: ``input_tokens`` includes
    the ``cached_tokens``, and ``output_tokens`` the ``reasoning_tokens``. The last usage of an answer counts."""

    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The wire format's own end mark (``[DONE]``). Nothing that follows it has a meaning."""


ProviderEvent = Said | Finish | Usage | End


class ProviderError(Exception):
    """A provider refused, broke off, or sent something that can't be read. Never carries a key or a header.

    ``code`` is stable; the text is for people. ``retryable``: the same request may succeed later.
    ``retry_after_s``: the wait that the provider asked for. ``refusal``: trying again is pointless, for another
    worker too (4xx, filtered content).
    """

    def __init__(
        self,
        code: str,
        text: str,
        *,
        retryable: bool = False,
        refusal: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.retryable = retryable
        self.refusal = refusal
        self.retry_after_s = retry_after_s


class Batch(msgspec.Struct):
    """The result of one read of an answer. With ``ended`` it is the last one. Then either ``finish`` says why the
    provider ended the answer, or ``error`` says what went wrong after the deltas. ``limit`` names the bound of
    Headrace that ended it (``answer_bytes``, ``tool_calls``); '' for none."""

    deltas: list[Delta]
    finish: FinishReason | None = None
    usage: Usage | None = None
    error: ProviderError | None = None
    limit: str = ""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request to a provider. ``messages`` and ``tools`` are as the caller gave them (``api/schemas/messages.py``
    says what they may hold). ``options`` goes into the body last, and overrides all other fields."""

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: list[str] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""
    """The answer so far: the provider continues it, in the way that ``continues`` names."""
    continues: Continues = "no"
    tool_choice: str | dict[str, Any] | None = None
    """``auto``, ``none``, ``required``, or ``{"name"}`` of the tool that must be called."""
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    """``{"effort"}`` or ``{"budget_tokens"}``."""
    seed: int | None = None
    user: str | None = None
    provider: str = ""
    """The name of the provider that is asked. Parts that it made itself are sent back to it."""
    quirks: Quirks = field(default_factory=Quirks)


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One POST: a path below the provider's base URL, headers and a JSON body."""

    path: str
    headers: dict[str, str] = field(repr=False)
    body: dict[str, Any]


class Reader(Protocol):
    """Reads one answer, and keeps its own state between events."""

    @property
    def open(self) -> bool:
        """Whether a tool call or another part was begun and not completed. A provider that falls silent then has
        not ended its answer, even if it gave a finish reason."""
        return False

    def read(self, event: ServerSentEvent) -> Iterable[ProviderEvent]:
        """The meaning of one event. Raises :class:`ProviderError` for an error event and for garbage."""
        ...

    def last(self) -> Iterable[Said]:
        """What is known only at the end of an answer without an end mark. Called once."""
        return ()

    def texts(self, bare: Sequence[bytes]) -> list[Delta] | None:
        """The text deltas of these events (their data), if all of them have text and nothing else. None: nothing
        was read, and each event must go to :meth:`read`."""
        return None

    def whole(self, value: Any) -> Iterable[ProviderEvent]:
        """The meaning of a whole answer (decoded JSON). Some gateways send one although a stream was requested.
        Raises :class:`ProviderError` as :meth:`read` does."""
        return self.read(ServerSentEvent("message", msgspec.json.encode(value).decode(), ""))


class Adapter(Protocol):
    """One wire format. Registered by its file: ``worker/providers/formats/<wire_format>.py`` defines
    ``ADAPTER``."""

    def call(self, request: GenerationRequest, api_key: str) -> HttpCall:
        """The HTTP call that asks for this generation as a stream."""
        ...

    def reader(self, request: GenerationRequest) -> Reader:
        """A reader of one answer to this request."""
        ...
