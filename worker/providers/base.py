"""What every provider adapter offers: one request in, normalised events out.

An adapter owns one wire format. It is a pure function from a request to an HTTP call, and from the
response's events to the vocabulary below; connecting, retrying and timing are done once, for all of them,
by :mod:`worker.providers.client`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from shared.events import Delta
from shared.providers import Continues
from shared.sse import ServerSentEvent

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the answer (see :mod:`shared.events` for the shape of a delta)."""

    delta: Delta


@dataclass(frozen=True, slots=True)
class Finish:
    """The provider said why it ends; usage may still follow."""

    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counts (and bills) them."""

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


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What is asked of a provider; ``messages`` are ``{"role", "content"}`` as the caller gave them."""

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: list[str] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    prefix: str = ""
    """What the assistant said already: the provider carries on behind it, in the way of ``continues``."""
    continues: Continues = "no"


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One POST: a path below the provider's base URL, headers and a JSON body."""

    path: str
    headers: dict[str, str] = field(repr=False)
    body: dict[str, Any]


class Adapter(Protocol):
    """One wire format. Registered by its file: ``worker/providers/<wire_format>.py`` defines ``ADAPTER``."""

    def call(self, request: GenerationRequest, api_key: str) -> HttpCall:
        """The HTTP call that asks for this generation as a stream."""
        ...

    def read(self, event: ServerSentEvent) -> Iterable[ProviderEvent]:
        """The meaning of one event. Raises :class:`ProviderError` for an error event and for garbage."""
        ...

    def refusal(self, status: int, body: bytes) -> str:
        """The provider's own sentence in an error response's body, for people; '' where there is none."""
        ...
