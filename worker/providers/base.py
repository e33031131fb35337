"""What every provider adapter offers: one request in, normalised events out.

An adapter owns one wire format. It is a pure function from a request to an HTTP call, and from the
response's events to the vocabulary below; connecting, retrying and timing are done once, for all of them,
by :mod:`worker.providers.client`.
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
    """The provider's finish reason. It is a hint and not the end: some providers stamp it on every chunk, and usage
    follows it on most. :mod:`worker.providers.decoder` decides what ends an answer."""

    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counts (and bills) them, in one meaning for all: ``input_tokens`` has the
    ``cached_tokens`` in it, and ``output_tokens`` the ``reasoning_tokens``. The last one of an answer counts."""

    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The wire format's own end mark (``[DONE]``): nothing of meaning follows."""


ProviderEvent = Said | Finish | Usage | End


class ProviderError(Exception):
    """A provider that refuses, breaks off or talks nonsense. Never carries a key or a header.

    ``code`` is stable; the text is for people; ``retryable`` says whether the same request may succeed
    later; ``retry_after_s`` is what the provider asked for; ``refusal`` says that trying again, even by
    another worker, is pointless (4xx, filtered content).
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
    """What one read of an answer brought. With ``ended`` it is the last one: then either ``finish`` says why the
    provider ended the answer, or ``error`` says what went wrong behind the deltas. ``limit`` names the bound of
    Headrace that ended it (``answer_bytes``, ``tool_calls``); '' for none."""

    deltas: list[Delta]
    finish: FinishReason | None = None
    usage: Usage | None = None
    error: ProviderError | None = None
    limit: str = ""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What is asked of a provider; ``messages`` and ``tools`` are as the caller gave them
    (``api/schemas/messages.py`` says what they may hold), ``options`` goes last into the body, past all that is
    known of it here."""

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: list[str] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""
    """What the assistant said already: the provider carries on behind it, in the way of ``continues``."""
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
    """The name of the provider that is asked: what it made itself goes back to it."""
    quirks: Quirks = field(default_factory=Quirks)


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One POST: a path below the provider's base URL, headers and a JSON body."""

    path: str
    headers: dict[str, str] = field(repr=False)
    body: dict[str, Any]


class Reader(Protocol):
    """Reads one answer; what it must remember from event to event is its own."""

    @property
    def open(self) -> bool:
        """Whether a tool call or another part was begun and not completed: a provider that is silent then has not
        ended its answer, whatever finish reason it gave."""
        return False

    def read(self, event: ServerSentEvent) -> Iterable[ProviderEvent]:
        """The meaning of one event. Raises :class:`ProviderError` for an error event and for garbage."""
        ...

    def last(self) -> Iterable[Said]:
        """What is known only at the end of an answer without an end mark; told once."""
        return ()

    def texts(self, bare: Sequence[bytes]) -> list[Delta] | None:
        """What events that are nothing but data say, where all of them are text and nothing else; None: nothing was
        read, and each must be by :meth:`read`."""
        return None

    def whole(self, value: Any) -> Iterable[ProviderEvent]:
        """The meaning of a whole answer (decoded JSON), which some gateways send although a stream was asked for.
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
