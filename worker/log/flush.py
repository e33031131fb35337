"""One flush as commands, and what its replies mean: appends, then calls, then the wake-up. Pure, no I/O."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from shared.redis import Command, Script, command
from shared.store.keys import Keys
from shared.store.log import append_outcome
from worker.log.attempt_log import AttemptLog


@dataclass(slots=True, eq=False)
class Call:
    """A script that must come behind all appends of its stream. Sent again on a new connection: its nonce, or what
    it does, makes that harmless."""

    attempt: AttemptLog
    name: str
    args: tuple[str | bytes | int, ...]
    answer: "asyncio.Future[bytes]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def size(self) -> int:
        """Bytes of its largest argument, a piece of a snapshot."""
        return max((len(arg) for arg in self.args if isinstance(arg, bytes)), default=0)

    def command(self, keys: Keys, scripts: Mapping[str, Script]) -> Command:
        """The EVALSHA of this call."""
        names = keys.stream(self.attempt.stream_id)
        return command(names.log, "EVALSHA", scripts[self.name].sha, len(names), *names, *self.args)

    def tell(self, reply: bytes | ResponseError) -> None:
        """Hand the reply to whoever waits for it."""
        if self.answer.done():
            return
        if isinstance(reply, ResponseError):
            self.answer.set_exception(reply)
        else:
            self.answer.set_result(reply)


class Flush:
    """Appends of many streams, then calls, then the wake-up: one write."""

    def __init__(self, keys: Keys, scripts: Mapping[str, Script]) -> None:
        self._keys = keys
        self._scripts = scripts
        self._appending: list[AttemptLog] = []
        self._calls: list[Call] = []
        self.commands: list[Command] = []

    @property
    def touched(self) -> bytes:
        """The streams of this flush, as the wake-up channel names them."""
        attempts = self._appending + [call.attempt for call in self._calls]
        return " ".join(dict.fromkeys([attempt.stream_id for attempt in attempts])).encode()

    def append(self, attempt: AttemptLog, entries: Sequence[bytes]) -> None:
        """Add one stream's entries."""
        self.commands.append(attempt.log.append(entries))
        self._appending.append(attempt)

    def call(self, call: Call) -> None:
        """Add a script (behind all appends)."""
        self.commands.append(call.command(self._keys, self._scripts))
        self._calls.append(call)

    def publish(self) -> None:
        """Add the wake-up (behind everything)."""
        channel = self._keys.wake_channel
        self.commands.append(command(channel, "PUBLISH", channel, self.touched))

    def appended(self, replies: Sequence[Any]) -> Iterator[tuple[AttemptLog, ResponseError | bool | None]]:
        """Each stream with what its append led to (see :func:`shared.store.log.append_outcome`)."""
        return zip(self._appending, map(append_outcome, replies), strict=False)

    def answered(self, replies: Sequence[Any]) -> Iterator[tuple[Call, Any]]:
        """Each call with its reply (which may be a ``ResponseError``)."""
        start = len(self._appending)
        return zip(self._calls, replies[start : start + len(self._calls)], strict=True)
