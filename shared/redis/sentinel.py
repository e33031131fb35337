"""Redis Sentinel: a connection to the server that is the master now.

Theory of operation. Sentinels watch a master and its replicas, and promote a replica when the master is gone. So a
connection to a master behind Sentinel has no fixed address. Each opening asks all Sentinels of the URL at once,
takes the first reply, connects to that address, and asks the server for its role. If that server is no master (a
Sentinel's reply may be older than a fail-over), the opening fails, and its owner tries again after its usual
backoff.

No channel of the Sentinels is subscribed to. A fail-over shows as the loss of the connection (a master that becomes
a replica is told to close all of its clients, and one that is gone does not reply), or as a refused write
(READONLY), which closes the connection as well. A fail-over may lose entries that were not replicated yet, exactly
as a restart may. They are written again.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

ASK_WITHIN_S: Final = 2.0
"""Longer than opening a connection takes, or giving it up (1 s)."""


async def find_master(sentinels: Sequence[Callable[[], AbstractConnection]], name: str) -> tuple[str, int]:
    """The host and port of the master with this name, from the first Sentinel that knows it.

    ``sentinels``: each makes an unopened connection to one. Raises a ``ConnectionError`` with the errors of all.
    """
    asked = [asyncio.create_task(_ask(make(), name)) for make in sentinels]
    errors: list[str] = []
    try:
        for reply in asyncio.as_completed(asked):
            try:
                return await reply
            except (RedisError, OSError, TimeoutError) as error:
                errors.append(str(error) or type(error).__name__)
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    why = "; ".join(dict.fromkeys(errors))
    raise RedisConnectionError(f"no Sentinel tells where the master {name!r} is: {why}")


async def _ask(sentinel: AbstractConnection, name: str) -> tuple[str, int]:
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            await sentinel.connect()  # type: ignore[no-untyped-call]
            await sentinel.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
            reply = await sentinel.read_response()
    finally:
        await sentinel.disconnect(nowait=True)
    if reply is None:
        raise RedisConnectionError("it watches no master of this name")
    host, port = reply
    return host.decode(), int(port)


class ToMaster(Connection):
    """A mixin for redis-py's connections: each opening asks the Sentinels for the address."""

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
        """Authenticate, select, and check that the server is the master."""
        await super().on_connect()
        await self.send_command("ROLE")
        role, *_ = await self.read_response()
        if role != b"master":
            raise RedisConnectionError(f"{self.host}:{self.port} is no master now, but a {role.decode()}")
