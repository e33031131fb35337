"""What goes wrong on the way to a provider and in its answer, as errors with stable codes. Pure.

What a provider itself calls an error is read by :mod:`worker.providers.errors`.
"""

from typing import Final

from shared.providers import Provider
from worker.providers.base import ProviderError
from worker.providers.upstream import BadAddress, BadCertificate, ConnectTimeout, NotHttp, UpstreamError

MAX_SENTENCE: Final = 500
"""Characters of an error's text: a person reads a few lines, and a provider may send a page."""


def redirected(provider: Provider, status: int, to: str) -> ProviderError:
    """The provider sends us elsewhere. ``to``: an origin (scheme and host), or '' where that can't be told."""
    where = f" to {to}" if to else ""
    text = (
        f"The provider {provider.name!r} redirects{where} (status {status}), which is not followed, for it would "
        f"carry the key along: set {provider.name.upper()}_BASE_URL."
    )
    return ProviderError("provider_refused", text, refusal=True)


def of_connection(provider: Provider, error: UpstreamError) -> ProviderError:
    """The error of a request that got no response at all."""
    name, variable = provider.name, f"{provider.name.upper()}_BASE_URL"
    why = f": {error}" if str(error) else ""
    if isinstance(error, BadAddress):
        text = f"The address of the provider {name!r} can't be used{why}. Check {variable}."
        return ProviderError("provider_unreachable", text, refusal=True)
    if isinstance(error, BadCertificate):
        text = f"No safe connection to the provider {name!r}{why}. If its address is wrong, correct {variable}."
        return ProviderError("provider_tls", text, refusal=True)
    if isinstance(error, NotHttp):
        return garbage(provider, "in no HTTP that can be read")
    if isinstance(error, ConnectTimeout):
        text = f"Connecting to the provider {name!r} took too long{why}. Check {variable}, or try again later."
        return ProviderError("provider_connect_timeout", text, retryable=True)
    text = f"The provider {name!r} can't be reached{why}. Check {variable}, or try again later."
    return ProviderError("provider_unreachable", text, retryable=True)


def garbage(provider: Provider, how: str) -> ProviderError:
    """The provider answered, but not with a stream of events."""
    text = f"The provider {provider.name!r} answered {how}, where a stream of events was expected."
    return ProviderError("provider_garbage", text, retryable=True)


def unreadable(provider: Provider, kind: str) -> ProviderError:
    """The provider answered, with something else than an answer: asking again would bring the same."""
    text = (
        f"The provider {provider.name!r} answered with {kind or 'no content type'}, which is neither a stream of "
        f"events nor an answer in JSON: check {provider.name.upper()}_BASE_URL."
    )
    return ProviderError("provider_garbage", text, refusal=True)


def bad_key(provider: Provider) -> ProviderError:
    """The key can't stand in a header."""
    variable = provider.key_variable
    text = f"The key of the provider {provider.name!r} has characters that can't be sent: check {variable}."
    return ProviderError("provider_auth", text, refusal=True)


def first_token_timeout(provider: Provider) -> ProviderError:
    """The provider took the request and said nothing."""
    text = f"The provider {provider.name!r} took too long to begin its answer: try again later."
    return ProviderError("first_token_timeout", text, retryable=True)


def upstream_silent(provider: Provider) -> ProviderError:
    """The provider fell silent in the middle of its answer."""
    text = f"The provider {provider.name!r} fell silent in the middle of its answer."
    return ProviderError("upstream_silent", text, retryable=True)


def upstream_cut(provider: Provider) -> ProviderError:
    """The connection broke, or the stream ended, before a finish reason."""
    text = f"The provider {provider.name!r} broke off before the end of its answer."
    return ProviderError("upstream_cut", text, retryable=True)


def too_large(provider: Provider) -> ProviderError:
    """Events of the stream are larger than anybody skips."""
    text = f"The provider {provider.name!r} sent events that are too large to be any."
    return ProviderError("provider_too_large", text, retryable=True)


def cleaned(error: ProviderError, api_key: str) -> ProviderError:
    """The same error, fit to be shown: without the key should the provider echo it, on one line, bounded."""
    text = str(error)
    if api_key:
        text = text.replace(api_key, "[key]")
    text = " ".join(text.split())
    if len(text) > MAX_SENTENCE:
        text = text[: MAX_SENTENCE - 1] + "…"
    return ProviderError(
        error.code,
        text,
        retryable=error.retryable,
        refusal=error.refusal,
        retry_after_s=error.retry_after_s,
    )
