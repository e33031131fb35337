"""One flush as commands, and what its replies mean: pure, no I/O."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from shared.keys import Keys
from shared.log import Entry, append_commands, append_outcome
from shared.resp import Command
from shared.scripts import Script
from worker.carried import Carried


@dataclass(slots=True, eq=False)
class Call:
    """A script that must come behind all appends of its stream."""

    carried: Carried
    name: str
    args: tuple[str | bytes | int, ...]
    answer: "asyncio.Future[bytes]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def command(self, keys: Keys, scripts: Mapping[str, Script]) -> Command:
        """The EVALSHA of this call."""
        names = keys.stream(self.carried.stream_id)
        return ("EVALSHA", scripts[self.name].sha, len(names), *names, *self.args)


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
