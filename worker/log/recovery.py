"""Comparing attempts with their logs, on a new connection or after a refused append.

Theory of operation. The log's last entry tells everything (:meth:`worker.log.attempt_log.AttemptLog.compare`). If
it is the attempt's own entry, the entries that the log lacks after it are written again under the same ids. If it
is not, the attempt stops. A refused append is *doubtful*: "equal or smaller" may be a repeated write whose reply
was lost, and only the log can tell. Comparing and writing again can't overtake another write, because nothing else
is in flight on the connection.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError, ResponseError

from shared.redis import LogConnection, is_out_of_memory, is_trouble, reason
from shared.store.log import Log, append_outcome, last_command, read_entries
from worker.log.attempt_log import GONE, LOST, AttemptLog

AppendOutcome = ResponseError | bool | str | None
"""True (the log has everything), a reason to stop (see :mod:`worker.log.attempt_log`), or the outcome of an append
that was not written (:func:`shared.store.log.append_outcome`)."""

log = structlog.get_logger("worker.log")


def stays_doubtful(attempt: AttemptLog, outcome: AppendOutcome, now: float) -> bool:
    """Handle an append that was not written, or perhaps not. Out: False if the attempt stops, True if its log must
    be compared (again).

    Raises the refusal itself if it concerns the whole server (see :func:`shared.redis.is_trouble`).
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
) -> AsyncIterator[tuple[AttemptLog, AppendOutcome, bool]]:
    """Compare attempts with their logs, and write again what the logs lack. Out: the outcome for each attempt, and
    whether anything was written.

    Raises ``ResponseError`` for an error of the whole server, and one of AWAY if the connection is lost.
    """
    replies = await connection.exchange([last_command(attempt.log.key) for attempt in doubtful])
    for attempt, reply in zip(doubtful, replies, strict=True):
        verdict = _compare(attempt, reply)
        if isinstance(verdict, str) or not verdict:
            yield attempt, verdict if isinstance(verdict, str) else True, False
            continue
        # These entries must not trim the log: the snapshot that held the trimmed ones may be lost as well.
        again = Log(attempt.log.key, attempt.log.cap + len(verdict))
        (append_reply,) = await connection.exchange([again.append(verdict)])
        outcome = append_outcome(append_reply)
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
