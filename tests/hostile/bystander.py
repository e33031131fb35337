"""The bystander: a process that reads its own streams and measures how long it waits.

Theory of operation. ``python -m tests.hostile.bystander`` serves the scripted provider that its streams use and
prints the provider's base URL. Then it obeys lines of JSON on stdin. ``{"urls", "key", "streams"}`` begins a watch:
so many streams of 20 tokens/s are created and read through the API processes in turn, and a short stream is created
twice a second. When each of them has begun it answers ``{}``; from then on it measures. ``{}`` ends the watch; the
answer is a :class:`Watched`. It ends when stdin closes.
"""

import asyncio
import itertools
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from shared.protocol.sse import SseParser
from tests.support.scripted_provider import ScriptedProvider
from tests.support.sse_socket import SseSocket

PROVIDER, MODEL = "LMSTUDIO", "lmstudio/scripted"
"""The bystander's provider, which no attacker uses unless the attack says so."""
TOKEN_S = 0.05
PROBE_S = 0.5
WARM_S = 20.0
TICK_S = 0.01
LONG = {"tokens": 4000, "interval_ms": TOKEN_S * 1000}
SHORT = {"tokens": 3}
PATIENCE_S = 30.0
AGAIN_S = 0.1


@dataclass
class Watched:
    """What the bystander saw, in seconds. ``gap``: the longest time between two tokens; ``create``: the longest
    create call; ``first``: the longest time from a create to its first token; ``late``: how late this process's own
    clock was."""

    gap: float = 0.0
    create: float = 0.0
    first: float = 0.0
    late: float = 0.0
    tokens: int = 0
    probes: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def worst(self) -> float:
        """The longest wait, without what the machine itself was late."""
        return max(0.0, max(self.gap, self.create, self.first) - self.late)


class _Watch:
    """One watch, from its beginning to its end."""

    def __init__(self, urls: list[str], key: str) -> None:
        self.seen = Watched()
        self._urls = urls
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.AsyncClient(headers=headers, timeout=PATIENCE_S)
        self._measuring = False
        self._tasks: list[asyncio.Task[None]] = []
        self._long: set[str] = set()
        """The long streams, which are cancelled when the watch has ended."""
        self._waiting: dict[object, tuple[str, float]] = {}
        """What it waits for now: since when. What has not come when the watch ends counts too."""

    async def begin(self, streams: int) -> None:
        begun = [asyncio.Event() for _ in range(streams)]
        self._tasks = [asyncio.create_task(self._follow(n, event)) for n, event in enumerate(begun)]
        async with asyncio.timeout(WARM_S):
            for event in begun:
                await event.wait()
        await self._probe(self._urls[0])
        self._measuring = True
        now = time.monotonic()
        self._waiting = {key: (kind, now) for key, (kind, _) in self._waiting.items()}
        self._tasks += [asyncio.create_task(self._probes()), asyncio.create_task(self._clock())]

    async def end(self) -> Watched:
        for kind, since in self._waiting.values():
            self._note(kind, time.monotonic() - since)
        self._measuring = False
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                self.seen.wrong.append(f"the bystander: {type(error).__name__}: {error}")
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for url in self._long:
            with suppress(httpx.TransportError):
                await self._http.post(url + "/cancel")
        await self._http.aclose()
        return self.seen

    def _note(self, kind: str, seconds: float) -> None:
        if self._measuring:
            setattr(self.seen, kind, max(getattr(self.seen, kind), seconds))

    async def _create(self, url: str, script: dict[str, Any]) -> str:
        """Out: where its events are. A refusal is noted, and the create repeated."""
        body = {"model": MODEL, "prompt": json.dumps(script)}
        while True:
            problem = ""
            try:
                answer = await self._http.post(url + "/v1/streams", json=body)
                if answer.status_code == 202:
                    return url + str(answer.json()["events_url"])
                problem = f"a create was refused: {answer.status_code} {answer.text[:200]}"
            except httpx.TransportError as error:
                problem = f"a create failed: {type(error).__name__}"
            if self._measuring and problem not in self.seen.wrong:
                self.seen.wrong.append(problem)
            await asyncio.sleep(AGAIN_S)

    async def _follow(self, number: int, begun: asyncio.Event) -> None:
        """Read one long stream, and the next where it ends."""
        url = self._urls[number % len(self._urls)]
        while True:
            self._waiting[begun] = ("gap", time.monotonic())
            events, last_id = await self._create(url, LONG), ""
            long = events.partition("/events")[0]
            self._long.add(long)
            while events:
                with suppress(OSError, EOFError, TimeoutError):
                    async with await SseSocket.open(events, last_id, within_s=PATIENCE_S) as viewer:
                        if viewer.status == 204:
                            events = ""
                        parser = SseParser()
                        async for piece in viewer.body():
                            for event in parser.feed(piece):
                                last_id = event.id
                                if event.event == "message":
                                    self._token(begun)
                                if event.event in ("failed", "cancelled", "done"):
                                    events = ""
                                    self._long.discard(long)
                                    if self._measuring:
                                        self.seen.wrong.append(f"the bystander's stream ended: {event.data}")
                await asyncio.sleep(AGAIN_S)

    def _token(self, begun: asyncio.Event) -> None:
        now = time.monotonic()
        begun.set()
        self._note("gap", now - self._waiting[begun][1])
        self._waiting[begun] = ("gap", now)
        self.seen.tokens += self._measuring

    async def _probes(self) -> None:
        for url in itertools.cycle(self._urls):
            probing = asyncio.create_task(self._probe(url))
            await asyncio.gather(probing, asyncio.sleep(PROBE_S))

    async def _probe(self, url: str) -> None:
        """Create a short stream and wait for its first token."""
        mark = object()
        began = time.monotonic()
        self._waiting[mark] = ("create", began)
        events = await self._create(url, SHORT)
        self._note("create", time.monotonic() - began)
        self._waiting[mark] = ("first", began)
        # A viewer that is sent back comes again, as a browser does.
        while not await self._first_token(events):
            await asyncio.sleep(AGAIN_S)
        self._note("first", time.monotonic() - began)
        del self._waiting[mark]
        self.seen.probes += self._measuring

    async def _first_token(self, events: str) -> bool:
        """Read until the first token. Out: whether it came."""
        with suppress(OSError, EOFError, TimeoutError):
            async with await SseSocket.open(events, within_s=PATIENCE_S) as viewer:
                parser = SseParser()
                async for piece in viewer.body():
                    if any(event.event == "message" for event in parser.feed(piece)):
                        return True
        return False

    async def _clock(self) -> None:
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self._note("late", time.monotonic() - due)


class Bystander:
    """The process, seen from the run. A context manager."""

    provider_url: str

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.provider_url = (await self._line())["provider_url"]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def begin(self, urls: list[str], key: str, streams: int) -> None:
        """Begin a watch. Returns when its streams have begun."""
        await self._say({"urls": urls, "key": key, "streams": streams})

    async def end(self) -> Watched:
        """End the watch."""
        return Watched(**await self._say({}))

    async def _say(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        return await self._line()

    async def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the bystander has ended"
        return dict(json.loads(line))


async def main() -> None:
    """Serve until stdin closes."""
    async with ScriptedProvider() as provider:
        print(json.dumps({"provider_url": provider.base_url}), flush=True)
        stdin = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        watch: _Watch | None = None
        while line := await stdin.readline():
            asked = json.loads(line)
            if asked:
                watch = _Watch(asked["urls"], asked["key"])
                await watch.begin(asked["streams"])
                print("{}", flush=True)
            elif watch is not None:
                print(json.dumps(asdict(await watch.end())), flush=True)
                watch = None


if __name__ == "__main__":
    asyncio.run(main())
