"""Whether a provider can be reached and accepts its key: one GET that costs nothing."""

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
"""The connection's share of the time, so that the error can say which step took too long, and not only that nothing
answers."""


async def ask_models(provider: Provider, network: Network, timeout_s: float) -> int:
    """``GET <base_url>/models`` with the adapter's authorization. Out: the status. It is 401 also if the key is
    refused by a 400, as Google does.

    Raises :class:`ProviderError`, without the key, if nothing answers within ``timeout_s``.
    """
    wire_format = adapter(provider.wire_format)
    headers = wire_format.call(GenerationRequest("", [], quirks=provider.quirks), provider.api_key).headers
    try:
        connect_s = CONNECT_SHARE * timeout_s
        async with asyncio.timeout(timeout_s), open_client(network, connect_s, trust(network)) as client:
            http_request = client.build_request(
                "GET",
                address(f"{provider.base_url}/models{provider.quirks.query}"),
                headers={**headers, "Accept": "*/*"},
            )
            response, connection = await send(client, http_request)
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
    except ValueError:  # the error's text would contain the header
        raise failures.bad_key(provider) from None


def way_to(provider: Provider, network: Network) -> str:
    """How a provider is reached (directly or through a proxy), in words without credentials; '' for an unusable
    address."""
    try:
        url = address(provider.base_url)
    except NoResponse:
        return ""
    proxy = network.proxy(url.scheme, url.host, url.port or PORTS[url.scheme])
    return "directly" if proxy is None else f"through the proxy {proxy.shown} ({proxy.variable})"
