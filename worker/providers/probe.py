"""Asking whether a provider is there and takes its key: one cheap GET that costs nothing."""

import asyncio

from shared.providers import Provider
from worker.providers import adapter, failures
from worker.providers.base import GenerationRequest, ProviderError
from worker.providers.body import beginning
from worker.providers.upstream import UpstreamError
from worker.providers.upstreams import Upstreams


async def ask_models(provider: Provider, timeout_s: float) -> int:
    """``GET <base_url>/models`` as the adapter would authorize it. Out: the status; 401 also for a key that is
    refused by 400, as Google does it.

    Raises :class:`ProviderError`, without the key, where nothing answers within ``timeout_s``.
    """
    wire = adapter(provider.wire_format)
    headers = wire.call(GenerationRequest("", [], quirks=provider.quirks), provider.api_key).headers
    try:
        async with asyncio.timeout(timeout_s):
            lent, head = await Upstreams(timeout_s).ask(
                "GET", f"{provider.base_url}/models{provider.quirks.query}", {**headers, "Accept": "*/*"}
            )
            try:
                if head.status == 400 and wire.refusal(await beginning(lent.upstream, head)).about == "key":
                    return 401
            finally:
                lent.upstream.abort()
            return head.status
    except TimeoutError:
        raise ProviderError(
            "connect_failed", f"{provider.name} does not answer within {timeout_s:.0f} s.", retryable=True
        ) from None
    except UpstreamError as error:
        raise failures.cleaned(failures.of_connection(provider, error), provider.api_key) from None
    except ValueError:  # its text would name the header
        raise failures.bad_key(provider) from None
