"""All of Headrace as real processes, around a scripted provider: for integration and end-to-end tests."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis

from shared.store.keys import Keys
from tests.support.processes import Child, Server, base_env, start_api, start_server, start_worker
from tests.support.scripted_provider import Call, ScriptedProvider

WAIT_S = 60.0
LEAST_PAUSE_S, MOST_PAUSE_S = 0.03, 0.15


class Stack:
    """A server, API processes and workers. ``client`` speaks to the first API process."""

    def __init__(self, directory: Path, provider: ScriptedProvider, settings: dict[str, str]) -> None:
        self.directory = directory
        self.provider = provider
        self.workers: list[Child] = []
        self.apis: list[Child] = []
        self.server: Server
        self.client: httpx.AsyncClient
        self.settings = settings
        self._started = 0

    @property
    def openai_url(self) -> str:
        """What OpenAI's libraries take for the base URL of the first API process."""
        return f"{self.apis[0].url}/v1"

    def env(self) -> dict[str, str]:
        return (
            base_env(
                self.server.url,
                LOCAL_BASE_URL=self.provider.base_url,
                LOCAL_CONTINUES="no",
                HEADRACE_LOG_LEVEL="debug",
            )
            | self.settings
        )

    async def add_worker(self, start: Callable[..., Child] = start_worker) -> Child:
        self._started += 1
        name = f"worker-{self._started}"
        child = await asyncio.to_thread(start, self.env(), self.directory, name)
        self.workers.append(child)
        return child

    async def add_api(self) -> Child:
        self._started += 1
        child = await asyncio.to_thread(start_api, self.env(), self.directory, f"api-{self._started}")
        self.apis.append(child)
        return child

    async def create(self, script: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
        """Create a stream whose prompt is the script. Out: the create call's answer."""
        prompt = script if isinstance(script, str) else json.dumps(script)
        headers = more.pop("headers", {})
        answer = await self.client.post("/v1/streams", json={"prompt": prompt, **more}, headers=headers)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def record(self, stream_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"/v1/streams/{stream_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def until_status(self, stream_id: str, *wanted: str) -> dict[str, Any]:
        """The record, once it has one of these statuses. The pauses between two looks grow: each look takes 3 ms of
        CPU, and most of those who look wait for seconds."""
        pause = LEAST_PAUSE_S
        async with asyncio.timeout(WAIT_S):
            while True:
                record = await self.record(stream_id)
                if record["status"] in wanted:
                    return record
                await asyncio.sleep(pause)
                pause = min(pause * 1.3, MOST_PAUSE_S)

    async def until_said(self, stream_id: str, length: int = 1) -> dict[str, Any]:
        """The record, once this many characters were said."""
        async with asyncio.timeout(WAIT_S):
            while True:
                record = await self.record(stream_id)
                if len(record["text"]) >= length:
                    return record
                await asyncio.sleep(0.03)

    async def until_ready(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while (await self.client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)

    async def viewers(self) -> int:
        """How many open responses the first API process counts."""
        found = re.search(r"^headrace_viewers (\d+)", (await self.client.get("/metrics")).text, re.MULTILINE)
        assert found
        return int(found[1])

    def calls(self, name: str) -> list[Call]:
        return [call for call in self.provider.calls if call.name == name]

    async def until_called(self, name: str, times: int = 1, within_s: float = WAIT_S) -> None:
        """Wait until the provider was called so often under this name."""
        async with asyncio.timeout(within_s):
            while len(self.calls(name)) < times:
                await asyncio.sleep(0.01)

    async def until_sent(self, name: str, tokens: int) -> None:
        """Wait until the provider has said so many tokens in its first call of this name."""
        await self.until_called(name)
        async with asyncio.timeout(WAIT_S):
            while self.calls(name)[0].sent < tokens:
                await asyncio.sleep(0.01)

    async def until_closed(self, name: str) -> Call:
        """The provider's first call of this name, once it is closed; ``closed_by`` tells by whom."""
        await self.until_called(name)
        async with asyncio.timeout(WAIT_S):
            while (call := self.calls(name)[0]).closed_by is None:
                await asyncio.sleep(0.01)
        return call

    def end_processes(self) -> None:
        """End all API and worker processes, at once. Blocks until they have ended."""
        children = [*self.apis, *self.workers]
        for child in children:
            child.ask_to_end()
        for child in children:
            child.terminate()

    async def carrier(self, stream_id: str) -> Child:
        """The worker process that holds this stream, as its record tells."""
        async with Redis.from_url(self.server.url) as redis:
            name = (await redis.hget(Keys("headrace").stream(stream_id).meta, "worker")).decode()
        return next(worker for worker in self.workers if name in worker.output())


@asynccontextmanager
async def running_stack(
    directory: Path,
    *,
    workers: int = 1,
    apis: int = 1,
    logs: str = "",
    server_config: Mapping[str, str] | None = None,
    **settings: str,
) -> AsyncIterator[Stack]:
    """A stack that is gone when the block ends. ``settings`` are ``HEADRACE_…`` variables; ``logs`` is where
    the logs lie, if not on the server that holds the queue. ``server_config``: more settings of that server."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(ScriptedProvider())
        made = Stack(directory, provider, settings)
        made.server = await asyncio.to_thread(start_server, directory, **(server_config or {}))
        if logs:
            settings |= {"HEADRACE_REDIS_URL": logs, "HEADRACE_QUEUE_URL": made.server.url}
        # In a thread: the provider's connections are closed by this loop, while the processes end.
        stack.push_async_callback(asyncio.to_thread, made.server.stop)
        stack.push_async_callback(asyncio.to_thread, made.end_processes)
        await asyncio.gather(*(made.add_api() for _ in range(apis)), *(made.add_worker() for _ in range(workers)))
        client = httpx.AsyncClient(base_url=made.apis[0].url, timeout=WAIT_S)
        made.client = await stack.enter_async_context(client)
        yield made
