"""Calling a provider: connecting, trying again, timing, and closing at once.

Theory of operation. An answer owns one connection. Until the first token nothing was said, so a refusal that may
pass is tried again, within two bounds (tries and time); from then on every failure is the caller's to decide, for
only the caller knows what of the answer is in the log. Leaving the block, or cancelling the task in it, closes the
connection at once, also while the provider is silent. So::

    async with client.answer(provider, request) as answer:
        while not await answer.tell(hear): ...  # whatever hear wanted to wait for
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from shared.providers import Provider
from shared.settings import Settings
from worker.providers import adapter, failures
from worker.providers.answer import Answer
from worker.providers.base import Adapter, GenerationRequest, ProviderError
from worker.providers.body import beginning
from worker.providers.retries import Tries, parse_retry_after
from worker.providers.upstream import Head, UpstreamError
from worker.providers.upstreams import Lent, Upstreams


class ProviderClient:
    """One per worker process: all streams share its connections. Nothing is opened before the first request."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: the certificates to trust; None means certifi's, or those of ``SSL_CERT_FILE``."""
        self._settings = settings
        self._upstreams = Upstreams(settings.connect_timeout_s, tls)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._upstreams.close()

    @asynccontextmanager
    async def answer(self, provider: Provider, request: GenerationRequest) -> AsyncIterator[Answer]:
        """Ask a provider; the answer is there as long as the block lasts.

        Raises :class:`ProviderError` (always without the key, and with at most 500 characters) and
        :class:`worker.providers.UnknownWireFormat`.
        """
        answer = await self._ask_until_answered(provider, request)
        try:
            yield answer
        finally:
            answer.close()

    async def _ask_until_answered(self, provider: Provider, request: GenerationRequest) -> Answer:
        tries = Tries(self._settings.provider_tries, self._settings.provider_retry_s)
        while True:
            try:
                return await self._ask(provider, request)
            except ProviderError as error:
                delay_s = tries.delay_after(error)
                if delay_s is None:
                    raise failures.cleaned(error, provider.api_key) from None
            await asyncio.sleep(delay_s)

    async def _ask(self, provider: Provider, request: GenerationRequest) -> Answer:
        wire = adapter(provider.wire_format)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.first_token_timeout_s
        try:
            async with asyncio.timeout_at(until):
                lent, head = await self._send(provider, wire, request)
        except TimeoutError:
            raise failures.first_token_timeout(provider) from None
        try:
            await _check(provider, wire, request, lent, head)
            return Answer(
                provider, wire.reader(request), lent, head, until - loop.time(), self._settings.idle_timeout_s
            )
        except BaseException:
            lent.close()
            raise

    async def _send(self, provider: Provider, wire: Adapter, request: GenerationRequest) -> tuple[Lent, Head]:
        call = wire.call(request, provider.api_key)
        headers = {"Content-Type": "application/json", **call.headers}
        try:
            return await self._upstreams.ask(
                "POST", provider.base_url + call.path, headers, msgspec.json.encode(call.body)
            )
        except UpstreamError as error:
            raise failures.of_connection(provider, error) from None
        except ValueError:  # its text would name the header
            raise failures.bad_key(provider) from None


async def _check(provider: Provider, wire: Adapter, request: GenerationRequest, lent: Lent, head: Head) -> None:
    """Pass a stream of events; raise ProviderError for any other response."""
    kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if head.status == 200 and kind == "text/event-stream":
        return
    refusal = wire.refusal(await beginning(lent.upstream, head))
    if head.status != 200:
        wait_s = parse_retry_after(head.headers.get("retry-after"), datetime.now(UTC))
        raise failures.of_status(provider, request.model, head.status, refusal, wait_s)
    if refusal.sentence and kind == "application/json":
        raise failures.refused_in_200(provider, refusal.sentence)
    raise failures.garbage(provider, f"with {kind or 'no content type'}")
