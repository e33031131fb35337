"""Calling a provider: connecting, retrying, timeouts, and closing at once.

Theory of operation. An answer owns one connection. Before its first content a failure that may pass is retried,
within two bounds (tries and time), however the failure is reported: by the connection, by the status, or by an
error in a body with status 200. From the first content on, every failure is left to the caller, because only the
caller knows how much of the answer is in the log. Leaving the block, or cancelling the task in it, closes the
connection at once, even while the provider is silent::

    async with client.answer(provider, request) as stream:
        stream.listen(ready)  # ``ready`` is called when there may be something to read
        ...                   # stream.read() -> Batch, until one of them is the last
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import httpx
import msgspec
import structlog

from shared.config.network import Network
from shared.config.providers import Provider
from shared.config.settings import Settings
from worker.metrics import WorkerMetrics
from worker.providers import adapter, failures
from worker.providers.base import Adapter, GenerationRequest, ProviderError
from worker.providers.decoder import AnswerLimits, StreamDecoder
from worker.providers.errors import read_error, to_provider_error
from worker.providers.http.body import beginning
from worker.providers.http.connection import NoResponse, ProviderConnection
from worker.providers.http.transport import address, open_client, send, trust
from worker.providers.retries import Tries, asked_wait_s
from worker.providers.stream import ProviderStream

REPORT_S: Final = 10.0
"""A provider that can't be reached is logged once in this time, and not for each try of each stream."""
ADDRESSES: Final = 64
"""How many parsed URLs are cached: more than anybody has providers. Parsing one costs 3 % of a stream's start and
end here."""

log = structlog.get_logger("worker.providers")


class ProviderClient:
    """The client of one worker process: all streams share its connections. It opens none before the first
    request."""

    def __init__(
        self,
        settings: Settings,
        network: Network,
        tls: ssl.SSLContext | None = None,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """``tls``: the certificates to trust; None: those that ``network`` names. Raises
        :class:`shared.config.settings.BadSettings` if they can't be read."""
        self._settings = settings
        self._metrics = metrics or WorkerMetrics()
        self._http = open_client(network, settings.connect_timeout_s, trust(network) if tls is None else tls)
        self._address = lru_cache(ADDRESSES)(address)
        self._reported: dict[str, tuple[str, float]] = {}

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        await self._http.aclose()

    @asynccontextmanager
    async def answer(self, provider: Provider, request: GenerationRequest) -> AsyncIterator[ProviderStream]:
        """Ask a provider. Its answer can be read as long as the block lasts.

        Raises :class:`ProviderError` (never with the key, and with at most 500 characters) and
        :class:`worker.providers.UnknownWireFormat`.
        """
        stream = await self._ask_until_answered(provider, request)
        try:
            yield stream
        except ProviderError as error:
            self._metrics.refused(provider.name, error.code)
            raise
        finally:
            stream.close()

    async def _ask_until_answered(self, provider: Provider, request: GenerationRequest) -> ProviderStream:
        tries = Tries(self._settings.provider_tries, self._settings.provider_retry_s)
        while True:
            self._metrics.asked(provider.name)
            try:
                return await self._ask(provider, request)
            except ProviderError as error:
                self._metrics.refused(provider.name, error.code)
                delay_s = tries.delay_after(error)
                if delay_s is None:
                    raise failures.cleaned(error, provider.api_key, request) from None
                self._metrics.asks_again(provider.name, error.code)
            await asyncio.sleep(delay_s)

    async def _ask(self, provider: Provider, request: GenerationRequest) -> ProviderStream:
        wire_format = adapter(provider.wire_format)
        settings, loop = self._settings, asyncio.get_running_loop()
        until = loop.time() + settings.first_token_timeout_s
        try:
            async with asyncio.timeout_at(until):
                response, connection = await self._send(provider, wire_format, request)
        except TimeoutError:
            raise failures.first_token_timeout(provider) from None
        if response.status_code != 200:
            try:
                raise await _refused(provider, request, response, connection)
            finally:
                connection.close()
        now = loop.time()
        limits = AnswerLimits(
            until - now, settings.idle_timeout_s, settings.liveness_timeout_s, settings.max_answer_bytes
        )
        decoder = StreamDecoder(
            provider,
            wire_format.reader(request),
            limits,
            now,
            kind=response.headers.get("content-type", "").partition(";")[0].strip().lower(),
            encoding=response.headers.get("content-encoding", ""),
            request=request,
        )
        stream = ProviderStream(decoder, connection)
        try:
            await stream.begin()
        except BaseException:
            stream.close()
            raise
        return stream

    async def _send(
        self, provider: Provider, wire_format: Adapter, request: GenerationRequest
    ) -> tuple[httpx.Response, ProviderConnection]:
        call = wire_format.call(request, provider.api_key)
        headers = {"Content-Type": "application/json", **call.headers}
        try:
            url = self._address(provider.base_url + call.path)
            http_request = self._http.build_request(
                "POST", url, headers=headers, content=msgspec.json.encode(call.body)
            )
            return await send(self._http, http_request)
        except NoResponse as error:
            found = failures.of_connection(provider, error)
            self._report(provider, found)
            raise found from None
        except ValueError:  # the error's text would contain the header
            raise failures.bad_key(provider) from None

    def _report(self, provider: Provider, error: ProviderError) -> None:
        """Log that a provider can't be reached, and why."""
        now, why = asyncio.get_running_loop().time(), str(failures.cleaned(error, provider.api_key))
        reported, at = self._reported.get(provider.name, ("", 0.0))
        if why != reported or now - at > REPORT_S:
            self._reported[provider.name] = (why, now)
            log.warning("provider_not_reached", provider=provider.name, code=error.code, why=why)


async def _refused(
    provider: Provider, request: GenerationRequest, response: httpx.Response, connection: ProviderConnection
) -> ProviderError:
    """The error for a response with a status other than 200."""
    status = response.status_code
    body = await beginning(connection, response.headers.get("content-encoding", ""))
    if 300 <= status < 400:
        return failures.redirected(provider, status, _origin_of(response))
    reading = read_error(body, status=status)
    if reading is None:
        return failures.garbage(provider, f"with status {status}")
    error = to_provider_error(reading, provider, request.model, status=status)
    waits = (error.retry_after_s, asked_wait_s(response.headers, datetime.now(UTC)))
    error.retry_after_s = max((wait_s for wait_s in waits if wait_s is not None), default=None)
    return error


def _origin_of(redirect: httpx.Response) -> str:
    """The origin that a redirect points to, without path and query, which may hold secrets; '' if it can't be
    read."""
    try:
        where = redirect.request.url.join(redirect.headers["location"])
        return f"{where.scheme}://{where.netloc.decode('ascii')}" if where.host else ""
    except (KeyError, ValueError, httpx.InvalidURL):
        return ""
