"""The processes of a chaos run, each behind proxies of its own, and what was done to them."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chaos import blockable_worker
from tests.chaos.stores import FailOver, OneServer, Store, open_store
from tests.support.processes import Child, base_env, start_api, start_worker
from tests.support.scripted_provider import ScriptedProvider
from tests.support.tcp_proxy import TcpProxy

SETTINGS = {
    "HEADRACE_LOG_CAP": "100",  # trims within an answer
    "HEADRACE_LINGER_S": "1",  # late viewers read the log, not a buffer
    "HEADRACE_KEEPALIVE_S": "5",
    "HEADRACE_MAX_ATTEMPTS": "9",  # with faults every second, three would be gone soon
    "HEADRACE_FIRST_TOKEN_TIMEOUT_S": "4",
    "HEADRACE_IDLE_TIMEOUT_S": "4",
    "HEADRACE_SEND_TIMEOUT_S": "10",
    "HEADRACE_SECRET": "a secret of the chaos run",  # kept in Redis it would be lost with the last moments
}
START_S = 60.0
SAMPLE_S = 0.05


@dataclass
class Slot:
    """A place for one process, which dies and comes back. ``busy`` while a fault has it."""

    kind: str
    number: int
    redis: TcpProxy | None
    """None where Redis is more than one server: their addresses are told by themselves."""
    far: TcpProxy
    """A worker's provider is behind it; of an API process: that process itself, for viewers and callers."""
    child: Child | None = None
    starts: int = 0
    busy: bool = False


@dataclass
class Struck:
    """One fault: its name and details, and when it began and was over (s, monotonic). ``loses``: it may have taken
    away what was acknowledged."""

    name: str
    began: float
    loses: bool = False
    detail: str = ""
    ended: float | None = None


@dataclass
class World:
    directory: Path
    store: Store
    provider: ScriptedProvider
    slots: list[Slot] = field(default_factory=list)
    struck: list[Struck] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    """Processes that ended though no fault ended them."""
    false_starts: list[str] = field(default_factory=list)

    @property
    def one(self) -> OneServer:
        """The one server, where faults strike that know of one."""
        assert isinstance(self.store, OneServer)
        return self.store

    def lost_since(self, at: float) -> bool:
        """Whether anything acknowledged since then (s, monotonic), or shortly before, may be lost. (A replica may
        take over also where no fault asked for it, when the machine is busy.)"""
        return isinstance(self.store, FailOver) or any(
            fault.loses and (fault.ended is None or fault.ended >= at) for fault in self.struck
        )

    def of(self, kind: str) -> list[Slot]:
        return [slot for slot in self.slots if slot.kind == kind]

    @property
    def urls(self) -> list[str]:
        """Where viewers and callers find the API processes: at their proxies."""
        return [f"http://127.0.0.1:{slot.far.port}" for slot in self.of("api")]

    async def start(self, slot: Slot) -> None:
        """Start the slot's process, as often as it takes: a supervisor would do so too."""
        async with asyncio.timeout(START_S):
            while True:
                try:
                    await self._start(slot)
                except pytest.fail.Exception as error:
                    self.false_starts.append(str(error).splitlines()[-1])
                    await asyncio.sleep(0.3)
                else:
                    return

    async def watch(self) -> None:
        """Until cancelled: whoever ends though no fault ended it is noted, and started again."""
        while True:
            for slot in self.slots:
                if not slot.busy and slot.child and slot.child.exit_code is not None:
                    slot.busy = True
                    tail = slot.child.output().strip().rpartition("\n")[2]
                    self.deaths.append(f"{slot.child.name} ended by itself with {slot.child.exit_code}: {tail}")
                    await self.start(slot)
                    slot.busy = False
            await asyncio.sleep(SAMPLE_S)

    async def _start(self, slot: Slot) -> None:
        """An API process comes back on its old port."""
        slot.starts += 1
        env = base_env(
            f"redis://127.0.0.1:{slot.redis.port}/0" if slot.redis else self.store.url,
            HEADRACE_QUEUE_URL=self.store.queue_url,
            LOCAL_CONTINUES="prefill",
            LOCAL_BASE_URL=f"http://127.0.0.1:{slot.far.port if slot.kind == 'worker' else self.provider.port}/v1",
            **SETTINGS,
        )
        name = f"{slot.kind}-{slot.number}-{slot.starts}"
        if slot.kind == "worker":
            slot.child = await asyncio.to_thread(start_worker, env, self.directory, name, blockable_worker.__name__)
        else:
            slot.child = await asyncio.to_thread(start_api, env, self.directory, name, slot.far.target_port)
            slot.far.target_port = int(slot.child.url.rpartition(":")[2])

    @contextlib.contextmanager
    def holding(self, kind: str, rng: random.Random) -> Iterator[Slot | None]:
        """A process of this kind that no other fault has; None if there is none, or it is the last that serves."""
        free = [slot for slot in self.of(kind) if not slot.busy]
        slot = rng.choice(free) if len(free) > 1 else None
        if slot:
            slot.busy = True
        try:
            yield slot
        finally:
            if slot:
                slot.busy = False

    @contextlib.contextmanager
    def holding_all(self) -> Iterator[list[Slot]]:
        """All processes; none if a fault has one of them."""
        free = [] if any(slot.busy for slot in self.slots) else self.slots
        for slot in free:
            slot.busy = True
        try:
            yield free
        finally:
            for slot in free:
                slot.busy = False


@asynccontextmanager
async def running_world(
    directory: Path, kind: str, appendfsync: str, *, workers: int = 3, apis: int = 2
) -> AsyncIterator[World]:
    """Around a store of this kind (:data:`tests.chaos.stores.STORES`). Everything is gone when the block ends."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(ScriptedProvider())
        opening = open_store(kind, directory, appendfsync)
        store = await asyncio.to_thread(opening.__enter__)
        stack.push(opening)
        world = World(directory, store, provider)
        stack.callback(lambda: [slot.child.terminate() for slot in world.slots if slot.child])
        for name, count in (("api", apis), ("worker", workers)):
            for number in range(1, count + 1):
                redis = None
                if isinstance(store, OneServer):
                    redis = await stack.enter_async_context(TcpProxy(store.server.port))
                far = await stack.enter_async_context(TcpProxy(provider.port if name == "worker" else 0))
                world.slots.append(Slot(name, number, redis, far))
        await asyncio.gather(*(world.start(slot) for slot in world.slots))
        background = [asyncio.create_task(world.watch())]
        if isinstance(store, OneServer):
            background.append(asyncio.create_task(store.remember_sizes()))
        try:
            yield world
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
