"""The request scheduler: how many requests begin in one iteration of the loop, and whose."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.auth import OWNER
from api.http.scheduler import EACH, RequestScheduler


class Began:
    """An application that notes whose requests began in which iteration of the loop, and never answers."""

    def __init__(self) -> None:
        self.iteration = 0
        self.began: list[tuple[int, str]] = []
        asyncio.get_running_loop().call_soon(self._count)

    def _count(self) -> None:
        self.iteration += 1
        asyncio.get_running_loop().call_soon(self._count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began.append((self.iteration, scope["who"]))
        await asyncio.Event().wait()

    def of(self, who: str) -> list[int]:
        return [iteration for iteration, one in self.began if one == who]


async def nothing() -> None:
    raise AssertionError


def asks(
    app: ASGIApp, who: str, count: int, *, key: str | None = None, address: str = ""
) -> list[asyncio.Task[None]]:
    """So many requests of one caller at once."""

    async def ask() -> None:
        scope = {"type": "http", "who": who, OWNER: key, "client": (address, 1) if address else None}
        await app(scope, nothing, nothing)  # type: ignore[arg-type]

    return [asyncio.create_task(ask()) for _ in range(count)]


async def until(began: Began, count: int) -> None:
    async with asyncio.timeout(60):
        while len(began.began) < count:
            await asyncio.sleep(0)


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_few_requests_begin_at_once() -> None:
    began = Began()
    tasks = asks(RequestScheduler(began), "ann", EACH, key="ann")
    await until(began, EACH)
    assert len(set(began.of("ann"))) == 1
    await end(tasks)


async def test_of_many_requests_a_few_begin_in_each_iteration() -> None:
    began = Began()
    tasks = asks(RequestScheduler(began), "mob", 100, key="mob")
    await until(began, 100)
    iterations = began.of("mob")
    assert max(iterations.count(one) for one in iterations) == EACH
    assert iterations[-1] - iterations[0] <= 100 / EACH + 2
    await end(tasks)


async def test_whoever_asks_for_little_does_not_wait_behind_whoever_asks_for_much() -> None:
    for mob, other in (
        ({"key": "mob"}, {"key": "ann"}),
        ({"address": "127.0.0.66"}, {"key": "ann"}),
        ({"address": "127.0.0.66"}, {"address": "127.0.0.1"}),
        ({"key": "mob"}, {"key": None}),
        ({"key": "127.0.0.1"}, {"address": "127.0.0.1"}),
    ):
        began = Began()
        app = RequestScheduler(began)
        tasks = asks(app, "mob", 400, **mob)  # type: ignore[arg-type]
        await until(began, 1)
        tasks += asks(app, "ann", 2, **other)  # type: ignore[arg-type]
        asked = began.iteration
        await until(began, 402)
        assert max(began.of("ann")) <= asked + 4, (mob, other)
        assert max(began.of("mob")) > asked + 30
        await end(tasks)


async def test_a_request_that_is_given_up_in_the_line_takes_nobodys_turn() -> None:
    began = Began()
    app = RequestScheduler(began)
    tasks = asks(app, "mob", 100, key="mob")
    await until(began, 1)
    asked = began.iteration
    given_up = tasks[EACH:]
    for task in given_up:
        task.cancel()
    tasks += asks(app, "mob", 1, key="mob")
    await until(began, EACH + 1)
    assert began.iteration <= asked + 4
    await end(tasks)
    assert not app._lines
    later = asks(app, "mob", 1, key="mob")
    await until(began, EACH + 2)
    await end(later)


async def test_what_is_no_request_passes() -> None:
    passed = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["type"])

    await RequestScheduler(app)({"type": "lifespan"}, nothing, nothing)  # type: ignore[arg-type]
    assert passed == ["lifespan"]
