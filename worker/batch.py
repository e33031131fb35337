"""The calls that wait, and one flush as commands with what its replies mean: pure, no I/O."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import ResponseError

from shared.keys import Keys
from shared.log import append_outcome
from shared.redis import Command, Script, command
from worker.carried import Carried

SETTLING: Final = b"settling"
SETTLING_S: Final = 0.2
"""A server settles within four seconds (``prelude.lua``)."""


@dataclass(slots=True, eq=False)
class Call:
    """A script that must come behind all appends of its stream."""

    carried: Carried
    name: str
    args: tuple[str | bytes | int, ...]
    answer: "asyncio.Future[bytes]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    due_at: float = 0.0

    def command(self, keys: Keys, scripts: Mapping[str, Script]) -> Command:
        """The EVALSHA of this call."""
        names = keys.stream(self.carried.stream_id)
        return command(names.log, "EVALSHA", scripts[self.name].sha, len(names), *names, *self.args)


class Line:
    """The calls that wait for their turn, and for their answer."""

    def __init__(self) -> None:
        self._calls: dict[Call, None] = {}

    def add(self, call: Call) -> None:
        self._calls[call] = None

    def drop(self, carried: Carried) -> None:
        """Nobody waits for this attempt's calls any more."""
        for call in [call for call in self._calls if call.carried is carried]:
            del self._calls[call]
            call.answer.cancel()

    def waiting(self) -> set[Carried]:
        """The attempts that have a call here."""
        return {call.carried for call in self._calls}

    def due(self, now: float) -> list[Call]:
        """The calls that may go now, in order."""
        return [call for call in self._calls if call.due_at <= now]

    def answer(self, call: Call, reply: Any, now: float) -> bool:
        """Take a call's reply. Out: False where the server is not ready for it: it goes once more, later."""
        if reply == SETTLING:
            # Half of it, for a timer may fire a little early, and nobody would look again.
            call.due_at = now + SETTLING_S / 2
            return False
        self._calls.pop(call, None)
        if not call.answer.done():
            if isinstance(reply, ResponseError):
                call.answer.set_exception(reply)
            else:
                call.answer.set_result(reply)
        return True


class Batch:
    """Appends of many streams, then calls, then the wake-up: one write."""

    def __init__(self, keys: Keys, scripts: Mapping[str, Script]) -> None:
        self._keys = keys
        self._scripts = scripts
        self._appending: list[Carried] = []
        self._calls: list[Call] = []
        self.commands: list[Command] = []

    @property
    def touched(self) -> bytes:
        """The streams of this batch, as the wake-up channel names them."""
        attempts = self._appending + [call.carried for call in self._calls]
        return " ".join(dict.fromkeys([carried.stream_id for carried in attempts])).encode()

    def append(self, carried: Carried, entries: Sequence[bytes]) -> None:
        """Add one stream's entries."""
        self.commands.append(carried.log.append(entries))
        self._appending.append(carried)

    def call(self, call: Call) -> None:
        """Add a script (behind all appends)."""
        self.commands.append(call.command(self._keys, self._scripts))
        self._calls.append(call)

    def publish(self) -> None:
        """Add the wake-up (behind everything)."""
        channel = self._keys.wake_channel
        self.commands.append(command(channel, "PUBLISH", channel, self.touched))

    def appended(self, replies: Sequence[Any]) -> Iterator[tuple[Carried, ResponseError | bool | None]]:
        """Each stream with what its append led to (see :func:`shared.log.append_outcome`)."""
        return zip(self._appending, map(append_outcome, replies), strict=False)

    def answered(self, replies: Sequence[Any]) -> Iterator[tuple[Call, Any]]:
        """Each call with its reply (which may be a ``ResponseError``)."""
        start = len(self._appending)
        return zip(self._calls, replies[start : start + len(self._calls)], strict=True)
