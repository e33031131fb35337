"""Attacks by body: each small enough to be taken, and dear to be refused."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.hostile.attack import Attack, Told
from tests.hostile.wire import ask, head, outcome_of, post
from tests.hostile.world import World

SECONDS = 4.0
CONNECTIONS = 20


async def _pour(world: World, told: Told, bodies: list[bytes], path: str = "/v1/streams") -> None:
    """These bodies in turn, over CONNECTIONS connections to each API for SECONDS."""
    until = time.monotonic() + SECONDS

    async def lane(client: httpx.AsyncClient, n: int) -> None:
        while time.monotonic() < until:
            n += 1
            try:
                answer = await client.post(
                    path, content=bodies[n % len(bodies)], headers={"Content-Type": "application/json"}
                )
            except httpx.TransportError:
                told.outcomes["closed"] += 1
                await asyncio.sleep(0.05)
                continue
            told.outcomes[outcome_of(answer.status_code, answer.content)] += 1

    clients = [await world.closing.enter_async_context(world.client(world.me, url)) for url in world.urls]
    await asyncio.gather(*(lane(client, n) for client in clients for n in range(CONNECTIONS)))


def _messages(parts: list[Any]) -> bytes:
    return json.dumps({"model": "local/x", "messages": [{"role": "user", "content": parts}]}).encode()


async def wrong_parts(world: World, told: Told) -> None:
    """Half a megabyte of parts of which each is wrong, in several ways."""
    many = 500_000
    await _pour(
        world,
        told,
        [
            _messages([{"type": "wrong"}] * (many // 18)),
            _messages([{}] * (many // 4)),
            _messages([{"type": "text", "text": 1}] * (many // 27)),
            _messages([1] * (many // 3)),
            json.dumps({"messages": [{"role": "wrong"}] * (many // 19)}).encode(),
            json.dumps({"messages": [{"role": "user", "content": "x", "y": 1}] * (many // 40)}).encode(),
            json.dumps({"prompt": "x", **{f"f{n}": n for n in range(many // 16)}}).encode(),
            json.dumps({"prompt": "x", "tools": [{"name": "n"}] * (many // 15)}).encode(),
            json.dumps({"prompt": "x", "stop": [1] * (many // 3)}).encode(),
        ],
    )


async def dear_json(world: World, told: Told) -> None:
    """JSON that is dear to read: deep, with long numbers, with escapes alone, with one key again and again."""
    size = 500_000
    await _pour(
        world,
        told,
        [
            b"[" * size,
            b'{"a":' * (size // 5),
            b'{"prompt": ' + b"9" * size + b"}",
            b'{"prompt": 1e' + b"9" * size + b"}",
            b'{"prompt": "' + rb"\ud800" * (size // 6) + b'"}',
            b'{"prompt": "x", ' + b'"seed": 1, ' * (size // 11) + b'"wrong": 2}',
            b'{"prompt": "x", "provider_options": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
            json.dumps(
                {
                    "prompt": "x",
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"schema": {f"k{n}": {"a": [n]} for n in range(size // 30)}},
                    },
                }
            ).encode(),
            b"\xff" * size,
        ],
    )


async def right_and_large(world: World, told: Told) -> None:
    """Half a megabyte of parts that are all right, and more than the prompt's limit."""
    await _pour(
        world,
        told,
        [_messages([{"type": "text", "text": "x"}] * 16_000), _messages([{"type": "text", "text": "x" * 900_000}])],
    )


async def bodies_without_an_end(world: World, told: Told) -> None:
    async def endless() -> AsyncIterator[bytes]:
        start = head("POST", "/v1/streams", "Content-Type: application/json", "Transfer-Encoding: chunked", key)
        yield start + b'c\r\n{"prompt": "\r\n'
        while True:
            yield b"10000\r\n" + b"x" * 65536 + b"\r\n"

    key = world.bearer(world.me)
    bomb = gzip.compress(b'{"prompt": "' + b"x" * 200_000_000 + b'"}')
    for url in world.urls:
        answers = await asyncio.gather(*(ask(url, endless()) for _ in range(8)))
        packed = post("/v1/streams", bomb, "Content-Encoding: gzip", key)
        answers += await asyncio.gather(*(ask(url, packed) for _ in range(4)))
        for answer in answers:
            told.outcomes[answer.outcome] += 1


ATTACKS = (
    Attack("half a megabyte of wrong parts, 20 at once", wrong_parts, ("422", "413"), ("429", "400", "closed")),
    Attack("JSON that is dear to read, 20 at once", dear_json, ("400",), ("422", "413", "429", "closed")),
    Attack("prompts that are too large, 20 at once", right_and_large, ("413",), ("429", "closed")),
    Attack(
        "bodies without an end, gzip bombs",
        bodies_without_an_end,
        ("413",),
        ("400", "415", "422", "closed", "reset"),
        short=True,
    ),
)
