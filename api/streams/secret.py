"""The secret behind Idempotency-Keys and read tokens: one for all API processes of a deployment.

Configured, or else the first that any process proposed to the queue's server, where it stays. A deployment whose
Redis may be emptied sets ``HEADRACE_SECRET``: read tokens and keys of before then stay valid.
"""

import secrets

from shared.store.queue import Queue


class Secret:
    """Called, it gives the secret."""

    def __init__(self, configured: str, queue: Queue) -> None:
        self._known = configured
        self._queue = queue

    async def __call__(self) -> bytes:
        """Raises one of AWAY, or a RedisError, where it is not known yet."""
        if not self._known:
            self._known = await self._queue.secret(secrets.token_urlsafe(32))
        return self._known.encode()
