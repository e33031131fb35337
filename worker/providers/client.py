"""Calling a provider: connecting, trying again, timing, and closing at once.

Theory of operation. :meth:`ProviderClient.generate` is an async generator that owns one connection at a time.
Until the first token nothing was said, so a refusal that may pass is tried again, within two bounds (tries
and time); from then on every failure is the caller's to decide, for only the caller knows what of the
answer is in the log. Cancelling the task, or closing the generator, closes the connection before it returns,
also while the provider is silent: the only waits are reads and short sleeps, and both can be cancelled. So::

    async with contextlib.aclosing(client.generate(provider, request)) as events:
        async for event in events: ...
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

from shared.providers import Provider
from shared.settings import Settings
from worker.providers import adapter, failures
from worker.providers.answer import Answer
from worker.providers.base import Adapter, GenerationRequest, ProviderError, ProviderEvent
from worker.providers.patience import Patience
from worker.providers.retries import Tries, parse_retry_after


class ProviderClient:
    """One per worker process: all streams share its connections (a client each costs 20-40 ms of CPU)."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: the certificates to trust; None means certifi's, or those of ``SSL_CERT_FILE``."""
        self._settings = settings
        self._tls = tls
        self._http: httpx.AsyncClient | None = None

    async def open(self) -> None:
        """Make the HTTP client; no connection is opened yet. The environment's proxies are not used."""
        self._http = httpx.AsyncClient(
            # The transport ignores the client's limits and stops at 100; 0 means none here, because
            # max_streams bounds the connections already.
            transport=AiohttpTransport(
                verify=True if self._tls is None else self._tls, limits=httpx.Limits(max_connections=0)
            ),
            # "pool" covers looking up the name too; the times after connecting are Patience's.
            timeout=httpx.Timeout(
                None, connect=self._settings.connect_timeout_s, pool=self._settings.connect_timeout_s
            ),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            http, self._http = self._http, None
            await http.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def generate(self, provider: Provider, request: GenerationRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Ask a provider, and yield what it says until it has finished.

        A normal end means that exactly one ``Finish`` was among the events. Raises :class:`ProviderError`
        otherwise, always without the key and with at most 500 characters; and
        :class:`worker.providers.UnknownWireFormat`.
        """
        try:
            answer = await self._ask_until_answered(provider, request)
            try:
                while not answer.ended:
                    for event in answer.take(await answer.read()):
                        yield event
            finally:
                await answer.close()
        except ProviderError as error:
            raise failures.cleaned(error, provider.api_key) from None

    async def _ask_until_answered(self, provider: Provider, request: GenerationRequest) -> Answer:
        tries = Tries(self._settings.provider_tries, self._settings.provider_retry_s)
        while True:
            try:
                return await self._ask(provider, request)
            except ProviderError as error:
                delay_s = tries.delay_after(error)
                if delay_s is None:
                    raise
            await asyncio.sleep(delay_s)

    async def _ask(self, provider: Provider, request: GenerationRequest) -> Answer:
        wire = adapter(provider.wire_format)
        patience = Patience(self._settings.first_token_timeout_s)
        try:
            response = await self._send(provider, wire, request, patience)
        except BaseException:
            patience.close()
            raise
        answer = Answer(provider, wire.reader(request), response, patience, self._settings.idle_timeout_s)
        try:
            await _check(provider, wire, request, response, answer)
        except BaseException:
            await answer.close()
            raise
        return answer

    async def _send(
        self, provider: Provider, wire: Adapter, request: GenerationRequest, patience: Patience
    ) -> httpx.Response:
        if self._http is None:
            raise RuntimeError("open() the provider client first")
        call = wire.call(request, provider.api_key)
        content = msgspec.json.encode(call.body)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **call.headers}
        try:
            message = self._http.build_request(
                "POST", provider.base_url + call.path, content=content, headers=headers
            )
            return await patience.wait(self._http.send(message, stream=True))
        except TimeoutError:
            raise failures.first_token_timeout(provider) from None
        except failures.TRANSPORT_ERRORS as error:
            raise failures.of_connection(provider, error) from None
        except ValueError:  # its text would show the header
            raise failures.bad_key(provider) from None


async def _check(
    provider: Provider, wire: Adapter, request: GenerationRequest, response: httpx.Response, answer: Answer
) -> None:
    """Pass a stream of events; raise ProviderError for any other response."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    status = response.status_code
    if status == 200 and kind == "text/event-stream":
        return
    refusal = wire.refusal(await answer.error_body())
    if status != 200:
        wait_s = parse_retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        raise failures.of_status(provider, request.model, status, refusal, wait_s)
    if refusal.sentence and kind == "application/json":
        raise failures.refused_in_200(provider, refusal.sentence)
    raise failures.garbage(provider, f"with {kind or 'no content type'}")
