"""Turns at a provider: its limits, held on the queue's server for all workers.

Theory of operation. Who wants a turn stands in a line, in order of arrival, and asks again several times a second;
each asking is a sign of life. A turn that was given is kept alive in the same way. So a worker that dies gives back
its turns and its places by silence, and nobody counts anything down. What is left to those in front is not given
away, so the line is fair although everybody asks when it pleases.

*At once* counts turns. *A minute* counts what began within the last 60 s, second by second: never more than the
limit within any minute. The tokens of a request are reckoned when it begins (nobody knows better), and put right
when it ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from shared.config.providers import Provider
from shared.redis import ScriptRunner, load_script
from shared.store.keys import Keys

TURN_LIFE_MS: Final = 4000
"""A worker that is silent for this long has lost its turns; it asks each second, or more often."""


@dataclass(frozen=True, slots=True)
class Turn:
    """``place`` 0: it is given, in this ``second`` of the server's clock (0: it was given before). Else the place
    in line, and which ``limit`` holds it."""

    place: int
    limit: str = ""
    second: int = 0


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One that wants a turn, or has it. ``reckoned``: tokens that its request may take."""

    member: str
    provider: Provider
    reckoned: int


class ProviderLimits:
    """The turns of one deployment."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._runner = ScriptRunner(client)
        self._script = load_script("turn")

    async def ask(self, askings: Sequence[TurnRequest]) -> list[Turn]:
        """Ask for all of these, or keep what is given, in one round trip.

        Raises one of :data:`shared.redis.connection.AWAY`, or a RedisError.
        """
        answers = await self._runner.run_all(self._script, [self._call(asking) for asking in askings])
        return [
            Turn(0, second=int(number)) if word == b"go" else Turn(int(number), rest[0].decode())
            for word, number, *rest in answers
        ]

    def _call(self, asking: TurnRequest) -> tuple[Sequence[str], Sequence[str | int]]:
        provider = asking.provider
        limits = (provider.max_concurrent, provider.requests_per_minute, provider.tokens_per_minute)
        return self._keys.turns(provider.name), (asking.member, TURN_LIFE_MS, *limits, asking.reckoned)

    async def leave(self, asking: TurnRequest, second: int, used: int | None) -> None:
        """Give a turn (or a place) back. ``used``: tokens that were used in the end, where that is known.

        Raises as :meth:`ask`.
        """
        line, seen, running, spent, _ = self._keys.turns(asking.provider.name)
        async with self._client.pipeline(transaction=True) as pipe:
            for key in (line, seen, running):
                pipe.zrem(key, asking.member)
            await pipe.execute()
        if used is None or not second or not asking.provider.tokens_per_minute:
            return
        told = await self._client.hget(spent, str(second))  # type: ignore[misc]
        if told is not None:
            requests, tokens = (int(part) for part in told.split())
            # Two that end at the same moment may lose one correction: the limit is the provider's to enforce.
            await self._client.hset(spent, str(second), f"{requests} {tokens + used - asking.reckoned}")  # type: ignore[misc]
