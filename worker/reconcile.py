"""Comparing attempts with their logs: the moment of truth after a lost connection or a doubtful append.

Theory of operation. A log's last entry says it all: a later epoch fenced this writer; the same epoch with a
smaller number lost what is written again from the attempt's memory, under the same ids; an earlier epoch
lost even the claim, and then the claim is repeated as it was, epoch and all, if nobody else came and all that
the attempt said is still kept. Comparing and writing again never overtakes anything, for nothing else is in
flight on the connection.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from redis.exceptions import RedisError, ResponseError

from shared.fallbacks import speaker
from shared.ids import MAX_PART, Cursor
from shared.keys import Keys
from shared.log import Log, append_outcome, last_command, read_entries
from shared.redis import LogConnection, Script, command, is_out_of_memory, is_trouble
from worker.carried import FENCED, GONE, LOG_FULL, LOST, UNCLAIMED, Carried

Outcome = ResponseError | bool | str | None
"""True (all is there), a reason to stop (see :mod:`worker.carried`), or what a refused append led to."""

log = structlog.get_logger("worker.reconcile")


def stays_doubtful(carried: Carried, outcome: Outcome, now: float) -> bool:
    """What a refused append means: the attempt stops, or its log must be looked at again (True).

    Raises the refusal itself where it speaks of the whole server (see :func:`shared.redis.commands.is_trouble`).
    """
    if carried.stopped.done():
        carried.cut()  # fenced while this was in flight: what the log refused was never said
    elif outcome is None:
        carried.stop(GONE)
    elif is_out_of_memory(outcome):
        carried.held_up(now, LOG_FULL)
    elif isinstance(outcome, RedisError) and is_trouble(outcome):
        raise outcome
    elif "equal or smaller" not in str(outcome):
        carried.stop(LOST)
    return not carried.stopped.done()


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Compares the attempts of one worker."""

    keys: Keys
    reclaim: Script
    worker: str
    lease_ms: int
    cap: int

    async def reconcile(
        self, connection: LogConnection, doubtful: Sequence[Carried]
    ) -> AsyncIterator[tuple[Carried, Outcome]]:
        """Compare, and write again what the logs lost. Out: what came of each attempt.

        Raises ``ResponseError`` for what ails the whole server, and one of AWAY where the connection is lost.
        """
        logs = [last_command(carried.log.key) for carried in doubtful]
        replies = await connection.exchange(logs)
        for carried, reply in zip(doubtful, replies, strict=True):
            if isinstance(reply, ResponseError):
                if is_trouble(reply):
                    raise reply
                log.error("log_unreadable", stream=carried.stream_id, detail=str(reply)[:200])
                yield carried, LOST
                continue
            last = next(iter(read_entries(reply)), None)
            verdict = carried.compare(last)
            if verdict == FENCED and last is not None:
                carried.fence(last.after or await self._last_before_fence(connection, carried))
            if verdict == UNCLAIMED:
                yield carried, await self._claim_again(connection, carried)
            elif isinstance(verdict, str):
                yield carried, verdict
            else:
                yield carried, await self._write_again(connection, carried, verdict)

    async def _last_before_fence(self, connection: LogConnection, carried: Carried) -> Cursor | None:
        """The last entry up to this attempt's epoch; None where it was trimmed."""
        upto = Cursor(carried.epoch, MAX_PART)
        (reply,) = await connection.exchange([last_command(carried.log.key, upto)])
        if isinstance(reply, ResponseError):
            raise reply
        return next((entry.cursor for entry in read_entries(reply)), None)

    async def _claim_again(self, connection: LogConnection, carried: Carried) -> Outcome:
        keys = self.keys.stream(carried.stream_id)
        claim = carried.claim
        speaks = speaker(msgspec.json.decode(claim.request))
        pairs: list[str | bytes] = ["request", claim.request, *(part for pair in speaks.items() for part in pair)]
        # One that has ended only says again what it said: its stream is for others to go on with.
        lease_ms = self.lease_ms if carried.ended_at is None else 0
        args = (self.worker, carried.epoch, lease_ms, claim.opening, claim.seen, *pairs)
        claiming = command(keys.log, "EVALSHA", self.reclaim.sha, len(keys), *keys, *args)
        (answer,) = await connection.exchange([claiming])
        if isinstance(answer, ResponseError):
            raise answer
        log.info("claimed_again", stream=carried.stream_id, answer=answer.decode())
        if answer == b"open":
            return await self._write_again(connection, carried, carried.kept())
        # Its creator, or the worker before, may be about to write again what this stands on.
        return GONE if answer in (b"gone", b"provisional", b"behind") else LOST

    async def _write_again(self, connection: LogConnection, carried: Carried, entries: Sequence[bytes]) -> Outcome:
        if not entries:
            return True
        # Nothing is trimmed for them: the snapshot that held what they push out may be lost as well.
        again = Log(carried.log.key, carried.log.cap + len(entries))
        (reply,) = await connection.exchange([again.append(entries)])
        outcome = append_outcome(reply)
        if outcome is True:
            log.info("log_mended", stream=carried.stream_id, entries=len(entries))
        return outcome
