"""A process whose Redis user lacks rights logs which ones, and becomes ready when all are there."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY, missing_rights, reason, what_to_grant, why_refused

AGAIN_S: Final = 2.0
"""Time between two checks while a right is missing or the server is away. Rights are given by people, so more often
would be of no use."""

log = structlog.get_logger("rights")


class RightsWatch:
    """Checks the rights of a process on its servers when it starts, and repeats the check until all are there."""

    def __init__(self, urls: Sequence[str], prefix: str) -> None:
        """``urls``: the logs' server, and the queue's server if that is another. ``prefix``: of all keys."""
        self._urls = dict.fromkeys(urls)
        self._prefix = prefix
        self.missing: tuple[str, ...] = ()
        """The missing rights as ACL rules; empty while no missing right is known."""

    async def run(self) -> None:
        """Check until all rights are there, then return. Missing rights are logged, and again when they change."""
        logged: object = None
        while True:
            try:
                found = [right for url in self._urls for right in await missing_rights(url, self._prefix)]
            except (*AWAY, RedisError) as error:
                why = why_refused(error) or reason(error) or type(error).__name__
                if why != logged:
                    log.warning("redis_away", why=why)
                logged = why
            else:
                self.missing = tuple(dict.fromkeys(found))
                if not self.missing:
                    if logged:
                        log.info("redis_is_there", why="all needed rights are there")
                    return
                if self.missing != logged:
                    log.error("rights_missing", rights=" ".join(self.missing), mend=what_to_grant(self.missing))
                logged = self.missing
            await asyncio.sleep(AGAIN_S)
