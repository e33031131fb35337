"""A provider's limits: turns at the provider, given out on the queue's server for all workers.

Theory of operation. An attempt that wants a turn waits in a queue, in order of arrival, and asks again several
times a second. Each request is a sign of life. A turn that was given is kept alive in the same way. So the turns
and places of a dead worker expire, and no counter must be decreased. The free turns of the attempts in front are
not given to later ones, so the queue is fair although the attempts ask at any time.

``max_concurrent`` counts turns. The limits for a minute count requests that began within the last 60 s, second by
second: no minute ever has more than the limit. The tokens of a request are estimated when it begins, because the
real number is not known yet, and corrected when it ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from shared.config.providers import Provider
from shared.redis import ScriptRunner, load_script
from shared.store.keys import Keys

TURN_LIFE_MS: Final = 4000
"""A worker that does not ask for this long has lost its turns. It asks each second, or more often."""


@dataclass(frozen=True, slots=True)
class ProviderTurn:
    """``place`` 0: the turn is given, in this ``second`` of the server's clock (0: it was given before). Otherwise
    the place in the queue, and the name of the ``limit`` that it waits for."""

    place: int
    limit: str = ""
    second: int = 0


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """An attempt that wants a turn, or has one. ``estimated``: the estimated tokens of its request."""

    member: str
    provider: Provider
    estimated: int


class ProviderLimits:
    """The turns of one deployment's workers."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._runner = ScriptRunner(client)
        self._script = load_script("turn")

    async def ask(self, requests: Sequence[TurnRequest]) -> list[ProviderTurn]:
        """Ask for a turn for each of these, or keep the turn that it has, in one round trip.

        Raises one of :data:`shared.redis.connection.AWAY`, or a RedisError.
        """
        replies = await self._runner.run_all(self._script, [self._call(request) for request in requests])
        return [
            ProviderTurn(0, second=int(number)) if word == b"go" else ProviderTurn(int(number), rest[0].decode())
            for word, number, *rest in replies
        ]

    def _call(self, request: TurnRequest) -> tuple[Sequence[str], Sequence[str | int]]:
        provider = request.provider
        limits = (provider.max_concurrent, provider.requests_per_minute, provider.tokens_per_minute)
        return self._keys.turns(provider.name), (request.member, TURN_LIFE_MS, *limits, request.estimated)

    async def leave(self, request: TurnRequest, second: int, used: int | None) -> None:
        """Give a turn, or a place in the queue, back. ``used``: the tokens that were used in the end, where known.

        Raises as :meth:`ask`.
        """
        waiting, seen, running, spent, _ = self._keys.turns(request.provider.name)
        async with self._client.pipeline(transaction=True) as pipe:
            for key in (waiting, seen, running):
                pipe.zrem(key, request.member)
            await pipe.execute()
        if used is None or not second or not request.provider.tokens_per_minute:
            return
        found = await self._client.hget(spent, str(second))  # type: ignore[misc]
        if found is not None:
            requests, tokens = (int(part) for part in found.split())
            # Two attempts that end at the same moment may lose one correction. The provider enforces its own limit.
            corrected = f"{requests} {tokens + used - request.estimated}"
            await self._client.hset(spent, str(second), corrected)  # type: ignore[misc]
