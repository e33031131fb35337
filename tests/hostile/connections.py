"""Attacks by connection: heads, URLs and trailers without an end, silence, and requests inside of requests."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from tests.hostile.attack import Attack, Told
from tests.hostile.wire import Answer, ask, connect, head, post
from tests.hostile.world import World

MB = 1024 * 1024
PIECE = b"x" * 65536
KIB_70 = 70 * 1024
"""Just over the bound of a head, 64 KiB: it arrives whole, so it must be answered."""
HEAD_S, BODY_S = 10.0, 30.0
"""A head must have come within this time, and a body too."""
MORE_S = 4.0
"""How much later than that a busy machine may be."""


def _endless(before: bytes, size: int, piece: bytes = PIECE) -> Iterator[bytes]:
    yield before
    for _ in range(size // len(piece)):
        yield piece


def _sized(
    before: bytes, end: bytes, *sizes: int, piece: bytes = PIECE
) -> Callable[[World, Told], Awaitable[None]]:
    """An attack: for each API and size, this beginning and so many bytes behind it. One that fits into the kernel's
    buffers must be answered; the larger ones may find the connection closed while they still send."""

    async def run(world: World, told: Told) -> None:
        for url in world.urls:
            for size in sizes:
                whole = size <= KIB_70 * 2
                pieces = (
                    _endless(before, size, piece) if not whole else [b"".join(_endless(before, size, piece)) + end]
                )
                answer = await ask(url, pieces)
                told.outcomes[answer.outcome] += 1
                if whole:
                    told.expect(bool(answer.statuses), f"{size} bytes were not answered: {answer.end or 'silence'}")

    return run


large_header = _sized(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: ", b"\r\n\r\n", KIB_70, 30 * MB, 100 * MB)
many_headers = _sized(
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"\r\n", 12_000, 30 * MB, piece=b"X-Many: x\r\n" * 100
)
endless_url = _sized(b"GET /healthz?", b" HTTP/1.1\r\nHost: x\r\n\r\n", KIB_70, 30 * MB, 100 * MB)
endless_method = _sized(b"", b"\r\n\r\n", KIB_70, 30 * MB)


async def endless_trailers(world: World, told: Told) -> None:
    start = head("POST", "/v1/streams", "Transfer-Encoding: chunked", world.bearer(world.me)) + b"0\r\n"
    for url in world.urls:
        for piece in (b"X-Trailer: " + b"y" * 4000 + b"\r\n", b"T: y\r\n" * 1000):
            told.outcomes[(await ask(url, _endless(start, 30 * MB, piece))).outcome] += 1
        told.outcomes[(await ask(url, _endless(start + b"X-Trailer: ", 30 * MB))).outcome] += 1


async def chunk_extensions(world: World, told: Told) -> None:
    """The size of a chunk, with an extension that does not end."""
    start = head("POST", "/v1/streams", "Transfer-Encoding: chunked", world.bearer(world.me))
    for url in world.urls:
        told.outcomes[(await ask(url, _endless(start + b"1;", 30 * MB))).outcome] += 1
        crumbs = (await ask(url, _endless(start, 30 * MB, b"1\r\nx\r\n" * 1000))).outcome
        told.outcomes[crumbs] += 1
        told.expect(crumbs.startswith(("400", "closed", "reset")), f"chunks of one byte were read on: {crumbs}")


async def trailer_with_a_key(world: World, told: Told) -> None:
    """A key in a trailer opens nothing: a trailer is no header."""
    key = world.bearer(world.me)
    body = b'{"prompt": "x"}'
    for url in world.urls:
        for method, path in (("POST", "/v1/streams"), ("GET", "/v1/models"), ("DELETE", "/v1/streams/" + "A" * 24)):
            start = head(method, path, "Content-Type: application/json", "Transfer-Encoding: chunked")
            for trailers in (f"{key}\r\n", f"X: y\r\n{key}\r\n"):
                pieces = start + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers.encode())
                told.outcomes[(await ask(url, pieces)).outcome] += 1


async def slow_requests(world: World, told: Told) -> None:
    """Heads and bodies that come byte by byte, or not at all, are given up."""
    head_of_body = head("POST", "/v1/streams", "Content-Length: 1000", world.bearer(world.me))

    async def drip(before: bytes) -> AsyncIterator[bytes]:
        yield before
        while True:
            await asyncio.sleep(0.5)
            yield b"x"

    async def one(url: str, pieces: bytes | AsyncIterator[bytes], most_s: float, what: str) -> None:
        began = time.monotonic()
        answer = await ask(url, pieces, within_s=most_s + MORE_S)
        told.outcomes[answer.outcome] += 1
        took = time.monotonic() - began
        told.expect(bool(answer.end), f"{what} was not given up within {took:.0f} s")

    await asyncio.gather(
        *(
            one(url, make(), most_s, what)
            for url in world.urls
            for _ in range(10)
            for make, most_s, what in (
                (lambda: b"", HEAD_S, "a connection without a word"),
                (lambda: b"GET /healthz HT", HEAD_S, "half a head"),
                (lambda: drip(b"GET /healthz HTTP/1.1\r\nX: "), HEAD_S, "a head that comes byte by byte"),
                (lambda: head_of_body, BODY_S, "a request without its body"),
                (lambda: drip(head_of_body), BODY_S, "a body that comes byte by byte"),
            )
        )
    )


async def _silent(world: World, told: Told, count: int, addresses: int) -> None:
    """Open so many connections and say nothing; then others must still get in."""

    async def one(n: int) -> None:
        with contextlib.suppress(OSError):
            world.keep_open(*await connect(world.urls[n % len(world.urls)], f"127.0.1.{1 + n % addresses}"))

    for at in range(0, count, 200):
        await asyncio.gather(*(one(n) for n in range(at, at + 200)))
    for url in world.urls:
        for source in ("127.0.0.66", "127.0.0.67"):
            answer = await _healthy(url, source)
            told.outcomes[answer] += 1
            told.expect(answer == "200", f"with {count} silent connections a new one got: {answer}")
    await asyncio.sleep(1)


async def _healthy(url: str, source: str) -> str:
    answer = Answer()
    with contextlib.suppress(OSError, TimeoutError):
        reader, writer = await connect(url, source)
        writer.write(head("GET", "/healthz"))
        async with asyncio.timeout(3):
            answer.data = await reader.read()
        writer.transport.abort()
    return answer.outcome


async def silent_connections(world: World, told: Told) -> None:
    await _silent(world, told, 1200 * len(world.urls), 1)


async def idle_connections(world: World, told: Told) -> None:
    await _silent(world, told, 5000, 50)


SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n"


async def smuggled_requests(world: World, told: Told) -> None:
    """What stands where a proxy and a server may disagree is refused, or is one request; never two."""
    start = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    both = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(SMUGGLED))
    forms = (
        start + both + SMUGGLED,
        start + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        start + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        start + b"Content-Length: +0\r\n\r\n" + SMUGGLED,
        start + b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
        start + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
        start + b"Content-Length : 0\r\n\r\n" + SMUGGLED,
        start + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        start + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        start + b"Transfer-Encoding: identity\r\n\r\n" + SMUGGLED,
        start + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        start + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        start + b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        start + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + SMUGGLED,
        start + b"Transfer-Encoding: chunked\r\n\r\n0\n\n" + SMUGGLED,
        start + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + SMUGGLED,
        b"GET /nothing HTTP/1.1\r\nHost: x\r\nX: y\rZ: w\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        b"GET /nothing HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET http://elsewhere/v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 400,
        b"\r\n" * 50_000,
        b"\0" * 50_000,
    )
    for url in world.urls:
        answers = await asyncio.gather(*(ask(url, form, within_s=1) for form in forms))
        for form, answer in zip(forms, answers, strict=True):
            told.outcomes[answer.outcome] += 1
            two = SMUGGLED in form and 200 in answer.statuses
            told.expect(not two, f"a second request was answered: {form[60:140]!r}")
            told.expect(500 not in answer.statuses, f"an internal error: {form[:80]!r}")


async def pipelined_requests(world: World, told: Told) -> None:
    """Thousands of requests in one write, and nobody who reads the answers."""
    many = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20_000
    creates = post("/v1/streams", {"prompt": "x"}).replace(b"Connection: close\r\n", b"") * 5000
    for url in world.urls:
        for pieces in (many, creates):
            reader, writer = await connect(url)
            world.keep_open(reader, writer)
            writer.write(pieces)
    await asyncio.sleep(3)
    told.outcomes["sent"] += 1


ATTACKS = (
    Attack("a header of 100 MB", large_header, ("431",), ("400", "closed", "reset"), short=True),
    Attack("headers without an end", many_headers, ("431",), ("400", "closed", "reset"), short=True),
    Attack("a URL of 100 MB", endless_url, ("414",), ("431", "400", "closed", "reset"), short=True),
    Attack("a method of 30 MB", endless_method, ("400", "431", "501"), ("closed", "reset")),
    Attack("trailers without an end", endless_trailers, ("431", "400", "closed", "reset"), ("413",), short=True),
    Attack(
        "chunks of one byte, chunk extensions",
        chunk_extensions,
        ("400", "413", "431", "closed"),
        ("reset", "no answer"),
    ),
    Attack("a key in a trailer", trailer_with_a_key, ("401",), ("400", "431"), short=True),
    Attack(
        "smuggled requests", smuggled_requests, ("400",), ("4", "5", "closed", "reset", "no", "200"), short=True
    ),
    Attack("25,000 pipelined requests, unread", pipelined_requests),
    Attack("1,200 silent connections", silent_connections, also=("200",)),
    Attack("5,000 idle connections, 50 addresses", idle_connections, also=("200",)),
    Attack("slow heads and bodies", slow_requests, ("408", "closed", "reset"), ("4",)),
)
