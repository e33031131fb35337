"""A viewer for tests: reads the events route as a careful client would, and adds up what it got."""

import json
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.protocol.sse import ServerSentEvent, SseParser

READ_TIMEOUT_S = 60.0
TERMINAL = ("done", "failed", "cancelled")


@dataclass
class Seen:
    """What one viewer saw. ``text`` is what it would show; ``ids`` every id in order; ``events`` (type, data)."""

    status: int = 0
    ids: list[str] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _pieces: list[str] = field(default_factory=list)

    def take(self, event: ServerSentEvent) -> None:
        data = json.loads(event.data)
        if event.event == "message":
            self._pieces.append(data.get("text", ""))
        elif event.event in ("started", "restart"):
            self._pieces = []
        elif event.event == "snapshot":
            self._pieces = [data["text"]]
        self.ids.append(event.id)
        self.events.append((event.event, data))

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def types(self) -> list[str]:
        """The types that are no deltas, in order (without ``queued``, which only an early viewer sees)."""
        return [kind for kind, _ in self.events if kind not in ("message", "queued")]

    @property
    def told_ids(self) -> list[str]:
        """The ids from the text's opening on."""
        return [seen_id for seen_id, (kind, _) in zip(self.ids, self.events, strict=True) if kind != "queued"]

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1][0] in TERMINAL

    @property
    def last_id(self) -> str:
        return self.ids[-1] if self.ids else ""


async def view(client: httpx.AsyncClient, url: str, seen: Seen | None = None, *, most: int | None = None) -> Seen:
    """Read one response from behind what was seen: to its end, or for ``most`` events and then drop it."""
    seen = seen or Seen()
    headers = {"Last-Event-ID": seen.last_id} if seen.last_id else {}
    parser = SseParser()
    count = 0
    async with client.stream("GET", url, headers=headers, timeout=READ_TIMEOUT_S) as response:
        seen.status = response.status_code
        if response.status_code != 200:
            return seen
        async with aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                for event in parser.feed(chunk):
                    seen.take(event)
                    count += 1
                    if seen.ended or (most is not None and count >= most):
                        return seen
    return seen


async def view_to_end(
    client: httpx.AsyncClient, url: str, *, drop_every: int | None = None, seen: Seen | None = None
) -> Seen:
    """Read until the terminal event, coming back with Last-Event-ID whenever the response ends."""
    seen = seen or Seen()
    for _ in range(10_000):
        try:
            await view(client, url, seen, most=drop_every)
        except httpx.TransportError:
            continue
        if seen.ended or seen.status != 200:
            return seen
    raise AssertionError("the stream never ended")
