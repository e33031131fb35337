"""Redis Sentinel: a connection to whichever server is the master now.

Theory of operation. Sentinels watch a master and its replicas, and make one of the replicas the master when it is
gone. So a connection to a master behind Sentinel has no address of its own: each opening asks all Sentinels of the
URL at once, takes the first answer, connects there, and asks the server for its role. A server that is no master (a
Sentinel may answer from before a fail-over) fails the opening, and its owner tries again after its usual backoff.

Nothing is subscribed to at the Sentinels. A fail-over shows as the loss of the connection (a master that becomes a
replica is told to close all of its clients, and one that is gone answers nobody), or by the refusal of a write
(READONLY), which closes the connection as well. A fail-over may lose what was not replicated yet, exactly as a
restart may, and is mended in the same way.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

ASK_WITHIN_S: Final = 2.0
"""Longer than a connection takes to be opened, or to be given up (1 s)."""


async def find_master(sentinels: Sequence[Callable[[], AbstractConnection]], name: str) -> tuple[str, int]:
    """Where the master of this name is, as the first Sentinel that knows it says.

    ``sentinels`` make an unopened connection each. Raises a ``ConnectionError`` that tells what all of them said.
    """
    asked = [asyncio.create_task(_ask(make(), name)) for make in sentinels]
    said: list[str] = []
    try:
        for answer in asyncio.as_completed(asked):
            try:
                return await answer
            except (RedisError, OSError, TimeoutError) as error:
                said.append(str(error) or type(error).__name__)
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    raise RedisConnectionError(f"no Sentinel tells where the master {name!r} is: {'; '.join(dict.fromkeys(said))}")


async def _ask(sentinel: AbstractConnection, name: str) -> tuple[str, int]:
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            await sentinel.connect()  # type: ignore[no-untyped-call]
            await sentinel.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
            answer = await sentinel.read_response()
    finally:
        await sentinel.disconnect(nowait=True)
    if answer is None:
        raise RedisConnectionError("it watches no master of this name")
    host, port = answer
    return host.decode(), int(port)


class ToMaster(Connection):
    """What a connection of redis-py's does differently where Sentinels tell where it leads."""

    def __init__(
        self, *, sentinels: Sequence[Callable[[], AbstractConnection]], master: str, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self._sentinels = sentinels
        self._master = master

    async def _connect(self) -> None:
        self.host, self.port = await find_master(self._sentinels, self._master)
        await super()._connect()  # type: ignore[no-untyped-call]

    async def on_connect(self) -> None:
        """Authenticate and select, and see that it is the master."""
        await super().on_connect()
        await self.send_command("ROLE")
        role, *_ = await self.read_response()
        if role != b"master":
            raise RedisConnectionError(f"{self.host}:{self.port} is no master now, but a {role.decode()}")
