"""A viewer of the chaos run: follows the rules of docs/clients.md, and keeps everything it saw for the judge."""

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from shared.protocol.sse import ServerSentEvent, SseParser
from tests.support.sse_socket import SseSocket

TERMINAL = ("done", "failed", "cancelled")
SILENCE_S = 20.0
"""Comments come every 5 s here, so a response this silent is dead."""


@dataclass
class Answer:
    """What a viewer would show."""

    text: str = ""
    reasoning: str = ""
    arguments: str = ""

    def take(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "message":
            self.text += data.get("text", "")
            self.reasoning += data.get("reasoning", "")
            self.arguments += data.get("tool_call", {}).get("arguments", "")
        elif kind in ("started", "restart", "snapshot"):
            self.text = data.get("text", "")
            self.reasoning = data.get("reasoning", "")
            self.arguments = arguments_of(data)


def arguments_of(data: dict[str, Any]) -> str:
    """The arguments of all tool calls of a snapshot or a record."""
    return "".join(call["arguments"] for call in data.get("tool_calls") or [])


@dataclass(frozen=True)
class Seen:
    """One event: when (s), over which response, and what."""

    at: float
    response: int
    id: str
    kind: str
    data: dict[str, Any]

    @property
    def is_gone(self) -> bool:
        """Whether this tells that the stream is no more. It has no place in the log, so its id says nothing."""
        return self.kind == "failed" and self.data["code"] == "stream_gone"


@dataclass
class Viewer:
    """One viewer. ``status`` is that of the last response; ``trouble`` what no viewer may ever meet."""

    habit: str
    answer: Answer = field(default_factory=Answer)
    events: list[Seen] = field(default_factory=list)
    status: int = 0
    responses: int = 0
    trouble: list[str] = field(default_factory=list)

    @property
    def last_id(self) -> str:
        return self.events[-1].id if self.events else ""

    @property
    def terminal(self) -> Seen | None:
        """The first terminal event, if one came."""
        return next((seen for seen in self.events if seen.kind in TERMINAL), None)

    @property
    def over(self) -> bool:
        """Whether nothing more can come: the end was told, or the stream is no more."""
        return self.terminal is not None or self.status == 404

    @property
    def is_gone(self) -> bool:
        """Whether it was told that the stream is no more."""
        return self.status == 404 or any(seen.is_gone for seen in self.events[-1:])

    def take(self, event: ServerSentEvent) -> None:
        data = json.loads(event.data)
        self.answer.take(event.event, data)
        self.events.append(Seen(time.monotonic(), self.responses, event.id, event.event, data))

    async def read(self, url: str, *, most: int = 0, slowly: bool = False) -> None:
        """One response: to its end, or for ``most`` events. Raises ``OSError`` or ``EOFError`` where it breaks."""
        parser = SseParser()
        loop = asyncio.get_running_loop()
        left = most or -1
        async with await SseSocket.open(url, self.last_id, receive_buffer=4096 if slowly else 0) as response:
            self.responses += 1
            self.status = response.status
            if response.status != 200:
                self._refused()
                return
            pieces = response.body(512 if slowly else 65536)
            async with aclosing(pieces), asyncio.timeout(SILENCE_S) as silence:
                async for piece in pieces:
                    silence.reschedule(loop.time() + SILENCE_S)
                    for event in parser.feed(piece):
                        self.take(event)
                        left -= 1
                        if left == 0:
                            return
                    if slowly:
                        await asyncio.sleep(0.1)

    def _refused(self) -> None:
        if self.status == 204 and self.terminal is None:
            self.trouble.append("204 before any terminal event")
        elif self.status not in (204, 404):
            self.trouble.append(f"status {self.status} on the events route")
