"""Comparing attempts with their logs: the moment of truth after a lost connection or a doubtful append.

Theory of operation. A log's last entry says it all: a later epoch fenced this writer; the same epoch with a
smaller number lost what is written again from the attempt's memory, under the same ids; an earlier epoch
lost even the claim, which only a new attempt mends. Comparing and writing again never overtakes anything,
for nothing else is in flight on the connection.
"""

from collections.abc import AsyncIterator, Callable, Sequence

import structlog
from redis.exceptions import ResponseError

from shared.connections import OwnedConnection
from shared.log import append_commands, append_outcome, last_command, read_entries
from worker.carried import Carried

log = structlog.get_logger("worker.reconcile")


async def reconcile(
    connection: OwnedConnection, key: Callable[[str], str], cap: int, doubtful: Sequence[Carried]
) -> AsyncIterator[tuple[Carried, ResponseError | bool | str | None]]:
    """Compare, and write again what the logs lost.

    Out, for each attempt: True (all is there), a reason to stop (see :mod:`worker.carried`), or what an
    append led to that was refused. Raises ``ResponseError`` where a log can't be read.
    """
    if not doubtful:
        return
    replies = await connection.exchange([last_command(key(carried.stream_id)) for carried in doubtful])
    for carried, reply in zip(doubtful, replies, strict=True):
        if isinstance(reply, ResponseError):
            raise reply
        verdict = carried.compare(next(iter(read_entries(reply)), None))
        if isinstance(verdict, str):
            yield carried, verdict
        elif not verdict:
            yield carried, True
        else:
            commands = append_commands(key(carried.stream_id), cap, verdict)
            outcome = append_outcome(await connection.exchange(commands))
            if outcome is True:
                log.info("log_mended", stream=carried.stream_id, entries=len(verdict))
            yield carried, outcome
