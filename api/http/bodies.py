"""Taking request bodies: so that none of them, and no number of them, holds up what runs beside.

Theory of operation. Reading JSON and checking it happens on the event loop, and nothing else moves meanwhile: a
body of 1 MiB that holds 300,000 empty lists takes 100 ms and more. Three rules keep that short.

- *Few values.* What a body costs follows the number of its values, which is counted (about 1 ms a MiB) before
  anything is made of them. With :data:`MAX_VALUES` reading and checking take less than 20 ms; a conversation of
  1,000 messages with 100 tools has some 10,000.
- *One at a time.* Between two large bodies the event loop turns, so whatever came in meanwhile goes first.
- *Refused bodies count.* For each 4 KiB of a refused body its key has one creation less in that minute, in this
  process; a key that has none left is refused before its body is looked at. An accepted create is counted in Redis.

(No thread: the parser and the checks hold the interpreter's lock, so a thread would hold up the loop just the
same.)
"""

import asyncio
from typing import Final

from api.http.problems import Problem
from api.http.rates import Rate

LARGE_BYTES: Final = 32 * 1024
"""A smaller body takes less than 2 ms, whatever it holds."""
MAX_VALUES: Final = 20_000
UNIT_BYTES: Final = 4096


class Bodies:
    """The bodies of one process's requests."""

    def __init__(self, per_minute: int) -> None:
        """``per_minute``: creations of a key; 0: any number."""
        self._rate = Rate(per_minute)
        self._turn = asyncio.Lock()

    def check(self, owner: str) -> None:
        """Raises :class:`Problem` (429) where too many bodies of this key were refused."""
        if wait_s := self._rate.wait_s(owner):
            raise Problem(
                429,
                "rate_limited",
                f"Too many requests of this key were refused. Correct them, and try again in {wait_s:.0f} s.",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )

    async def turn(self, body: bytes) -> None:
        """Wait until this body may be read. Raises :class:`Problem` (413) where it holds too many values."""
        if len(body) <= LARGE_BYTES:
            return
        async with self._turn:
            await asyncio.sleep(0)
        if _holds_many(body):
            raise Problem(
                413,
                "body_too_large",
                f"The body holds more than {MAX_VALUES} values. Send fewer, larger ones.",
            )

    def refused(self, owner: str, size: int) -> None:
        """A body of so many bytes was refused."""
        self._rate.take(owner, 1 + size // UNIT_BYTES)


def _holds_many(body: bytes) -> bool:
    """Whether there are more than :data:`MAX_VALUES` values. What stands within strings is no value, and is looked
    at only where there could be too many."""
    if _marks(body) <= MAX_VALUES:
        return False
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 2 * MAX_VALUES:
        return True
    return _marks(b"".join(plain.split(b'"')[::2])) > MAX_VALUES


def _marks(json: bytes) -> int:
    return json.count(b",") + json.count(b"[") + json.count(b"{")
