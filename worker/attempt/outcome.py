"""How one attempt went, and why it ended before its finish reason. Pure."""

from dataclasses import dataclass
from typing import Any, Final

from worker.log.attempt_log import LOG_FULL
from worker.providers.base import Usage


@dataclass(slots=True)
class Outcome:
    """How one attempt went, as far as is known. Times are of the event loop's clock (s)."""

    began: float
    provider: str = ""
    model: str = ""
    reason: str | None = None
    limit: str = ""
    """The bound of Headrace that ended the answer, named as in :class:`worker.providers.base.Batch`; '' for
    none."""
    usage: Usage | None = None
    cost: dict[str, Any] | None = None
    first_token_at: float | None = None
    charged: bool = False
    """Whether the record has the attempt's usage."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt ended before its finish reason. ``refusal``: another attempt at the same provider would fail
    in the same way. ``by_provider``: another provider may succeed."""

    code: str
    message: str
    retryable: bool = True
    refusal: bool = False
    by_provider: bool = False


FILTERED: Final = Failure(
    "content_filtered",
    "The provider's content filter ended the answer. Change the request.",
    retryable=False,
    refusal=True,
    by_provider=True,
)
INTERNAL: Final = Failure("internal_error", "The worker had an internal error; its log has the details. Try again.")
ABANDONED: Final = Failure("abandoned", "Nobody watched for too long.")
FULL: Final = Failure(
    LOG_FULL,
    "Redis is at its memory limit and refused the answer. Raise maxmemory or shorten HEADRACE_RETENTION_S, "
    "then try again.",
    refusal=True,
)


def not_here(provider: str) -> Failure:
    """The failure for a provider that the API's table has and the worker's lacks."""
    return Failure(
        "provider_not_configured",
        f"The worker knows no provider {provider!r}: give the API and the workers the same "
        "HEADRACE_PROVIDERS_FILE, and start them again.",
        retryable=False,
        refusal=True,
        by_provider=True,
    )
