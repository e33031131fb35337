"""What a process does about missing rights of its user of Redis: it says so, and begins when they are there."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY, missing_rights, reason, what_to_grant, why_refused

AGAIN_S: Final = 2.0
"""Between two looks while a right is missing, or the server is away: rights are given by people."""

log = structlog.get_logger("rights")


class RightsWatch:
    """Looks at the rights of a process on its servers when it starts, again and again until all are there."""

    def __init__(self, urls: Sequence[str], prefix: str) -> None:
        """``urls``: of the logs' server, and of the queue's if that is another. ``prefix``: of all keys."""
        self._urls = dict.fromkeys(urls)
        self._prefix = prefix
        self.missing: tuple[str, ...] = ()
        """As ACL rules; empty while nobody knows of any."""

    async def run(self) -> None:
        """Look until all rights are there, then return. What is missing is logged once, and when it changes."""
        said: object = None
        while True:
            try:
                found = [right for url in self._urls for right in await missing_rights(url, self._prefix)]
            except (*AWAY, RedisError) as error:
                why = why_refused(error) or reason(error) or type(error).__name__
                if why != said:
                    log.warning("redis_away", why=why)
                said = why
            else:
                self.missing = tuple(dict.fromkeys(found))
                if not self.missing:
                    if said:
                        log.info("redis_is_there", why="all rights that it takes are there")
                    return
                if self.missing != said:
                    log.error("rights_missing", rights=" ".join(self.missing), mend=what_to_grant(self.missing))
                said = self.missing
            await asyncio.sleep(AGAIN_S)
