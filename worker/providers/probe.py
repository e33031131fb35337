"""Asking whether a provider is there and takes its key: one cheap GET that costs nothing."""

import asyncio

import httpx
from httpx_aiohttp import AiohttpTransport

from shared.providers import Provider
from worker.providers import adapter, failures
from worker.providers.base import GenerationRequest, ProviderError


async def ask_models(provider: Provider, timeout_s: float) -> int:
    """``GET <base_url>/models`` as the adapter would authorize it. Out: the status.

    Raises :class:`ProviderError`, without the key, where nothing answers within ``timeout_s``.
    """
    headers = adapter(provider.wire_format).call(GenerationRequest(model="", messages=[]), provider.api_key).headers
    transport = AiohttpTransport(verify=True)
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False) as http,
            http.stream("GET", f"{provider.base_url}/models", headers={**headers, "Accept": "*/*"}) as response,
        ):
            return response.status_code
    except TimeoutError:
        raise ProviderError(
            "connect_failed", f"{provider.name} does not answer within {timeout_s:.0f} s.", retryable=True
        ) from None
    except failures.TRANSPORT_ERRORS as error:
        raise failures.cleaned(failures.of_connection(provider, error), provider.api_key) from None
    except ValueError:  # its text would show the header
        raise failures.bad_key(provider) from None
