"""The secret behind Idempotency-Keys and read tokens: one for all API processes of a deployment.

Configured, or else the first that any process proposed to the queue's server. A server that lost it gets it
again from every process that knows it, as soon as it can be reached; a process that finds another one there takes
that, so that all agree.
"""

import secrets

import structlog
from redis.exceptions import RedisError

from shared.queue import Queue
from shared.redis import AWAY

log = structlog.get_logger("api.secret")


class Secret:
    """Called, it gives the secret."""

    def __init__(self, configured: str, queue: Queue) -> None:
        self._is_configured = bool(configured)
        self._known = configured
        self._queue = queue

    async def __call__(self) -> bytes:
        """Raises one of AWAY, or a RedisError, where it is not known yet."""
        if not self._known:
            self._known = await self._queue.secret(secrets.token_urlsafe(32))
        return self._known.encode()

    async def returned(self) -> None:
        """The server can be reached (again): agree with all others. Raises one of AWAY."""
        if self._is_configured:
            return
        try:
            agreed = await self._queue.secret(self._known or secrets.token_urlsafe(32))
        except AWAY:
            raise
        except RedisError as error:  # it takes no writes now; who needs the secret asks for it
            log.warning("secret_not_agreed", error=type(error).__name__)
            return
        if self._known and agreed != self._known:
            log.warning("secret_changed", hint="set HEADRACE_SECRET to keep tokens and keys over a lost server")
        self._known = agreed
