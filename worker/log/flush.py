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
class ScriptCall:
    """A script that must run after all appends of its stream. It is sent again on a new connection; its nonce, or
    the way it works, makes that harmless."""

    attempt: AttemptLog
    name: str
    args: tuple[str | bytes | int, ...]
    reply: "asyncio.Future[bytes]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def size(self) -> int:
        """The size of its largest argument, a piece of a snapshot, in bytes."""
        return max((len(arg) for arg in self.args if isinstance(arg, bytes)), default=0)

    def command(self, keys: Keys, scripts: Mapping[str, Script]) -> Command:
        """The EVALSHA of this call."""
        names = keys.stream(self.attempt.stream_id)
        return command(names.log, "EVALSHA", scripts[self.name].sha, len(names), *names, *self.args)

    def tell(self, reply: bytes | ResponseError) -> None:
        """Resolve the call with its reply."""
        if self.reply.done():
            return
        if isinstance(reply, ResponseError):
            self.reply.set_exception(reply)
        else:
            self.reply.set_result(reply)


class Flush:
    """Appends of many streams, then calls, then the wake-up: one write."""

    def __init__(self, keys: Keys, scripts: Mapping[str, Script]) -> None:
        self._keys = keys
        self._scripts = scripts
        self._appending: list[AttemptLog] = []
        self._calls: list[ScriptCall] = []
        self.commands: list[Command] = []

    @property
    def touched(self) -> bytes:
        """The ids of this flush's streams, as the wake-up message carries them."""
        attempts = self._appending + [call.attempt for call in self._calls]
        return " ".join(dict.fromkeys([attempt.stream_id for attempt in attempts])).encode()

    def append(self, attempt: AttemptLog, entries: Sequence[bytes]) -> None:
        """Add one stream's entries."""
        self.commands.append(attempt.log.append(entries))
        self._appending.append(attempt)

    def call(self, call: ScriptCall) -> None:
        """Add a script (after all appends)."""
        self.commands.append(call.command(self._keys, self._scripts))
        self._calls.append(call)

    def publish(self) -> None:
        """Add the wake-up (after everything else)."""
        channel = self._keys.wake_channel
        self.commands.append(command(channel, "PUBLISH", channel, self.touched))

    def appended(self, replies: Sequence[Any]) -> Iterator[tuple[AttemptLog, ResponseError | bool | None]]:
        """Each attempt with the outcome of its append (see :func:`shared.store.log.append_outcome`)."""
        return zip(self._appending, map(append_outcome, replies), strict=False)

    def answered(self, replies: Sequence[Any]) -> Iterator[tuple[ScriptCall, Any]]:
        """Each call with its reply (which may be a ``ResponseError``)."""
        start = len(self._appending)
        return zip(self._calls, replies[start : start + len(self._calls)], strict=True)
