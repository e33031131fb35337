"""The calls that wait, and one flush as commands with what its replies mean: pure, no I/O."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import ResponseError

from shared.keys import Keys
from shared.log import Entry, append_commands, append_outcome
from shared.resp import Command
from shared.scripts import Script
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
        return ("EVALSHA", scripts[self.name].sha, len(names), *names, *self.args)


class Line:
    """The calls that wait for their turn, and for their answer."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def add(self, call: Call) -> None:
        self._calls.append(call)

    def drop(self, carried: Carried) -> None:
        """Nobody waits for this attempt's calls any more."""
        for call in [call for call in self._calls if call.carried is carried]:
            self._calls.remove(call)
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
        if call in self._calls:
            self._calls.remove(call)
        if not call.answer.done():
            if isinstance(reply, ResponseError):
                call.answer.set_exception(reply)
            else:
                call.answer.set_result(reply)
        return True


class Batch:
    """Appends of many streams, then calls, then the hint: one write."""

    def __init__(self, keys: Keys, scripts: Mapping[str, Script], cap: int) -> None:
        self._keys = keys
        self._scripts = scripts
        self._cap = cap
        self._spans: list[tuple[Carried, int]] = []
        self._calls: list[Call] = []
        self._touched: dict[str, None] = {}
        self.commands: list[Command] = []

    @property
    def touched(self) -> bytes:
        """The streams of this batch, as the wake-up channel names them."""
        return " ".join(self._touched).encode()

    def append(self, carried: Carried, entries: Sequence[Entry]) -> None:
        """Add one stream's entries."""
        commands = append_commands(self._keys.log(carried.stream_id), self._cap, entries)
        self.commands += commands
        self._spans.append((carried, len(commands)))
        self._touched[carried.stream_id] = None

    def call(self, call: Call) -> None:
        """Add a script (behind all appends)."""
        self.commands.append(call.command(self._keys, self._scripts))
        self._calls.append(call)
        self._touched[call.carried.stream_id] = None

    def appended(self, replies: Sequence[Any]) -> Iterator[tuple[Carried, ResponseError | bool | None]]:
        """Each stream with what its append led to (see :func:`shared.log.append_outcome`)."""
        start = 0
        for carried, count in self._spans:
            yield carried, append_outcome(replies[start : start + count])
            start += count

    def answered(self, replies: Sequence[Any]) -> Iterator[tuple[Call, Any]]:
        """Each call with its reply (which may be a ``ResponseError``)."""
        start = sum(count for _, count in self._spans)
        yield from zip(self._calls, replies[start : start + len(self._calls)], strict=True)
