"""What one flush takes: a bounded share, the longest-waiting first, and no call before its stream's own words."""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis

from shared.claims import Claim
from shared.keys import Keys
from shared.redis import Command, by_command, load_scripts
from worker.carried import Carried
from worker.link import Link
from worker.log_writer import LogWriter
from worker.reconcile import Reconciler
from worker.speakers import FLUSH_STREAMS, LOAD_FLUSHES

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
    scripts = load_scripts()
    link = Link(lambda: server, scripts.values())  # type: ignore[arg-type, return-value]
    return LogWriter(link, Reconciler(KEYS, scripts["reclaim"], "w", 3000, cap), scripts, flush_s)


def carried_by(writer: LogWriter, count: int) -> list[Carried]:
    return [writer.carry(f"s{n}", Claim("run", "started", epoch=EPOCH, attempt=1)) for n in range(count)]


def say(writer: LogWriter, carried: Carried, text: str) -> None:
    carried.say({"text": text})
    writer.touch(carried)


async def test_under_load_two_pieces_of_a_stream_share_an_entry() -> None:
    server = Server()
    writer = write(server, flush_s=0.02)
    many = carried_by(writer, LOAD + 10)
    for carried in many:
        say(writer, carried, "a")
    running = asyncio.create_task(writer.run())
    for carried in many:
        assert await writer.settled(carried)
    await asyncio.sleep(0.2)  # who waits for its end asks more than once
    for text in ("b", "c"):
        for carried in many:
            say(writer, carried, text)
    for carried in many:
        assert await writer.settled(carried)
    running.cancel()
    await asyncio.wait({running})
    logs = [carried.log.key for carried in many]
    seen = [[(log, '{"text":"a"}') for log in logs], [(log, '{"text":"bc"}') for log in logs]]
    assert [flush for flush in server.writes if flush] == seen


async def test_a_call_never_overtakes_what_its_own_attempt_still_has_to_say() -> None:
    server = Server()
    writer = write(server, cap=8)
    *many, last, other = carried_by(writer, LOAD + 2)
    for carried in (*many, last):
        say(writer, carried, "a")
    for number in range(3):
        last.note("waiting", {"place": number})
    calls = [asyncio.create_task(writer.call(carried, "finish")) for carried in (last, other)]
    await asyncio.sleep(0)
    running = asyncio.create_task(writer.run())
    await asyncio.wait(calls)
    running.cancel()
    await asyncio.wait({running})
    assert (other.log.key, "finish") in next(seen for seen in server.writes if seen)
    told = [what for seen in server.writes for key, what in seen if key == last.log.key]
    assert told == ['{"text":"a"}', *(f'{{"place":{number}}}' for number in range(3)), "finish"]


async def test_under_load_an_end_that_has_nothing_more_to_say_goes_with_the_next_flush() -> None:
    server = Server()
    writer = write(server, flush_s=0.005)
    *many, ending = carried_by(writer, LOAD + 10)
    for carried in (*many, ending):
        say(writer, carried, "a")
    running = asyncio.create_task(writer.run())
    for carried in (*many, ending):
        assert await writer.settled(carried)
    ending.note("finishing", {"finish_reason": "stop"})
    writer.touch(ending)
    begun = len(server.writes)
    while ending.has_new_reason:
        await asyncio.sleep(0)  # a flush holds it back
    for carried in many:
        say(writer, carried, "b")  # each waits for a second piece, or for four flushes
    assert ending.take_last_word()
    await writer.call(ending, "finish")
    running.cancel()
    await asyncio.wait({running})
    assert not [what for seen in server.writes[begun:] for _, what in seen if what != "finish"], "they still wait"
