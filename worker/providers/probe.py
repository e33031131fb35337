"""Asking whether a provider is there and takes its key: one cheap GET that costs nothing."""

import asyncio
from typing import Final

from shared.config.network import Network
from shared.config.providers import Provider
from worker.providers import adapter, failures
from worker.providers.base import GenerationRequest, ProviderError
from worker.providers.errors import read_error
from worker.providers.http.body import beginning
from worker.providers.http.connection import NoResponse
from worker.providers.http.transport import PORTS, address, open_client, send, trust

CONNECT_SHARE: Final = 0.8
"""Of the time, for the connection: what takes too long on the way is told, and not only that nothing answers."""


async def ask_models(provider: Provider, network: Network, timeout_s: float) -> int:
    """``GET <base_url>/models`` as the adapter would authorize it. Out: the status; 401 also for a key that is
    refused by 400, as Google does it.

    Raises :class:`ProviderError`, without the key, where nothing answers within ``timeout_s``.
    """
    wire_format = adapter(provider.wire_format)
    headers = wire_format.call(GenerationRequest("", [], quirks=provider.quirks), provider.api_key).headers
    try:
        connect_s = CONNECT_SHARE * timeout_s
        async with asyncio.timeout(timeout_s), open_client(network, connect_s, trust(network)) as client:
            asking = client.build_request(
                "GET",
                address(f"{provider.base_url}/models{provider.quirks.query}"),
                headers={**headers, "Accept": "*/*"},
            )
            response, connection = await send(client, asking)
            try:
                if response.status_code == 400:
                    body = await beginning(connection, response.headers.get("content-encoding", ""))
                    if (reading := read_error(body, status=400)) and reading.about == "key":
                        return 401
            finally:
                connection.close()
            return response.status_code
    except TimeoutError:
        raise ProviderError(
            "connect_failed", f"{provider.name} does not answer within {timeout_s:.0f} s.", retryable=True
        ) from None
    except NoResponse as error:
        raise failures.cleaned(failures.of_connection(provider, error), provider.api_key) from None
    except ValueError:  # its text would name the header
        raise failures.bad_key(provider) from None


def way_to(provider: Provider, network: Network) -> str:
    """Which way a provider is asked, in words without credentials: '' for an address that is none."""
    try:
        url = address(provider.base_url)
    except NoResponse:
        return ""
    proxy = network.proxy(url.scheme, url.host, url.port or PORTS[url.scheme])
    return "directly" if proxy is None else f"through the proxy {proxy.shown} ({proxy.variable})"
