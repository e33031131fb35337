"""What a process wrote lately is written again until it is safe, and not once more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress

import pytest
from redis.exceptions import ReadOnlyError

from api import repeats as module
from api.repeats import Repeats


class Place:
    """A server that tells its age, and what was written to it."""

    def __init__(self) -> None:
        self.up_s = 100
        self.away = False
        self.refusing = False
        self.counts = True
        self.written: list[str] = []

    async def age(self) -> int:
        if self.away:
            raise ConnectionError
        return self.up_s

    async def write(self, what: str) -> bool:
        if self.away:
            raise ConnectionError
        if self.refusing:
            raise ReadOnlyError("READONLY")
        self.written.append(what)
        return self.counts

    def cancelling(self, repeats: Repeats) -> AbstractContextManager[Callable[[bool], None]]:
        return repeats.writing("s", lambda: self.write("cancel"), lambda: self.write("announced"))


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "KEEP_S", 0.1)
    monkeypatch.setattr(module, "ENDS_AFTER_S", 0.05)
    return Place()


@asynccontextmanager
async def looking_after(place: Place) -> AsyncIterator[Repeats]:
    repeats = Repeats(place.age, lambda: None)
    task = asyncio.create_task(repeats.run())
    try:
        yield repeats
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(place: Place, *written: str) -> None:
    async with asyncio.timeout(5):
        while [*dict.fromkeys(place.written)] != list(written):
            await asyncio.sleep(0.01)


async def test_what_an_older_server_still_has_is_never_written_again(place: Place) -> None:
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("s"))
        await asyncio.sleep(0.3)
        place.up_s = 0
        await asyncio.sleep(0.1)
    assert place.written == []


async def test_a_server_younger_than_the_write_gets_it_again_though_nobody_saw_it_go(place: Place) -> None:
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("s"))
        place.up_s = 0
        await until(place, "s")


async def test_a_write_outlives_a_stall_that_is_longer_than_it_is_kept(place: Place) -> None:
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("s"))
        place.away = True
        await asyncio.sleep(0.3)
        place.away, place.up_s = False, 0
        await until(place, "s")


async def test_what_is_refused_for_now_is_tried_again(place: Place) -> None:
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("s"))
        place.refusing, place.up_s = True, 0
        await repeats.returned()
        await asyncio.sleep(0.3)
        place.up_s = 100
        assert place.written == []
        place.refusing = False
        await until(place, "s")


@pytest.mark.parametrize("up_s", [0, 100])
async def test_what_is_refused_for_ever_is_given_up(
    up_s: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 0.1)
    place.up_s = up_s
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("s"))
        place.refusing = True
        await repeats.returned()
        await asyncio.sleep(0.4)
        place.refusing = False
        await asyncio.sleep(0.1)
    assert place.written == []


async def test_creates_come_back_at_once_and_cancels_when_the_workers_had_their_turn(place: Place) -> None:
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("create"))
        with place.cancelling(repeats) as tell:
            tell(True)
        place.up_s = 0
        await repeats.returned()
        assert place.written == ["create", "announced"]
        await asyncio.sleep(0.2)
        assert "cancel" not in place.written
        place.up_s = module.ENDS_UP_S
        await until(place, "create", "announced", "cancel")


async def test_what_was_written_again_may_be_lost_again(place: Place) -> None:
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("s"))
        await asyncio.sleep(0.08)
        place.up_s = 0
        await until(place, "s")
        place.up_s = 100
        await asyncio.sleep(0.06)
        place.written.clear()
        place.up_s = 0
        await until(place, "s")


async def test_an_erased_stream_is_not_made_again(place: Place) -> None:
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("create"))
        repeats.forget("s")
        repeats.remember("s", lambda: place.write("erase"))
        place.up_s = module.ENDS_UP_S
        await repeats.returned()
        await until(place, "erase")


async def test_what_is_under_way_is_left_to_whoever_waits_for_its_answer(place: Place) -> None:
    async with looking_after(place) as repeats:
        with place.cancelling(repeats) as tell:
            place.up_s = 0
            await repeats.returned()
            await asyncio.sleep(0.3)  # longer than it is kept
            assert place.written == []
            tell(True)
        place.up_s = module.ENDS_UP_S
        await until(place, "announced", "cancel")


async def test_what_nobody_answered_is_written_as_soon_as_may_be(place: Place) -> None:
    async with looking_after(place) as repeats:
        with suppress(ConnectionError), place.cancelling(repeats):
            await asyncio.sleep(0.3)  # longer than what was answered is kept
            place.away = True
            raise ConnectionError
        await asyncio.sleep(0.3)
        assert place.written == []
        place.away = False
        await until(place, "announced", "cancel")


async def test_an_outage_is_no_refusal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 0.1)
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("s"))
        place.away, place.up_s = True, 0
        await asyncio.sleep(0.3)
        place.away, place.refusing = False, True
        await asyncio.sleep(0.03)
        place.refusing = False
        await until(place, "s")


async def test_an_answered_cancel_takes_the_place_of_one_that_nobody_answered(place: Place) -> None:
    async with looking_after(place) as repeats:
        repeats.remember("s", lambda: place.write("create"))
        with suppress(ConnectionError), place.cancelling(repeats):
            raise ConnectionError
        with repeats.writing("s", lambda: place.write("later"), lambda: place.write("announced")) as tell:
            tell(True)
        place.up_s = module.ENDS_UP_S
        await repeats.returned()
        await until(place, "create", "announced", "later")


async def test_what_was_not_written_is_not_written_again(place: Place) -> None:
    async with looking_after(place) as repeats:
        with place.cancelling(repeats) as tell:
            tell(False)
        place.up_s = 0
        await repeats.returned()
        await asyncio.sleep(0.1)
    assert place.written == []


async def test_what_counts_no_more_is_dropped(place: Place) -> None:
    async with looking_after(place) as repeats:
        with place.cancelling(repeats):
            place.counts = False
        await until(place, "announced")
        place.written.clear()
        await repeats.returned()
        await asyncio.sleep(0.1)
    assert place.written == []


async def test_what_is_forgotten_while_others_are_written_stays_so(place: Place) -> None:
    async with looking_after(place) as repeats:

        async def first() -> None:
            repeats.forget("s")

        repeats.remember("other", first)
        repeats.remember("s", lambda: place.write("create"))
        await repeats.returned()
        await asyncio.sleep(0.1)
    assert place.written == []
