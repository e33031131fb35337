"""The worker's connection to the logs: opened on purpose, closed at the first doubt, never reopened unseen."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from shared.redis import AWAY, LogConnection, Script, command, teach
from shared.uptime import Trouble

SLOW_S: Final = 1.0
"""A question that takes longer met a server that stood still."""


class Link:
    """Holds the one connection. A new one knows all scripts, for a server that restarted has forgotten them."""

    def __init__(self, connect: Callable[[], LogConnection], scripts: Iterable[Script]) -> None:
        self._connect = connect
        self._scripts = tuple(scripts)
        self._connection: LogConnection | None = None
        self.trouble = Trouble()

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    @property
    def connection(self) -> LogConnection:
        """The open connection. Raises ConnectionError without one (a health check may just have closed it)."""
        if self._connection is None:
            raise ConnectionError("the log's connection was lost")
        return self._connection

    async def open(self) -> None:
        """Connect anew. Raises one of AWAY, or a RedisError; then nothing is open."""
        connection = self._connect()
        await connection.open()
        try:
            await teach(connection, self._scripts)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        if self.trouble.known:
            self.trouble.note()

    async def close(self) -> None:
        """Close at once, with whatever is in flight."""
        self.trouble.note()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def is_alive(self) -> bool:
        """Whether the server answers on it; a connection that does not is closed."""
        asked_at = asyncio.get_running_loop().time()
        try:
            await self.connection.exchange([command(None, "PING")])
        except AWAY:
            await self.close()
            return False
        self.answered(asked_at)
        return True

    def answered(self, asked_at: float) -> None:
        """The server answered now what it was asked then (loop time, s)."""
        if asyncio.get_running_loop().time() - asked_at > SLOW_S:
            self.trouble.note()
