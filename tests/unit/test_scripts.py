"""The scripts on fakeredis: every status against every step, nonces, fences, and what is written."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis

from shared.protocol.status import TRANSITIONS
from shared.redis import FLAGS, leave_streams_raw, load_scripts
from shared.store.claims import Claim
from shared.store.keys import Keys
from shared.store.log import read_entries
from shared.store.new_stream import NewStream, new_nonce
from shared.store.streams import Streams

ID = "A" * 24
KEYS = Keys("t").stream(ID)
FUTURE_MS = 9_000_000_000_000
LEASE_MS = 3000


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[Any]:
    client = FakeAsyncRedis(version=(7, 2))
    leave_streams_raw(client)
    yield client
    await client.aclose()


@pytest.fixture
def streams(redis: Any) -> Streams:
    return Streams(redis, Keys("t"), load_scripts(shebang=False), tries=1)


async def create(streams: Streams, on_failure: str = "restart", request_hash: str = "h") -> tuple[str, ...]:
    fields = {"request": '{"q":1}', "about": '{"model":"m"}', "model": "m", "on_failure": on_failure}
    return await streams.record(NewStream(ID, request_hash, "owner", b"{}", fields), new_nonce(), FUTURE_MS)


async def created(streams: Streams, on_failure: str = "restart") -> None:
    assert (await create(streams, on_failure))[0] == "created"


async def claim(streams: Streams, worker: str = "w1", tries: int = 3) -> Claim:
    return await streams.claim(ID, worker, LEASE_MS, tries)


async def say(redis: Any, epoch: int, n: int, kind: str = "message", data: str = "{}") -> None:
    await redis.execute_command("XADD", KEYS.log, "NOMKSTREAM", f"{epoch}-{n}", "e", kind, "d", data)


async def finish(streams: Streams, epoch: int, n: int, status: str = "done", **more: Any) -> str:
    nonce = more.get("nonce", new_nonce())
    step = (*more.get("step", ("", 0, b"")), more.get("finishing", b""))
    raw = await streams.call("finish", ID, nonce, epoch, n, status, b"{}", 60_000, 0, *step, "result", b"{}")
    return str(raw.decode())


async def cancel(streams: Streams) -> tuple[str, ...]:
    return await streams.cancel(ID, b"{}", 60_000, False)


async def entries(redis: Any) -> list[Any]:
    return read_entries(await redis.execute_command("XRANGE", KEYS.log, "-", "+"))


async def test_every_script_has_its_file_and_keeps_the_transition_table() -> None:
    scripts = load_scripts()
    assert set(scripts) == set(FLAGS)
    assert all("ALLOWED" in script.text.splitlines()[1] for script in scripts.values())
    assert scripts["finish"].text.startswith("#!lua flags=allow-oom\n")


async def test_a_new_stream_has_its_record_and_its_queued_event_and_stays(streams: Streams, redis: Any) -> None:
    answer = await create(streams)
    assert await redis.pttl(KEYS.meta) == await redis.pttl(KEYS.log) == -1
    (queued,) = await entries(redis)
    assert (queued.type, str(queued.cursor)) == ("queued", answer[1])


async def test_a_record_that_nobody_waits_for_any_more_is_not_made(streams: Streams, redis: Any) -> None:
    word, now_ms = await streams.record(NewStream(ID, "h", "", b"{}", {"model": "m"}), new_nonce(), 1)
    assert word == "late"
    assert int(now_ms) > 1
    assert await redis.dbsize() == 0


async def test_an_attempt_s_opening_carries_its_claim_s_nonce(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)
    assert (await entries(redis))[-1].claim == one.nonce != b""


async def test_a_cancel_whose_reply_was_lost_answers_the_first_result(streams: Streams, redis: Any) -> None:
    await created(streams)
    answers = [await streams.call("cancel", ID, "nonce", b"{}", 60_000, 0) for _ in "12"]
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"cancelled ")
    assert [entry.type for entry in await entries(redis)] == ["queued", "cancelled"]


async def test_a_second_create_meets_the_first_and_another_request_is_a_conflict(streams: Streams) -> None:
    made = await create(streams)
    assert made[0] == "created"
    assert await create(streams) == ("exists", "queued", made[1].partition("-")[0])
    assert await create(streams, request_hash="other") == ("conflict",)


async def test_a_claim_opens_a_new_epoch_and_fences_the_older_writer(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)
    assert (one.outcome, one.opening, one.attempt, one.tries_left) == ("run", "started", 1, 2)
    assert json.loads(one.request) == {"q": 1}
    await say(redis, one.epoch, 1)
    await redis.delete(KEYS.lease)
    two = await claim(streams, "w2")
    assert (two.outcome, two.opening, two.attempt) == ("run", "restart", 2)
    assert two.epoch > one.epoch
    with pytest.raises(Exception, match="equal or smaller"):
        await say(redis, one.epoch, 2)
    last = (await entries(redis))[-1]
    assert (last.type, json.loads(last.data)) == ("restart", {"attempt": 2, "model": "m"})
    assert str(last.after) == f"{one.epoch}-1"


async def test_a_stream_with_a_living_lease_is_not_claimed(streams: Streams) -> None:
    await created(streams)
    assert (await claim(streams)).outcome == "run"
    assert (await claim(streams, "w2")).outcome == "leased"


async def test_a_repeated_call_answers_the_first_result(streams: Streams, redis: Any) -> None:
    await created(streams)
    nonce = new_nonce()
    one = await streams.call("claim", ID, nonce, "w1", LEASE_MS, 3)
    two = await streams.call("claim", ID, nonce, "w1", LEASE_MS, 3)
    assert one == two
    assert len(await entries(redis)) == 2
    epoch = int(one[0].split()[2])
    end = new_nonce()
    assert await finish(streams, epoch, 1, nonce=end) == await finish(streams, epoch, 1, nonce=end)
    assert len(await entries(redis)) == 3


async def test_a_claim_repeated_after_another_one_came_does_not_take_the_stream_back(
    streams: Streams, redis: Any
) -> None:
    await created(streams)
    nonce = new_nonce()
    await streams.call("claim", ID, nonce, "w1", LEASE_MS, 3)
    await redis.delete(KEYS.lease)
    assert (await claim(streams, "w2")).outcome == "run"
    answer, _ = await streams.call("claim", ID, nonce, "w1", LEASE_MS, 3)
    assert answer == b"leased"


async def test_attempts_are_bounded_and_hand_overs_are_none(streams: Streams, redis: Any) -> None:
    await created(streams)
    for attempt in (1, 2):
        one = await claim(streams, tries=2)
        assert (one.outcome, one.attempt) == ("run", attempt)
        await redis.delete(KEYS.lease)
    await redis.hset(KEYS.meta, "tries", "2")
    ended = await claim(streams, tries=2)
    assert (ended.outcome, ended.why) == ("end", "attempts_exhausted")


async def test_a_handed_over_stream_is_claimed_at_once_without_a_try(streams: Streams) -> None:
    await created(streams)
    one = await claim(streams, tries=1)
    assert await streams.release(ID, one.epoch, "handover") == ("released", "1")
    two = await claim(streams, "w2", tries=1)
    assert (two.outcome, two.opening, two.attempt, two.tries_left) == ("run", "started", 2, 0)


async def test_only_the_holder_gives_a_stream_back(streams: Streams) -> None:
    await created(streams)
    one = await claim(streams)
    assert await streams.release(ID, one.epoch - 1, "handover") == ("fenced",)


async def test_on_failure_fail_ends_a_lost_stream(streams: Streams, redis: Any) -> None:
    await created(streams, on_failure="fail")
    one = await claim(streams)
    await say(redis, one.epoch, 1)
    await redis.delete(KEYS.lease)
    assert (await claim(streams, "w2")).why == "worker_lost"


async def test_finishing_writes_the_end_and_lets_everything_expire(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)
    await say(redis, one.epoch, 1)
    step = (f"{one.epoch}-1", 0, b'{"text":"x"}\n')
    assert await finish(streams, one.epoch, 2, step=step) == f"finished {one.epoch}-2"
    record = await redis.hgetall(KEYS.meta)
    assert record[b"status"] == b"done"
    assert b"request" not in record, "the prompt goes when the stream ends"
    assert not await redis.exists(KEYS.lease)
    for key in (KEYS.meta, KEYS.log, KEYS.snapshot):
        assert 0 < await redis.pttl(key) <= 60_000
    reading = await streams.read(ID)
    assert reading is not None
    assert reading.transcript().text == "x"
    assert [entry.type for entry in reading.tail] == ["done"]


async def test_an_end_tells_the_finish_reason_that_nobody_told_yet(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)
    await say(redis, one.epoch, 1)
    told = [await finish(streams, one.epoch, 2, nonce="n", finishing=b'{"finish_reason":"stop"}') for _ in "12"]
    assert told == [f"finished {one.epoch}-3"] * 2
    last = [(str(entry.cursor), entry.type) for entry in (await entries(redis))[-2:]]
    assert last == [(f"{one.epoch}-2", "finishing"), (f"{one.epoch}-3", "done")]


async def test_a_finish_behind_a_hole_or_by_a_fenced_writer_is_refused(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)
    assert await finish(streams, one.epoch, 5) == f"behind {one.epoch}-0"
    await redis.delete(KEYS.lease)
    await claim(streams, "w2")
    assert await finish(streams, one.epoch, 1) == "fenced"


async def test_a_snapshot_grows_at_its_offset_and_is_fenced(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)

    async def keep(epoch: int, as_of: str, offset: int, chunk: bytes) -> bytes:
        return bytes(await streams.call("snapshot", ID, epoch, as_of, offset, chunk))

    assert await keep(one.epoch, "1-1", 0, b"abc") == b"ok"
    assert await keep(one.epoch, "1-2", 3, b"def") == b"ok"
    assert await keep(one.epoch, "1-2", 3, b"def") == b"ok", "a repeated growth changes nothing"
    assert await redis.get(KEYS.snapshot) == b"abcdef"
    assert await keep(one.epoch, "1-3", 9, b"x") == b"mismatch 6"
    assert await keep(one.epoch, "1-3", 0, b"anew") == b"ok"
    assert await redis.get(KEYS.snapshot) == b"anew"
    assert await keep(one.epoch - 1, "1-4", 4, b"x") == b"fenced"


async def test_a_cancel_fences_the_worker_and_stays(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)
    await say(redis, one.epoch, 1)
    answer = await cancel(streams)
    assert answer[0] == "cancelled"
    with pytest.raises(Exception, match="equal or smaller"):
        await say(redis, one.epoch, 2)
    assert await finish(streams, one.epoch, 2) == "ended cancelled"
    assert await cancel(streams) == ("ended", "cancelled")
    assert (await claim(streams)).outcome == "ended"


async def test_a_lease_is_renewed_by_its_holder_alone(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)
    assert await streams.renew("w1", [(ID, one.epoch)], LEASE_MS) == ["held"]
    assert await streams.renew("w2", [(ID, one.epoch)], LEASE_MS) == ["lost"]
    await redis.delete(KEYS.lease)
    assert await streams.renew("w1", [(ID, one.epoch)], LEASE_MS) == ["held"], "lost, but nobody else came"
    await redis.delete(KEYS.lease)
    await claim(streams, "w2")
    assert await streams.renew("w1", [(ID, one.epoch)], LEASE_MS) == ["lost"]


async def test_a_lease_of_a_claim_that_the_record_does_not_know_is_lost(streams: Streams) -> None:
    await created(streams)
    one = await claim(streams)
    assert await streams.renew("w1", [(ID, one.epoch + 5)], LEASE_MS) == ["lost"]
    await streams.erase(ID)
    assert await streams.renew("w1", [(ID, one.epoch)], LEASE_MS) == ["lost"]


async def test_epochs_rise_even_when_the_clock_stands_still(streams: Streams, redis: Any) -> None:
    await created(streams)
    future = 9_000_000_000_000
    await redis.hset(KEYS.meta, "epoch", str(future))
    await redis.execute_command("XADD", KEYS.log, f"{future}-0", "e", "restart", "d", "{}")
    assert (await claim(streams)).epoch == future + 1


async def test_a_script_makes_nothing_of_a_stream_that_does_not_exist(streams: Streams, redis: Any) -> None:
    assert (await claim(streams)).outcome == "gone"
    assert await streams.release(ID, 1, "retry") == ("gone",)
    assert await finish(streams, 1, 1) == "gone"
    assert await cancel(streams) == ("gone",)
    assert await streams.renew("w", [(ID, 1)], LEASE_MS) == ["lost"]
    await streams.charge(ID, 1, b"{}")
    assert await streams.read(ID) is None
    assert await redis.dbsize() == 0


@pytest.mark.parametrize("status", TRANSITIONS)
async def test_the_scripts_follow_the_transition_table(streams: Streams, redis: Any, status: str) -> None:
    """From each status, each step leads where the table allows, and nowhere else."""

    async def at(wanted: str) -> int:
        await redis.flushall()
        await created(streams)
        epoch = 0
        if wanted != "queued":
            epoch = (await claim(streams)).epoch
        if wanted in ("done", "failed"):
            await finish(streams, epoch, 1, wanted)
        if wanted == "cancelled":
            await cancel(streams)
        assert (await streams.fields(ID, "status"))[0] == wanted
        return epoch

    for wanted in TRANSITIONS:
        epoch = await at(status)
        if wanted == "running":
            await redis.delete(KEYS.lease)
            await claim(streams, "w2")
        elif wanted == "cancelled":
            await cancel(streams)
        elif wanted in ("done", "failed") and status != "queued":
            await finish(streams, epoch, 1, wanted)
        else:
            continue
        after = (await streams.fields(ID, "status"))[0]
        assert after == (wanted if wanted in TRANSITIONS[status] else status)  # type: ignore[index]


async def test_two_claims_at_once_have_one_winner(streams: Streams) -> None:
    await created(streams)
    claims = await asyncio.gather(*(claim(streams, f"w{n}") for n in range(10)))
    assert sorted(found.outcome for found in claims) == ["leased"] * 9 + ["run"]


async def test_a_stream_that_may_continue_is_looked_at_before_it_is_claimed(streams: Streams, redis: Any) -> None:
    await created(streams, on_failure="continue")
    one = await claim(streams)
    await say(redis, one.epoch, 1, data='{"text":"a"}')
    await redis.delete(KEYS.lease)
    look = await claim(streams, "w2")
    assert (look.outcome, look.seen) == ("look", f"{one.epoch}-1")
    assert not await redis.exists(KEYS.lease), "looking changes nothing"
    await say(redis, one.epoch, 2, data='{"text":"b"}')
    stale = await streams.claim(ID, "w2", LEASE_MS, 3, "continue", look.seen)
    assert (stale.outcome, stale.seen) == ("look", f"{one.epoch}-2")
    two = await streams.claim(ID, "w2", LEASE_MS, 3, "continue", stale.seen)
    assert (two.outcome, two.opening, two.attempt) == ("run", "continued", 2)
    opened = (await entries(redis))[-1]
    assert json.loads(opened.data) == {"after": f"{one.epoch}-2", "attempt": 2, "model": "m"}
    assert str(opened.after) == f"{one.epoch}-2"
    reading = await streams.read(ID)
    assert reading is not None
    assert reading.transcript().text == "ab", "the text counts from the first opening on"


async def test_a_look_may_lead_to_a_restart(streams: Streams, redis: Any) -> None:
    await created(streams, on_failure="continue")
    one = await claim(streams)
    await say(redis, one.epoch, 1, data='{"text":"a"}')
    await redis.delete(KEYS.lease)
    two = await streams.claim(ID, "w2", LEASE_MS, 3, "restart", f"{one.epoch}-1")
    assert two.opening == "restart"
    reading = await streams.read(ID)
    assert reading is not None
    assert reading.transcript().text == ""


async def test_the_record_tells_why_each_attempt_ended(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)
    await streams.release(ID, one.epoch, "retry", {"end:1": "upstream_cut"})
    two = await claim(streams)
    await streams.release(ID, two.epoch, "handover")
    await claim(streams)
    await redis.delete(KEYS.lease)
    four = await claim(streams, tries=9)
    assert await finish(streams, four.epoch, 1) == f"finished {four.epoch}-1"
    ended = await streams.fields(ID, *(f"end:{n}" for n in range(1, 5)))
    assert ended == ["upstream_cut", "handover", "worker_lost", "done"]


MOVED = {"request": '{"q":2}', "about": '{"model":"m2"}', "model": "m2"}


async def test_a_fallback_moves_the_stream_to_who_speaks_next_and_is_no_try(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams, tries=1)
    assert one.tries_left == 0
    assert await streams.release(ID, one.epoch, "fallback", MOVED) == ("released", "1")
    two = await claim(streams, "w2", tries=1)
    assert (two.outcome, two.opening, two.attempt, two.tries_left) == ("run", "started", 2, 0)
    assert two.request == b'{"q":2}'
    assert json.loads((await entries(redis))[-1].data) == {"attempt": 2, "model": "m2"}
    assert await redis.hget(KEYS.meta, "model") == b"m2"


async def test_a_worker_that_dies_after_a_fallback_does_not_bring_the_first_model_back(
    streams: Streams, redis: Any
) -> None:
    await created(streams)
    one = await claim(streams)
    await streams.release(ID, one.epoch, "fallback", MOVED)
    await claim(streams, "w2")
    await redis.delete(KEYS.lease)
    three = await claim(streams, "w3")
    assert (three.attempt, three.tries_left, three.request) == (3, 1, b'{"q":2}')


async def test_a_fallback_by_a_fenced_worker_moves_nothing(streams: Streams, redis: Any) -> None:
    await created(streams)
    one = await claim(streams)
    await redis.delete(KEYS.lease)
    await claim(streams, "w2")
    assert await streams.release(ID, one.epoch, "fallback", MOVED) == ("fenced",)
    assert await redis.hmget(KEYS.meta, "request", "model") == [b'{"q":1}', b"m"]


async def test_a_stream_created_to_fail_falls_back_all_the_same_while_nothing_was_said(streams: Streams) -> None:
    await created(streams, on_failure="fail")
    one = await claim(streams)
    await streams.release(ID, one.epoch, "fallback", MOVED)
    assert (await claim(streams, "w2")).outcome == "run"
