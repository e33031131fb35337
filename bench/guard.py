"""A guard over the hot paths. It counts instead of measuring times, so it gives the same result on every machine.

Three things are counted for a token: the bytecode instructions of our own code (C code and asyncio are not ours to
change), the commands that Redis gets, and the writes that carry them. ``bench/guard.json`` holds the counts that
were accepted last; a count of more than a fifth above fails. So do metrics that take more than 2 % of a worker's
instructions for a token. Instructions differ between Python versions, so they are only compared with those of the
same version.

    python -m bench.guard            count, and compare
    python -m bench.guard --write    accept the counts as the new measure (say why in the commit)
"""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from api.dialects.native import NativeDialect
from api.viewing.followed_log import FollowedLog
from shared.config.providers import Provider
from shared.protocol.cursor import Cursor
from shared.redis import Command, load_scripts
from shared.store.claims import Claim
from shared.store.keys import Keys
from shared.store.log import read_tails, tail_commands
from worker.attempt.outcome import Outcome
from worker.attempt.pump import Pump
from worker.log.attempt_log import AttemptLog
from worker.log.writer import LogWriter
from worker.places import Places
from worker.providers import adapter
from worker.providers.base import GenerationRequest
from worker.providers.decoder import AnswerLimits, StreamDecoder
from worker.providers.http.connection import DirectConnection
from worker.providers.stream import ProviderStream

ROOT = Path(__file__).parents[1]
KEPT = Path(__file__).with_name("guard.json")
OURS = tuple(f"{ROOT}/{package}/" for package in ("shared", "api", "worker"))
METRICS = tuple(f"{ROOT}/{file}" for file in ("shared/process/metrics.py", "worker/metrics.py"))
MOST_FOR_METRICS = 0.02
"""The largest share of a token's instructions that metrics may take."""
ALL, FOR_METRICS = "worker: instructions a token", "worker: of these, for metrics"
ROUNDS = 150
"""Tokens of each stream: three seconds of a usual one, as much as the worker's window keeps."""
STREAMS = 10
TOLERANCE = 1.2
VIEWERS = 10
WITHIN_S = 30.0

Counts = dict[str, float]


class Instructions:
    """Counts the bytecode instructions of our packages, and of these the ones of metrics."""

    def __init__(self) -> None:
        self.count = 0
        self.for_metrics = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count while the block runs."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.count += 1
            self.for_metrics += frame.f_code.co_filename in METRICS
        return self._step


class CountingConnection:
    """A Redis connection that accepts every command, and counts them."""

    one_log_a_read = False

    def __init__(self) -> None:
        self.writes = 0
        self.commands = 0
        self.closed = False

    async def open(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def exchange(self, commands: Sequence[Command], timeout_s: float = 0) -> list[Any]:
        self.writes += 1
        self.commands += sum(command.replies for command in commands)
        last = [(b"1-0", [b"e", b"started", b"d", b"{}"])]
        replies = {b"XREVRANGE": last, b"EVALSHA": b"ok"}
        return [replies.get(command.packed.split(b"\r\n", 3)[2], b"OK") for command in commands]


def _chunk(round_: int) -> bytes:
    data = {"choices": [{"index": 0, "delta": {"content": f" token{round_}"}, "finish_reason": None}]}
    event = b"data: " + json.dumps(data).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


class Nowhere:
    """A socket without a peer."""

    def write(self, data: bytes) -> None:
        return None

    def pause_reading(self) -> None:
        return None

    def resume_reading(self) -> None:
        return None

    def abort(self) -> None:
        return None


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class CountedProvider:
    """A provider client that gives each stream an answer. The bytes of the answers come when the guard sends
    them."""

    def __init__(self) -> None:
        self.connections: list[DirectConnection] = []

    @asynccontextmanager
    async def answer(self, provider: Provider, request: GenerationRequest) -> AsyncIterator[ProviderStream]:
        connection = DirectConnection(lambda connection, _: connection.abort())
        connection.connection_made(Nowhere())  # type: ignore[arg-type]
        head = asyncio.create_task(connection.ask(b""))
        await asyncio.sleep(0)
        connection.data_received(HEAD)
        await head
        self.connections.append(connection)
        limits = AnswerLimits(WITHIN_S, WITHIN_S, WITHIN_S, 1 << 30)
        now = asyncio.get_running_loop().time()
        decoder = StreamDecoder(provider, adapter("openai").reader(request), limits, now)
        stream = ProviderStream(decoder, connection)
        try:
            yield stream
        finally:
            stream.close()


async def worker_side() -> Counts:
    """From the provider's socket to Redis: STREAMS streams with one token each, ROUNDS times."""
    connection, keys, scripts, counter = CountingConnection(), Keys("g"), load_scripts(), Instructions()
    writer = LogWriter(lambda: connection, keys, scripts, 4096, 0.0)  # type: ignore[arg-type, return-value]
    provider, preset = CountedProvider(), Provider("local", "openai", "http://x", "")
    pump = Pump(provider, writer, None, None, {}, Places(STREAMS))  # type: ignore[arg-type]
    attempts = [writer.begin(f"s{n}", Claim("run", "started", epoch=1, attempt=1)) for n in range(STREAMS)]
    request = GenerationRequest(model="m", messages=[])
    running = [asyncio.create_task(writer.run())]
    running += [asyncio.create_task(pump.run(one, preset, request, None, Outcome(0.0))) for one in attempts]
    async with asyncio.timeout(WITHIN_S):
        while len(provider.connections) < STREAMS:
            await asyncio.sleep(0)
        await _say(provider, attempts, 0)
        connection.writes = connection.commands = 0
        with counter.counted():
            for round_ in range(1, ROUNDS + 1):
                await _say(provider, attempts, round_)
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    tokens = ROUNDS * STREAMS
    return {
        ALL: counter.count / tokens,
        FOR_METRICS: counter.for_metrics / tokens,
        "worker: commands a token": connection.commands / tokens,
        "worker: writes a token": connection.writes / tokens,
    }


async def _say(provider: CountedProvider, attempts: list[AttemptLog], round_: int) -> None:
    """Send a token on each connection, and wait until all are written."""
    chunk = _chunk(round_)
    for connection in provider.connections:
        connection.data_received(chunk)
    said = [one.next_n for one in attempts]
    while any(one.next_n == n or not one.all_acknowledged for one, n in zip(attempts, said, strict=True)):
        await asyncio.sleep(0)


def api_side() -> Counts:
    """From Redis's reply to a socket's bytes: STREAMS logs with one event each, VIEWERS viewers, ROUNDS times."""
    counter = Instructions()
    first = Cursor(1, 0)
    follows = [FollowedLog(f"s{n}", b"g:{s%d}:log" % n, NativeDialect(), first, 1) for n in range(STREAMS)]
    read = sent = 0
    for round_ in range(ROUNDS):
        raw = [
            (follow.key, [(b"1-%d" % round_, [b"e", b"message", b"d", b'{"text":" token"}'])]) for follow in follows
        ]
        with counter.counted():
            tail_commands({follow.key: follow.position for follow in follows}, 500, one_each=False)
            brought = read_tails(raw)
            for follow in follows:
                follow.extend(brought[follow.key])
        read += STREAMS
    delivering = Instructions()
    for round_ in range(ROUNDS):
        with delivering.counted():
            for follow in follows:
                for _ in range(VIEWERS):
                    follow.buffer.slice(round_)
        sent += STREAMS * VIEWERS
    return {
        "api: instructions a token read": counter.count / read,
        "api: instructions a slice for a viewer": delivering.count / sent,
    }


def compare(counted: Counts, kept: Counts) -> list[str]:
    """The counts that have grown by more than a fifth, and metrics that take more than their share, for people."""
    grown = [
        f"{name}: {count:.2f}, and it was {kept[name]:.2f}"
        for name, count in counted.items()
        if name in kept and count > kept[name] * TOLERANCE
    ]
    if counted[FOR_METRICS] > counted[ALL] * MOST_FOR_METRICS:
        grown.append(f"{FOR_METRICS}: {counted[FOR_METRICS]:.2f}, and {MOST_FOR_METRICS:.0%} of all may be")
    return grown


def main() -> None:
    """Count, and compare or write."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="accept the counts as the new measure")
    write = parser.parse_args().write
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    counted = asyncio.run(worker_side()) | api_side()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    everything: dict[str, Counts] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if write:
        everything[version] = {name: round(count, 3) for name, count in counted.items()}
        KEPT.write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    kept = everything.get(version)
    for name, count in counted.items():
        print(f"{name:42} {count:10.2f}" + (f"   (kept: {kept[name]:.2f})" if kept and name in kept else ""))
    if kept is None:
        print(f"bench/guard.json has no counts for Python {version}, so nothing was compared.")
        return
    grown = compare(counted, kept)
    if grown:
        sys.exit(
            "The hot path costs more than it may:\n  " + "\n  ".join(grown) + "\nMake it cheaper; or, if it "
            "must cost that, run `python -m bench.guard --write` and say in the commit what it buys."
        )


if __name__ == "__main__":
    main()
