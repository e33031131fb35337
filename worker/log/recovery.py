"""Comparing attempts with their logs, on a new connection or behind a refused append.

Theory of operation. The log's last entry says it all (:meth:`worker.log.attempt_log.AttemptLog.compare`): it is the
attempt's own, and what the log lacks behind it is written again under the same ids; or the attempt stops. A refused
append is *doubtful*: "equal or smaller" may be a repeated write whose reply was lost, and only the log can tell.
Comparing and writing again never overtakes anything, for nothing else is in flight on the connection.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError, ResponseError

from shared.redis import LogConnection, is_out_of_memory, is_trouble, reason
from shared.store.log import Log, append_outcome, last_command, read_entries
from worker.log.attempt_log import GONE, LOST, AttemptLog

Outcome = ResponseError | bool | str | None
"""True (all is there), a reason to stop (see :mod:`worker.log.attempt_log`), or what a refused append led to."""

log = structlog.get_logger("worker.log")


def stays_doubtful(attempt: AttemptLog, outcome: Outcome, now: float) -> bool:
    """What an append that was not (or perhaps not) written means: the attempt stops (False), or its log must be
    looked at (again).

    Raises the refusal itself where it speaks of the whole server (see :func:`shared.redis.is_trouble`).
    """
    if outcome is None:
        attempt.stop(GONE)
    elif is_out_of_memory(outcome):
        attempt.full(now)
    elif isinstance(outcome, RedisError) and is_trouble(outcome):
        raise outcome
    elif "equal or smaller" not in str(outcome):
        attempt.stop(LOST)
    return not attempt.stopped.done()


async def reconcile(
    connection: LogConnection, doubtful: Sequence[AttemptLog]
) -> AsyncIterator[tuple[AttemptLog, Outcome, bool]]:
    """Compare, and write again what the logs lack. Out: what came of each attempt, and whether anything was
    written.

    Raises ``ResponseError`` for what ails the whole server, and one of AWAY where the connection is lost.
    """
    replies = await connection.exchange([last_command(attempt.log.key) for attempt in doubtful])
    for attempt, reply in zip(doubtful, replies, strict=True):
        verdict = _compare(attempt, reply)
        if isinstance(verdict, str) or not verdict:
            yield attempt, verdict if isinstance(verdict, str) else True, False
            continue
        # Nothing is trimmed for them: the snapshot that held what they push out may be lost as well.
        again = Log(attempt.log.key, attempt.log.cap + len(verdict))
        (answer,) = await connection.exchange([again.append(verdict)])
        outcome = append_outcome(answer)
        if outcome is True:
            log.info("log_mended", stream=attempt.stream_id, entries=len(verdict))
        yield attempt, outcome, True


def _compare(attempt: AttemptLog, reply: Any) -> list[bytes] | str:
    if not isinstance(reply, ResponseError):
        return attempt.compare(next(iter(read_entries(reply)), None))
    if is_trouble(reply):
        raise reply
    log.error("log_unreadable", stream=attempt.stream_id, detail=reason(reply))
    return LOST
