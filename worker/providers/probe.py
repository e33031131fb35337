"""Asking whether a provider is there and takes its key: one cheap GET that costs nothing."""

import asyncio

import httpx
from httpx_aiohttp import AiohttpTransport

from shared.providers import Provider
from worker.providers import adapter, failures
from worker.providers.answer import MAX_ERROR_BYTES
from worker.providers.base import GenerationRequest, ProviderError


async def ask_models(provider: Provider, timeout_s: float) -> int:
    """``GET <base_url>/models`` as the adapter would authorize it. Out: the status; 401 also for a key that is
    refused by 400, as Google does it.

    Raises :class:`ProviderError`, without the key, where nothing answers within ``timeout_s``.
    """
    wire = adapter(provider.wire_format)
    headers = wire.call(GenerationRequest(model="", messages=[]), provider.api_key).headers
    transport = AiohttpTransport(verify=True)
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False) as http,
            http.stream("GET", f"{provider.base_url}/models", headers={**headers, "Accept": "*/*"}) as response,
        ):
            if response.status_code == 400 and wire.refusal(await _beginning(response)).about == "key":
                return 401
            return response.status_code
    except TimeoutError:
        raise ProviderError(
            "connect_failed", f"{provider.name} does not answer within {timeout_s:.0f} s.", retryable=True
        ) from None
    except failures.TRANSPORT_ERRORS as error:
        raise failures.cleaned(failures.of_connection(provider, error), provider.api_key) from None
    except ValueError:  # its text would show the header
        raise failures.bad_key(provider) from None


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    return body
