"""What one flush takes: a bounded share, the longest-waiting first, and no call before its stream's own words."""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis

from shared.redis import Command, by_command, load_scripts
from shared.store.claims import Claim
from shared.store.keys import Keys
from worker.log.attempt_log import AttemptLog
from worker.log.flush_policy import FLUSH_STREAMS, LOAD_FLUSHES
from worker.log.writer import LogWriter

KEYS = Keys("t")
EPOCH = 5
LOAD = FLUSH_STREAMS * LOAD_FLUSHES
"""As many at once are too many, at the first flush."""

OPENING = [(b"5-0", [b"e", b"started", b"d", b"{}"])]
FINISH = load_scripts()["finish"].sha


class Server:
    """Takes everything, and remembers what each write brought: the log's and the scripts' commands, in order."""

    one_log_a_read = False

    def __init__(self) -> None:
        self.closed = False
        self.writes: list[list[tuple[str, str]]] = []

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True

    async def exchange(self, commands: Sequence[Command], timeout_s: float = 0) -> list[Any]:
        reader, replies = hiredis.Reader(encoding="utf-8"), []
        seen: list[tuple[str, str]] = []
        for command in commands:
            reader.feed(command.packed)
            for _ in range(command.replies):
                name, *args = reader.gets()
                if name == "XADD":
                    seen.append((args[0], args[-1]))
                elif name == "EVALSHA" and args[0] == FINISH:
                    seen.append((args[3], "finish"))
                replies.append({"XREVRANGE": OPENING, "EXEC": [b"5-1"]}.get(name, b"ok"))
        self.writes.append(seen)
        await asyncio.sleep(0)
        return by_command(commands, replies)


def write(server: Server, flush_s: float = 0.0, cap: int = 4096) -> LogWriter:
    return LogWriter(lambda: server, KEYS, load_scripts(), cap, flush_s)  # type: ignore[arg-type, return-value]


def begun_by(writer: LogWriter, count: int) -> list[AttemptLog]:
    return [writer.begin(f"s{n}", Claim("run", "started", epoch=EPOCH, attempt=1)) for n in range(count)]


def say(writer: LogWriter, attempt: AttemptLog, text: str) -> None:
    attempt.add({"text": text})
    writer.touch(attempt)


async def test_two_pieces_of_a_stream_share_an_entry_under_load() -> None:
    server = Server()
    writer = write(server, flush_s=0.02)
    many = begun_by(writer, LOAD + 10)
    for attempt in many:
        say(writer, attempt, "a")
    running = asyncio.create_task(writer.run())
    for attempt in many:
        assert await writer.acknowledged(attempt)
    await asyncio.sleep(0.2)  # who waits for its end asks more than once
    for text in ("b", "c"):
        for attempt in many:
            say(writer, attempt, text)
    for attempt in many:
        assert await writer.acknowledged(attempt)
    running.cancel()
    await asyncio.wait({running})
    logs = [attempt.log.key for attempt in many]
    seen = [[(log, '{"text":"a"}') for log in logs], [(log, '{"text":"bc"}') for log in logs]]
    assert [flush for flush in server.writes if flush] == seen


async def test_a_call_never_overtakes_what_its_own_attempt_still_has_to_say() -> None:
    server = Server()
    writer = write(server, cap=8)
    *many, last, other = begun_by(writer, LOAD + 2)
    for attempt in (*many, last):
        say(writer, attempt, "a")
    for number in range(3):
        last.note("waiting", {"place": number})
    calls = [asyncio.create_task(writer.call(attempt, "finish")) for attempt in (last, other)]
    await asyncio.sleep(0)
    running = asyncio.create_task(writer.run())
    await asyncio.wait(calls)
    running.cancel()
    await asyncio.wait({running})
    assert (other.log.key, "finish") in next(seen for seen in server.writes if seen)
    told = [what for seen in server.writes for key, what in seen if key == last.log.key]
    assert told == ['{"text":"a"}', *(f'{{"place":{number}}}' for number in range(3)), "finish"]
