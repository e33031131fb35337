"""The secret for Idempotency-Keys and read tokens: one for all API processes of a deployment.

It is configured, or else the first one that a process proposed to the queue's server, where it stays. A deployment
whose Redis may be emptied should set ``HEADRACE_SECRET``: then older read tokens and Idempotency-Keys stay valid.
"""

import secrets

from shared.store.queue import Queue


class Secret:
    """A callable that returns the secret."""

    def __init__(self, configured: str, queue: Queue) -> None:
        self._known = configured
        self._queue = queue

    async def __call__(self) -> bytes:
        """The secret. Raises one of AWAY, or a RedisError, if it must be fetched and can't be."""
        if not self._known:
            self._known = await self._queue.secret(secrets.token_urlsafe(32))
        return self._known.encode()
