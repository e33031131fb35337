"""What goes wrong with a provider, as errors with stable codes and words for people. Pure.

One place decides what each failure is called, whether asking again makes sense, and that no key gets out.
"""

from typing import Final

from shared.providers import Provider
from worker.providers.base import ProviderError, Refusal
from worker.providers.upstream import BadAddress, BadCertificate, ConnectTimeout, NotHttp, UpstreamError

MAX_SENTENCE: Final = 500
"""Characters of an error's text: a person reads a few lines, and a provider may send a page."""


def of_status(
    provider: Provider,
    model: str,
    status: int,
    refusal: Refusal,
    retry_after_s: float | None,
    redirects_to: str = "",
) -> ProviderError:
    """The error that a response other than 200 is. ``redirects_to``: an origin (scheme and host)."""
    variable = provider.name.upper()
    says = f" It says: {refusal.sentence}" if refusal.sentence else ""
    # Some say in words what others say by the status: Google refuses a wrong key with 400.
    about = refusal.about if 400 <= status < 500 else ""
    head = f"The provider {provider.name!r}"
    if status == 429:
        return ProviderError(
            "provider_rate_limited",
            f"{head} limits the rate of requests: try again later.{says}",
            retryable=True,
            retry_after_s=retry_after_s,
        )
    if status >= 500 or status in (408, 409):
        return ProviderError(
            "provider_unavailable",
            f"{head} is not available just now (status {status}): try again later.{says}",
            retryable=True,
            retry_after_s=retry_after_s,
        )
    if about == "content":
        text = f"{head} refuses this content: change the request.{says}"
        return ProviderError("content_filtered", text, refusal=True)
    if status in (401, 403) or about == "key":
        text = f"{head} does not accept the key (status {status}): check {provider.key_variable}.{says}"
        return ProviderError("provider_auth", text, refusal=True)
    if status == 404 or about == "model":
        text = f"{head} does not know the model {model!r}, or {variable}_BASE_URL is wrong.{says}"
        return ProviderError("provider_unknown_model", text, refusal=True)
    if status >= 400:
        text = f"{head} refused the request (status {status}).{says}"
        return ProviderError("provider_refused", text, refusal=True)
    if status >= 300:
        where = f" to {redirects_to}" if redirects_to else ""
        text = (
            f"{head} redirects{where} (status {status}), which is not followed, for it would carry the key along: "
            f"set {variable}_BASE_URL."
        )
        return ProviderError("provider_refused", text, refusal=True)
    return garbage(provider, f"with status {status}")


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
        f"The provider {provider.name!r} answered with {kind or 'no content type'}, which is neither a stream of events "
        f"nor an answer in JSON: check {provider.name.upper()}_BASE_URL."
    )
    return ProviderError("provider_garbage", text, refusal=True)


def empty_answer(provider: Provider) -> ProviderError:
    """The provider ended an answer of nothing at all, and does not say that it made none."""
    text = f"The provider {provider.name!r} ended its answer without a word of it. Try again, or ask another model."
    return ProviderError("empty_answer", text, retryable=True, refusal=True)


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
