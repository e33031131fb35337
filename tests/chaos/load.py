"""The steady load: so many streams at once, each with its viewers, judged when it has ended and at the end."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.client import Client
from tests.chaos.habits import HABITS, steady
from tests.chaos.invariant import AGAIN, GONE, Facts, judge, judge_weak
from tests.chaos.spoken import SpokenViewer, judge_spoken, spoken_viewer
from tests.chaos.stories import Story, story
from tests.chaos.viewer import Viewer
from tests.chaos.world import World

LAST_S = 75.0
"""When all faults are over every stream ends within this; most take seconds."""
PAUSE_S = 0.1
LASTING = ("status", "text", "reasoning", "tool_calls", "last_event_id", "attempt", "error")
"""Fields of a record that nothing may change after the end."""


@dataclass
class Stream:
    """One stream and all that is known of it. ``wrong``: what the judge found. ``lost``: what the server forgot
    of it, and may forget (see :data:`tests.chaos.invariant.LOSSES`)."""

    story: Story
    id: str = ""
    made: tuple[float, float] = (0.0, 0.0)
    """When its creation was asked for, and when it was answered (s, monotonic)."""
    url: str = ""
    viewers: list[Viewer] = field(default_factory=list)
    spoken: SpokenViewer | None = None
    """The one that reads in a dialect."""
    record: dict[str, Any] | None = None
    first_record: dict[str, Any] | None = None
    """As it was when the stream had just ended; ``record`` is the latest."""
    cancelled_at: float | None = None
    cancel_answer: str = ""
    took_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def status(self) -> str:
        return "gone" if self.ended and self.record is None else (self.record or {}).get("status", "never ended")


class Load:
    """Keeps ``at_once`` streams going. ``streams`` is everything that was ever asked for."""

    def __init__(self, world: World, client: Client, seed: str, at_once: int, on_failure: tuple[str, ...]) -> None:
        self.streams: list[Stream] = []
        self._world = world
        self._client = client
        self._seed = seed
        self._at_once = at_once
        self._on_failure = on_failure
        self._numbers = itertools.count(1)
        self._enough = asyncio.Event()

    async def run(self) -> None:
        """Begin streams until :meth:`end`; then wait for their ends, ``LAST_S`` at most."""
        lanes = [asyncio.create_task(self._lane()) for _ in range(self._at_once)]
        try:
            await self._enough.wait()
            done, _late = await asyncio.wait(lanes, timeout=LAST_S)
        finally:
            for task in lanes:
                task.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        for task in done:
            task.result()
        for stream in self.streams:
            if not stream.ended:
                stream.wrong.append(f"did not end within {LAST_S:.0f} s after the last fault")

    def end(self) -> None:
        """Begin no more."""
        self._enough.set()

    async def _lane(self) -> None:
        while not self._enough.is_set():
            stream = Stream(story(self._seed, next(self._numbers), self._on_failure))
            self.streams.append(stream)
            try:
                await self._live(stream)
            except* (AssertionError, TimeoutError) as found:
                stream.wrong += [f"{type(error).__name__}: {error}" for error in found.exceptions]
                stream.ended = True
            await asyncio.sleep(PAUSE_S)

    async def _live(self, stream: Stream) -> None:
        rng = random.Random(f"{self._seed}/viewers/{stream.story.name}")
        began = time.monotonic()
        made = await self._client.create(stream.story.name, stream.story.body())
        stream.made = (began, time.monotonic())
        stream.id, stream.url = made["id"], made["events_url"]
        urls = [url + stream.url for url in self._world.urls]
        async with asyncio.TaskGroup() as group:
            for habit in stream.story.viewers:
                viewer = Viewer(habit)
                stream.viewers.append(viewer)
                group.create_task(HABITS[habit](viewer, urls, random.Random(rng.random())))
            spoken = stream.spoken = spoken_viewer(rng.choice(list(HABITS)), rng)
            mark = "&" if "?" in stream.url else "?"
            spoken_urls = [f"{url}{mark}dialect={spoken.dialect}" for url in urls]
            group.create_task(HABITS[spoken.habit](spoken, spoken_urls, random.Random(rng.random())))
            if stream.story.cancel_after_s is not None:
                group.create_task(self._cancel(stream, stream.story.cancel_after_s))
        stream.took_s = time.monotonic() - began
        stream.record = stream.first_record = await self._client.record(stream.id)
        stream.ended = True
        self._judge(stream, stream.viewers)
        lost = self._world.lost_since(stream.made[0])
        stream.wrong += judge_spoken(self._facts(stream, ()), spoken, lost=lost)
        if stream.record is None and not stream.wrong:
            await self._make_anew(stream)
        if not stream.wrong:
            # A long run must not hold every event of every viewer; the last look needs only the end.
            for viewer in stream.viewers:
                del viewer.events[:-1]

    async def _cancel(self, stream: Stream, after_s: float) -> None:
        await asyncio.sleep(after_s)
        stream.cancel_answer = await self._client.cancel(stream.id)
        stream.cancelled_at = time.monotonic()

    def _judge(self, stream: Stream, viewers: Sequence[Viewer]) -> None:
        """By the invariant that holds for it: the weaker one only where a fault may have taken something away."""
        facts = self._facts(stream, viewers)
        if not self._world.lost_since(stream.made[0]):
            stream.wrong += judge(facts)
            return
        wrong, lost = judge_weak(facts)
        stream.wrong += wrong
        # However many saw it, it was lost once.
        stream.lost += [loss for loss in dict.fromkeys(lost) if loss not in stream.lost]

    def _facts(self, stream: Stream, viewers: Sequence[Viewer]) -> Facts:
        calls = [call for call in self._world.provider.calls if call.name == stream.story.name]
        return Facts(stream.story, viewers, stream.record, calls, stream.cancel_answer == "cancelled")

    async def _make_anew(self, stream: Stream) -> None:
        """It was forgotten: the same create makes it anew, under its old id, and it ends."""
        made = await self._client.create(stream.story.name, stream.story.body())
        if made["id"] != stream.id:
            stream.wrong.append(f"made again it has another id: {made['id']}")
            return
        stream.cancel_answer = ""
        fresh = Viewer("made again")
        async with asyncio.timeout(LAST_S):
            await steady(fresh, [url + made["events_url"] for url in self._world.urls], random.Random(1))
        stream.record = stream.first_record = await self._client.record(stream.id)
        self._judge(stream, [fresh])
        stream.viewers.append(fresh)

    async def look_again(self) -> None:
        """Every stream once more, when all is calm: the same record, and a new viewer sees the same."""
        for stream in self.streams:
            if not stream.ended or stream.wrong or stream.record is None:
                continue
            before = stream.record
            stream.record = await self._client.record(stream.id)
            changed = [name for name in LASTING if (stream.record or {}).get(name) != before.get(name)]
            if changed and not self._world.lost_since(stream.made[0]):
                stream.wrong.append(f"changed after its end: {', '.join(changed)}")
                continue
            if changed:
                stream.lost += {GONE if stream.record is None else AGAIN} - set(stream.lost)
            if stream.record is None:
                continue
            urls = [url + stream.url for url in self._world.urls]
            fresh = Viewer("afterwards")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await steady(fresh, urls, random.Random(1))
            stream.viewers.append(fresh)
            back = Viewer("back at the end", events=fresh.events[-1:])
            await back.read(urls[0])
            if back.status != 204:
                stream.wrong.append(f"status {back.status} and not 204 behind the terminal event")
            self._judge(stream, [fresh])
            open_calls = [
                call for call in self._world.provider.calls if call.name == stream.story.name and not call.closed_by
            ]
            if open_calls:
                stream.wrong.append(f"{len(open_calls)} upstream connections are still open")
