"""The measurements: each puts a load on one contender, and gives a row (JSON).

A row holds only what was measured, without a judgement, so that tables and plots are made from the rows alone. The
name of a time ends with its unit. ``cpu_us`` is by role of process, over the whole run: creating the streams,
carrying them to their end, and the idle time in between. For streams that come and go (``steady``), it is over a
window in which as many began as ended, and ``tokens`` are those of the window.
"""

import contextlib
import http.client
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis

from bench.accounting import CpuSample, Used, cpu_ns, role, rss_bytes, tree
from bench.figures import percentile, quantile, slope
from bench.fleet import Contender, Headrace, Neighbours
from bench.http_request import AskedAnswer
from bench.load import GRACE_S, BenchProvider, Seen, Viewers, idle_viewers
from bench.spawn import BenchError, Child, clean_env

Row = dict[str, Any]

FINISH_S = 0.3
"""The time after the last token that is still measured, because the end of a stream belongs to its cost."""
IDLE_WAIT_S = 1.0
CREATED_WAIT_S = 2.0
"""The time for streams that were created all at once to end, so that they do not disturb the next measurement."""
EDGE_MS = 300
"""Cut off from both ends of the time in which latencies count, because some streams still start or already end
there."""
OPEN_S = 40.0
"""The time for a thousand viewers to connect. (Headrace waits for the provider's first token for 60 s.)"""
COLD_S = 90.0
NEIGHBOUR_ASKS = 3
"""Requests of each key, in each state."""
FILL_MS = 2
"""The time between two creates that fill the queue. They are slow because the queue is measured, not the
creates."""
FILL_S = 60.0


@dataclass(frozen=True, slots=True)
class Moment:
    """The CPU that a contender and the provider had used at one moment."""

    contender: CpuSample
    provider_ns: int


class Bench:
    """What all measurements share: the provider, and a folder for temporary files."""

    def __init__(self, directory: Path, provider: BenchProvider) -> None:
        self.directory = directory
        self.provider = provider

    def streams(
        self, contender: Contender, count: int, answer: AskedAnswer, ramp_ms: int, *, together: bool = False
    ) -> Row:
        """``count`` viewers, each with a stream of its own. They start within ``ramp_ms`` (``together``: they
        connect first, and then all ask at the same moment)."""
        begin, end = ramp_ms + answer.delay_ms + EDGE_MS, int(answer.last_ms)
        whole_s = (ramp_ms + answer.last_ms) / 1000 + GRACE_S
        with _connections(contender) as server:
            self.provider.stats()
            before = self._moment(contender)
            trips = _round_trips(server)
            viewers = Viewers(
                self.directory,
                contender.asking(answer),
                count,
                ramp_ms=ramp_ms,
                preconnect=together,
                tokens=answer.tokens,
                from_ms=begin,
                to_ms=end,
                timeout_ms=int(1000 * whole_s),
            )
            seen = viewers.finish(whole_s + GRACE_S)
            time.sleep(FINISH_S)
            after = self._moment(contender)
            trips = _round_trips(server) - trips
        row = self._row(contender, before, after, seen) | _latencies(seen)
        first = [stream["first_ms"] - answer.delay_ms for stream in seen.streams if stream["first_ms"] >= 0]
        return row | {
            "streams": count,
            "answer_tokens": answer.tokens,
            "rate": answer.rate,
            "lost": count * answer.tokens - seen.total["tokens"],
            "tokens_per_s": 1000 * seen.total["counted"] / max(1, end - begin),
            "first_p50_ms": quantile(first, 0.5),
            "first_p99_ms": quantile(first, 0.99),
            "round_trips": trips,
        }

    def steady(self, contender: Contender, count: int, answer: AskedAnswer, window_ms: int) -> Row:
        """``count`` viewers at any time, each with a stream of its own. When one ends, another one begins.

        The first viewers start one after the other, spread over the time that an answer takes. When all have
        started, ``window_ms`` are measured. Streams that run at its end are read to their end.
        """
        life_ms = 1000 * answer.tokens / answer.rate
        begin, end = int(life_ms) + EDGE_MS, int(life_ms) + EDGE_MS + window_ms
        ramp_ms = end + EDGE_MS
        asked = round(count * ramp_ms / life_ms)
        whole_s = (ramp_ms + answer.last_ms) / 1000 + GRACE_S
        with _connections(contender) as server:
            self.provider.stats()
            viewers = Viewers(
                self.directory,
                contender.asking(answer),
                asked,
                ramp_ms=ramp_ms,
                tokens=answer.tokens,
                from_ms=begin,
                to_ms=end,
                timeout_ms=int(1000 * whole_s),
            )
            try:
                time.sleep(begin / 1000)
                before, trips = self._moment(contender), _round_trips(server)
                time.sleep(window_ms / 1000)
                after, trips = self._moment(contender), _round_trips(server) - trips
                seen = viewers.finish(whole_s)
            finally:
                viewers.stop()
            time.sleep(FINISH_S)
        counted = seen.total["counted"]
        row = self._row(contender, before, after, seen, counted) | _latencies(seen)
        return row | {
            "streams": count,
            "answer_tokens": answer.tokens,
            "rate": answer.rate,
            "lost": asked * answer.tokens - seen.total["tokens"],
            "tokens_per_s": 1000 * counted / window_ms,
            "round_trips": trips,
        }

    def creates(self, contender: Headrace, count: int) -> Row:
        """``count`` streams created at the same moment, over open connections. They run meanwhile, and nobody
        follows them."""
        before = self._moment(contender)
        viewers = Viewers(
            self.directory,
            contender.creating(AskedAnswer(1)),
            count,
            preconnect=True,
            timeout_ms=int(1000 * GRACE_S),
        )
        try:
            took_ms = viewers.wait_for("open", GRACE_S)["ms"]
            seen = viewers.finish(GRACE_S)
        finally:
            viewers.stop()
        time.sleep(CREATED_WAIT_S)
        row = self._row(contender, before, self._moment(contender), seen)
        return row | {"creates": count, "creates_per_s": 1000 * count / took_ms}

    def neighbours(self, contender: Neighbours, waiting: int, long: AskedAnswer, short: AskedAnswer) -> Row:
        """The first tokens of nine keys, one after the other: of an idle system, and then with ``waiting`` streams
        of a tenth key in the queue, whose answers are long."""
        others = contender.owners[1:]
        idle = [self._first_ms(contender, owner, short) for owner in others * NEIGHBOUR_ASKS]
        before = self._moment(contender)
        creating = Viewers(
            self.directory,
            contender.creating(long),
            waiting,
            ramp_ms=waiting * FILL_MS,
            timeout_ms=int(1000 * FILL_S),
        )
        try:
            seen = creating.finish(FILL_S)
        finally:
            creating.stop()
        busy = [self._first_ms(contender, owner, short) for owner in others * NEIGHBOUR_ASKS]
        row = self._row(contender, before, self._moment(contender), seen)
        return row | {
            "waiting": waiting,
            "idle_ms": quantile(idle, 0.5),
            "busy_ms": quantile(busy, 0.5),
            "busy_most_ms": max(busy),
        }

    def _first_ms(self, contender: Neighbours, owner: str, answer: AskedAnswer) -> float:
        viewer = Viewers(
            self.directory,
            contender.asking_as(owner, answer),
            1,
            tokens=answer.tokens,
            timeout_ms=int(1000 * GRACE_S),
        )
        (stream,) = viewer.finish(GRACE_S).streams
        if stream["first_ms"] < 0:
            raise BenchError(f"the first token of {owner} never came (HTTP {stream['status']})")
        return float(stream["first_ms"])

    def fan(self, contender: Contender, viewers: int, answer: AskedAnswer) -> Row:
        """One gated stream with many viewers, which begins when all are connected. CPU is measured from then until
        all have the last token, without connecting and leaving."""
        name = contender.open(answer)
        following = Viewers(
            self.directory,
            contender.reading(name),
            viewers,
            ramp_ms=viewers,
            stay=True,
            tokens=answer.tokens,
            timeout_ms=int(1000 * (OPEN_S + GRACE_S) + answer.last_ms),
        )
        try:
            open_ms = following.wait_for("open", OPEN_S)["ms"]
            time.sleep(FINISH_S)
            before = self._moment(contender)
            self.provider.go()
            contender.go()
            # A contender that can't keep up is measured as far as it comes.
            following.wait_for("told", answer.last_ms / 1000 + GRACE_S, or_else=True)
            after = self._moment(contender)
            following.leave()
            seen = following.finish(GRACE_S)
        finally:
            following.stop()
        row = self._row(contender, before, after, seen) | _latencies(seen)
        return row | {
            "viewers": viewers,
            "open_ms": open_ms,
            "lost": viewers * answer.tokens - seen.total["tokens"],
            "cpu_us_per_event": sum(row["cpu_us"].values()) / max(1, seen.total["events"]),
        }

    def resume(self, contender: Contender, name: str, viewers: int, entries: int) -> Row:
        """Many viewers come back at the same moment to a log of ``entries`` tokens, and read it to its end."""
        before = self._moment(contender)
        asking = contender.resuming(name)
        seen = Viewers(
            self.directory, asking, viewers, tokens=entries, resumed=True, timeout_ms=int(1000 * GRACE_S)
        ).finish(2 * GRACE_S)
        after = self._moment(contender)
        behind = [stream["last_ms"] for stream in seen.streams if stream["last_ms"] >= 0]
        return self._row(contender, before, after, seen) | {
            "viewers": viewers,
            "entries": entries,
            "caught_up_s": max(behind, default=float("nan")) / 1000,
            "left_behind": sum(stream["tokens"] < entries for stream in seen.streams),
            "caught_up_p50_s": quantile(behind, 0.5) / 1000,
            "events_each": seen.total["events"] / viewers,
            "lost": viewers * entries - seen.total["tokens"],
        }

    def idle(self, contender: Contender, counts: Sequence[int]) -> Row:
        """A growing number of viewers of a silent stream: memory of the API process, Redis connections."""
        silent = AskedAnswer(tokens=1, rate=1, delay_ms=600_000)
        before = self._moment(contender)
        memory, connections = [], {}
        asking = contender.reading(contender.open(silent)) if contender.shares else contender.asking(silent)
        with contextlib.ExitStack() as stack, _connections(contender) as server:
            here = 0
            for count in counts:
                stack.enter_context(idle_viewers(self.directory / f"idle-{count}", asking, count - here))
                here = count
                time.sleep(IDLE_WAIT_S)
                memory.append([count, _front_rss(contender)])
                connections[str(count)] = _connected(server)
        with _connections(contender) as server, idle_viewers(self.directory / "few", asking, counts[0]):
            # Few viewers after many, because connection pools grow with use and do not shrink.
            time.sleep(IDLE_WAIT_S)
            connections[str(counts[0])] = _connected(server)
        after = self._moment(contender)
        return {
            "contender": contender.key,
            "memory": memory,
            "bytes_per_viewer": slope([(x, y) for x, y in memory]),
            "connections": connections,
            "steal": Used.between(before.contender, after.contender).steal,
        }

    def held(self, contender: Contender, counts: Sequence[int], answer: AskedAnswer) -> Row:
        """A growing number of streams that have all their tokens and have not ended, each with its viewer: memory
        of each process, by role."""
        before = self._moment(contender)
        memory: dict[str, list[tuple[int, float]]] = {}
        with contextlib.ExitStack() as stack:
            here = 0
            for count in counts:
                folder = self.directory / f"held-{count}"
                stack.enter_context(idle_viewers(folder, contender.asking(answer), count - here))
                here = count
                time.sleep(answer.last_ms / 1000 + IDLE_WAIT_S)
                for name, held in _memory_mb(contender).items():
                    memory.setdefault(name, []).append((count, held))
            after = self._moment(contender)
        return {
            "contender": contender.key,
            "memory_mb": memory,
            "bytes_per_stream": {name: 1e6 * slope(points) for name, points in memory.items()},
            "steal": Used.between(before.contender, after.contender).steal,
        }

    def _moment(self, contender: Contender) -> Moment:
        return Moment(CpuSample.take(contender.roots), cpu_ns(self.provider.pid))

    def _row(
        self, contender: Contender, before: Moment, after: Moment, seen: Seen, tokens: int | None = None
    ) -> Row:
        """``tokens``: those between the two moments; None: all tokens of the run."""
        used = Used.between(before.contender, after.contender)
        provider_ns = after.provider_ns - before.provider_ns
        total = seen.total
        tokens = total["tokens"] if tokens is None else tokens
        viewer_ns = seen.cpu_ns * tokens / max(1, total["tokens"])
        return {
            "contender": contender.key,
            "cpu_us": {name: round(ns / 1000, 1) for name, ns in used.cpu_ns.items()},
            "tokens": tokens,
            "wrong": total["wrong"],
            "restarts": total["restarts"],
            "refused": dict(Counter(stream["status"] for stream in seen.streams if stream["status"] >= 400)),
            "rss_mb": _memory_mb(contender),
            "tokens_per_event": total["tokens"] / max(1, total["events"]),
            "events_per_write": total["events"] / max(1, total["chunks"]),
            "tokens_per_read": total["tokens"] / max(1, total["reads"]),
            "bytes_per_token": total["bytes"] / max(1, total["tokens"]),
            "provider_us_per_token": provider_ns / 1000 / max(1, tokens),
            "viewer_us_per_token": viewer_ns / 1000 / max(1, tokens),
            "provider_lag_p99_ms": self.provider.stats()["lag_p99_us"] / 1000,
            "steal": round(used.steal, 4),
            "idle": round(used.idle, 4),
            "others": round(used.others(provider_ns + int(viewer_ns)), 4),
            "seconds": round(used.seconds, 2),
        }


def cold(directory: Path) -> Row:
    """`headrace up` in a new data folder, until the local model's first token."""
    before = CpuSample.take([])
    began = time.monotonic()
    argv = (sys.executable, "-P", "-m", "cli", "up", "--port", "0", "--data-dir", "data")
    with Child("up", argv, directory, clean_env()) as child:
        child.wait_until(lambda: "Headrace is up: " in child.output(), within_s=COLD_S)
        up_s = time.monotonic() - began
        found = re.search(r"Headrace is up: http://[^:]+:(\d+)", child.output())
        assert found
        first_s = _first_token_s(int(found[1]), began)
    steal = Used.between(before, CpuSample.take([])).steal
    return {"contender": Headrace.key, "up_s": up_s, "first_token_s": first_s, "steal": steal}


def _first_token_s(port: int, began: float) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=COLD_S)
    body = json.dumps({"prompt": "Why is the sky blue?", "max_tokens": 8})
    connection.request("POST", "/v1/streams", body, {"Content-Type": "application/json"})
    made = json.loads(connection.getresponse().read())
    connection.request("GET", made["events_url"])
    response = connection.getresponse()
    while line := response.readline():
        if line.startswith(b'data: {"text"'):
            return time.monotonic() - began
        if line.startswith((b"event: failed", b"event: done")):
            break
    raise BenchError("the local model said nothing: is its wheel installed? (make up says why it is not)")


def _latencies(seen: Seen) -> Row:
    names = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    figures = {f"{name}_ms": percentile(seen.latency, share) / 1000 for name, share in names.items()}
    return figures | {"latency": sorted(seen.latency.items())}


def _memory_mb(contender: Contender) -> dict[str, float]:
    """The memory of its processes now, by role."""
    found: dict[str, float] = {}
    for pid in tree(contender.roots):
        found[role(pid)] = round(found.get(role(pid), 0) + rss_bytes(pid) / 1e6, 1)
    return found


def _front_rss(contender: Contender) -> int:
    """The memory of the processes that hold the viewers."""
    return sum(rss_bytes(pid) for pid in tree(contender.roots) if role(pid) in ("api", "node"))


@contextlib.contextmanager
def _connections(contender: Contender) -> "Iterator[redis.Redis | None]":
    """A client of the contender's Redis server, to read its counters; None if it has no server."""
    if not contender.redis_url:
        yield None
        return
    with redis.Redis.from_url(contender.redis_url) as client:
        client.ping()
        yield client


def _round_trips(server: "redis.Redis | None") -> int:
    """The server's reads from clients so far. A round trip is at least one read (a large batch takes several)."""
    return int(_info(server, "stats")["total_reads_processed"]) if server else 0


def _connected(server: "redis.Redis | None") -> int | None:
    """The number of its clients, without this one."""
    return int(_info(server, "clients")["connected_clients"]) - 1 if server else None


def _info(server: redis.Redis, section: str) -> dict[str, Any]:
    return cast(dict[str, Any], server.info(section))
