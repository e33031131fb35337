"""The worlds that attacks strike: real processes, keys, and the providers around them."""

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from redis.asyncio import Redis

from shared.config.api_keys import new_api_key
from tests.hostile.attack import Told
from tests.hostile.bystander import PROVIDER, Bystander
from tests.hostile.provider import HostileProvider
from tests.hostile.wire import ATTACKER, outcome_of
from tests.support.stack import Stack, running_stack

HOSTILE: Final = "vllm/harm"
SCRIPTED: Final = "local/scripted"
"""The models of the attacker: the hostile provider, and a scripted one that behaves."""
BEHIND: Final = ("mob-1", "mob-2", "mob-3", "mob-4")
"""The attacker's friends: keys that do the same at once."""
TURNS: Final = 80
"""Keys of the attacker: a new one for each attack, since what one did counts against its key for a minute."""
SHELL_FILES: Final = 1024
"""``ulimit -n`` of a usual shell: the processes are started under it, and may raise it themselves."""
SERVER_MEMORY: Final = "512mb"
ENDED: Final = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Kind:
    """How a world is started. ``settings``: ``HEADRACE_…`` variables."""

    keys: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)


WORLDS: Final[Mapping[str, Kind]] = {
    "keys": Kind(),
    "tight": Kind(
        settings={
            "HEADRACE_MAX_QUEUE": "400",
            "HEADRACE_VIEWERS": "200",
            "HEADRACE_OPENS_PER_STREAM": "600",
            "HEADRACE_REWRITE_S": "1",
            "HEADRACE_TOKEN_LIFE_S": "2",
            "HEADRACE_IDLE_TIMEOUT_S": "2",
            "HEADRACE_LIVENESS_TIMEOUT_S": "3",
            "HEADRACE_FIRST_TOKEN_TIMEOUT_S": "4",
        }
    ),
    "open": Kind(keys=False),
}
"""``keys``: as deployed. ``tight``: small limits, so that they are reached within seconds. ``open``: no keys, as
``headrace up`` starts it on a developer's machine."""


class World:
    """One set of processes under attack. ``mallory``: a client with the attacker's key (none in an open world),
    whose name is ``me``; ``stranger``: one without. ``closing``: what an attack leaves open until the bystander was
    measured."""

    def __init__(
        self,
        stack: Stack,
        harm: HostileProvider,
        bystander: Bystander,
        keys: Mapping[str, str],
        closing: AsyncExitStack,
    ) -> None:
        self.stack = stack
        self.harm = harm
        self.bystander = bystander
        self.keys = keys
        self.closing = closing
        self.clients = {name: self.client(name) for name in (*BEHIND, "")}
        self._turn = 0
        self.turn()
        self.made: list[tuple[str, str]] = []
        """Streams that attacks have made: whose, and the id."""

    def turn(self) -> None:
        """The next attack: the attacker takes another key."""
        self._turn = self._turn % TURNS + 1
        self.me = f"mallory-{self._turn}"
        self.clients.setdefault(self.me, self.client(self.me))

    @property
    def mallory(self) -> httpx.AsyncClient:
        return self.clients[self.me]

    @property
    def stranger(self) -> httpx.AsyncClient:
        return self.clients[""]

    @property
    def urls(self) -> list[str]:
        return [api.url for api in self.stack.apis]

    def keep_open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold this connection until the bystander was measured."""

        def leave(_reader: asyncio.StreamReader) -> None:
            writer.transport.abort()

        # Without its reader a connection would be closed.
        self.closing.callback(leave, reader)

    def bearer(self, name: str) -> str:
        """The header that carries this name's key; an empty world has none, and anything does."""
        return f"Authorization: Bearer {self.keys.get(name, 'none')}"

    def client(self, name: str, url: str = "") -> httpx.AsyncClient:
        """An HTTP client from the attacker's address with this name's key ('': none)."""
        key = self.keys.get(name)
        return httpx.AsyncClient(
            base_url=url or self.urls[0],
            headers={"Authorization": f"Bearer {key}"} if key else {},
            transport=httpx.AsyncHTTPTransport(
                local_address=ATTACKER, limits=httpx.Limits(max_connections=64, max_keepalive_connections=64)
            ),
            timeout=30,
        )

    async def create(self, told: Told, prompt: object, *, of: str = "", **body: Any) -> dict[str, Any]:
        """Create a stream and note the outcome. Out: the answer ({} for a refusal). ``of``: whose key, not
        the attacker's."""
        text = prompt if isinstance(prompt, str) else json.dumps(prompt)
        asked = {"model": SCRIPTED, "prompt": text, **body}
        try:
            answer = await self.clients[of or self.me].post("/v1/streams", json=asked)
        except httpx.TransportError as error:
            told.outcomes[type(error).__name__] += 1
            return {}
        told.outcomes[outcome_of(answer.status_code, answer.content)] += 1
        if answer.status_code != 202:
            return {}
        made = dict(answer.json())
        self.made.append((of or self.me, made["id"]))
        return made

    async def ask_harm(self, told: Told, harm: str, name: str = "", **more: Any) -> dict[str, Any]:
        """Create a stream whose answer does this harm (see :mod:`tests.hostile.provider`)."""
        script = {"harm": harm, "name": name or harm, **more}
        return await self.create(told, script, model=HOSTILE, on_failure="fail")

    async def record(self, stream_id: str) -> dict[str, Any]:
        """A stream's record, through the attacker's key; {} when it is gone or can't be had now."""
        with contextlib.suppress(httpx.TransportError):
            answer = await self.mallory.get(f"/v1/streams/{stream_id}")
            if answer.status_code == 200:
                return dict(answer.json())
        return {}

    async def until_ended(self, stream_id: str, within_s: float) -> dict[str, Any]:
        """The record of a stream that has ended; its latest record where it has not ended within this time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while True:
            record = await self.record(stream_id)
            if record.get("status") in ENDED or loop.time() > until:
                return record
            await asyncio.sleep(0.1)

    async def used_memory(self) -> int:
        """Bytes that Redis has in use."""
        async with Redis.from_url(self.stack.server.url) as redis:
            return int((await redis.info("memory"))["used_memory"])

    async def close_clients(self) -> None:
        for client in self.clients.values():
            await client.aclose()

    async def clean(self) -> None:
        """Erase all that attacks have made, so that the next one begins with an empty queue."""
        made, self.made = self.made, []

        async def erase(of: str, stream_id: str) -> None:
            with contextlib.suppress(httpx.TransportError):
                await self.clients[of].delete(f"/v1/streams/{stream_id}")

        await spread(64, (erase(*one) for one in made))


async def spread(at_once: int, tasks: Iterable[Awaitable[Any]]) -> None:
    """Await all of these, so many at once."""
    waiting = iter(tasks)

    async def lane() -> None:
        for task in waiting:
            await task

    await asyncio.gather(*(lane() for _ in range(at_once)))


@contextlib.contextmanager
def shell_files() -> Iterator[None]:
    """Processes that are started in the block begin with the soft limit of open files of a usual shell."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(SHELL_FILES, before[0]), before[1]))
    try:
        yield
    finally:
        # The attacker needs many sockets itself.
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))


@asynccontextmanager
async def running_world(directory: Path, kind: Kind, *, apis: int = 1, workers: int = 1) -> AsyncIterator[World]:
    """A world that is gone when the block ends."""
    names = ("ann", *(f"mallory-{n}" for n in range(1, TURNS + 1)), *BEHIND) if kind.keys else ()
    made = {name: new_api_key(name) for name in names}
    keys = {name: secret for name, (secret, _) in made.items()}
    settings = {"HEADRACE_LOG_LEVEL": "info", **kind.settings}
    if keys:
        settings["HEADRACE_API_KEYS"] = ",".join(entry for _, entry in made.values())
    async with AsyncExitStack() as stack:
        bystander = await stack.enter_async_context(Bystander())
        harm = await stack.enter_async_context(HostileProvider())
        settings[f"{PROVIDER}_BASE_URL"] = bystander.provider_url
        settings |= {"VLLM_BASE_URL": harm.base_url, "VLLM_CONTINUES": "no"}
        with shell_files():
            running = await stack.enter_async_context(
                running_stack(
                    directory,
                    workers=workers,
                    apis=apis,
                    server_config={"maxmemory": SERVER_MEMORY},
                    **settings,
                )
            )
        closing = await stack.enter_async_context(AsyncExitStack())
        world = World(running, harm, bystander, keys, closing)
        stack.push_async_callback(world.close_clients)
        running.client.headers["Authorization"] = f"Bearer {keys.get('ann', 'none')}"
        await running.until_ready()
        yield world
