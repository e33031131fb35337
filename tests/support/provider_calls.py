"""Calling a provider in a test: one client, one scripted request, and what came of it."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import cache
from typing import Any

import pytest

from shared.config.network import Network
from shared.config.providers import Provider
from shared.config.settings import Settings
from tests.support.scripted_provider import Call
from worker.providers.base import Finish, GenerationRequest, ProviderError, ProviderEvent, Said
from worker.providers.client import ProviderClient

KEY = "sk-0123456789-secret"
FAST: dict[str, Any] = {"connect_timeout_s": 0.4, "first_token_timeout_s": 0.4, "idle_timeout_s": 0.4}
# Nothing may time out in a test that is not about time.
CALM: dict[str, Any] = {"connect_timeout_s": 30, "first_token_timeout_s": 30, "idle_timeout_s": 30}


@cache
def tls() -> ssl.SSLContext:
    """One context for all clients: reading the system's certificates costs each of them 50 ms of CPU."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@asynccontextmanager
async def calm_client(**settings: Any) -> AsyncIterator[ProviderClient]:
    """A client that gives up on nothing, but for these settings."""
    client = ProviderClient(Settings(**{**CALM, **settings}), Network(), tls())
    try:
        yield client
    finally:
        await client.aclose()


def ask(script: dict[str, Any] | str) -> GenerationRequest:
    prompt = script if isinstance(script, str) else json.dumps(script)
    return GenerationRequest("scripted", [{"role": "user", "content": prompt}])


def at(base_url: str, key: str = KEY) -> Provider:
    return Provider("local", "openai", base_url, key)


async def events_of(
    client: ProviderClient, provider: Provider, request: GenerationRequest
) -> AsyncGenerator[ProviderEvent, None]:
    """What a provider says, in its order, and why it ended. The next read takes place when all of the last one was
    taken."""
    came = asyncio.Event()
    async with client.answer(provider, request) as stream:
        stream.listen(came.set)
        while True:
            await came.wait()
            came.clear()
            batch = stream.read()
            for delta in batch.deltas:
                yield Said(delta)
            if batch.usage is not None:
                yield batch.usage
            if batch.error is not None:
                raise batch.error
            if batch.ended:
                assert batch.finish is not None
                yield Finish(batch.finish)
                return


async def generate(base_url: str, script: dict[str, Any], **settings: Any) -> list[ProviderEvent]:
    async with (
        calm_client(**settings) as client,
        aclosing(events_of(client, at(base_url), ask(script))) as events,
    ):
        return [event async for event in events]


async def collect(events: AsyncIterator[ProviderEvent], seen: list[ProviderEvent]) -> None:
    async for event in events:
        seen.append(event)  # noqa: PERF401 - a comprehension would lose them at an error


async def refused(
    base_url: str, script: dict[str, Any], **settings: Any
) -> tuple[ProviderError, list[ProviderEvent]]:
    """The error a call ends with, and what came before it."""
    seen: list[ProviderEvent] = []
    async with calm_client(**{"provider_tries": 1, **settings}) as client:
        with pytest.raises(ProviderError) as caught:
            await collect(events_of(client, at(base_url), ask(script)), seen)
    assert KEY not in str(caught.value) + repr(caught.value)
    return caught.value, seen


def text_of(events: list[ProviderEvent]) -> str:
    return "".join(e.delta.get("text", "") for e in events if isinstance(e, Said))


async def closed(call: Call) -> str | None:
    """Who closed the call, once somebody did (5 s at most)."""
    async with asyncio.timeout(5):
        while call.closed_by is None:
            await asyncio.sleep(0.005)
    return call.closed_by
