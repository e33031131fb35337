"""Jobs in arq's own form: what is written, what is read, and what is refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from arq.connections import RedisSettings
from arq.jobs import DeserializationError, deserialize_job, serialize_job
from redis.asyncio import Redis
from structlog.testing import capture_logs

from shared.redis import arq_server
from shared.store.keys import Keys
from shared.store.queue import (
    JOB_LIFE_MS,
    BadJob,
    Job,
    Lane,
    Queue,
    Shares,
    deserialize,
    job_key,
    job_payload,
    read_payload,
    serialize,
)

KEYS = Keys("t")
NOBODY = Lane()
ROOM = Shares(10, 10)


class Writes:
    """Loading it from a pickle writes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self._path, "loaded")


def written(**changed: Any) -> bytes:
    return json.dumps({"t": None, "f": "generate", "a": ["s"], "k": {}, "et": 1} | changed).encode()


def test_arq_reads_what_is_written() -> None:
    job = deserialize_job(job_payload("s"), deserializer=json.loads)
    assert (job.function, job.args, job.kwargs, job.job_try) == ("generate", ["s"], {}, None)


@pytest.mark.parametrize(("args", "kwargs"), [(("s",), {}), ((), {"stream_id": "s"})])
def test_a_job_that_arq_wrote_is_read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raw = serialize_job("generate", args, kwargs, 2, 1_700_000_000_000, serializer=serialize)
    assert read_payload(raw).stream_id == "s"
    assert deserialize(raw) == {"t": 2, "f": "generate", "a": list(args), "k": kwargs, "et": 1_700_000_000_000}


REFUSED = {
    "no JSON": (b"\xff\x00 nothing", "no job in JSON"),
    "empty": (b"", "no job in JSON"),
    "half": (written()[:-5], "no job in JSON"),
    "no job": (b'{"hello": "world"}', "no job in JSON"),
    "deep": (b'{"a":' + b"[" * 100_000, "no job in JSON"),
    "no text": (b'{"f":"\xff"}', "no job in JSON"),
    "no date": (written(et=10**16), "no job in JSON"),
    "another function": (written(f="remove"), "unknown function 'remove'"),
    "no argument": (written(a=[]), "wrong arguments"),
    "two arguments": (written(a=["s", "t"]), "wrong arguments"),
    "a number": (written(a=[5]), "wrong arguments"),
    "another argument": (written(a=[], k={"name": "s"}), "wrong arguments"),
    "one too many": (written(k={"more": 1}), "wrong arguments"),
    "pickle": (serialize_job("generate", ("s",), {}, None, 1), "pickle is never read"),
    "old pickle": (pickle.dumps({"f": "generate", "a": ("s",), "k": {}, "t": None, "et": 1}, 0), "never read"),
}


@pytest.mark.parametrize(("raw", "why"), REFUSED.values(), ids=REFUSED)
async def test_bytes_that_are_no_job_are_refused_with_one_line_and_dropped(
    redis: Redis, raw: bytes, why: str
) -> None:
    with pytest.raises(DeserializationError):
        deserialize_job(raw, deserializer=deserialize)
    queue = Queue(redis, KEYS)
    await queue.put("good", 1, NOBODY, 2)
    await redis.set(job_key("bad"), raw)
    await redis.zadd(KEYS.queue, {"bad": 1})
    with capture_logs() as lines:
        assert (await queue.take(ROOM)).jobs == [Job("good:1::", "good", 2)]
    (line,) = lines
    assert (line["event"], line["job"]) == ("job_refused", "bad")
    assert why in line["why"]
    assert await redis.keys("arq:*") == []
    assert await queue.waiting() == 0


async def test_a_pickle_is_never_loaded(redis: Redis, tmp_path: Path) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        proof = tmp_path / f"by-hand-{protocol}"
        pickle.loads(pickle.dumps(Writes(proof), protocol))
        assert proof.exists(), "the trap works"
        trap = tmp_path / f"trap-{protocol}"
        await redis.set(job_key("trap"), pickle.dumps(Writes(trap), protocol))
        await redis.zadd(KEYS.queue, {"trap": 1})
        assert (await Queue(redis, KEYS).take(ROOM)).jobs == []
        assert not trap.exists()


async def test_names_and_places_that_nobody_would_write_end_no_worker(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await redis.zadd(KEYS.queue, {b"\xff": 1, "far": "inf"})  # type: ignore[dict-item]
    await redis.set(job_key("far"), job_payload("s"))
    assert (await queue.take(ROOM)).jobs == [Job("far", "s", 1.0)]


async def test_a_job_that_expired_is_dropped_with_one_line(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    await queue.put("s", 1, NOBODY, 1)
    assert 0 < await redis.pttl(job_key("s:1::")) <= JOB_LIFE_MS
    await redis.delete(job_key("s:1::"))
    with capture_logs() as lines:
        assert (await queue.take(ROOM)).jobs == []
    assert [line["why"] for line in lines] == ["expired: it has no payload"]


async def test_a_job_put_back_can_be_taken_again_under_its_name_and_at_its_place(redis: Redis) -> None:
    queue = Queue(redis, KEYS)
    jobs = [Job("a name of arq's", "s", 7), Job("t:1::", "t", 8)]
    await queue.put_back(jobs)
    assert (await queue.take(ROOM)).jobs == jobs


def test_a_refusal_is_short_and_shows_nothing_of_a_payload() -> None:
    with pytest.raises(BadJob) as refusal:
        _ = read_payload(written(f="x" * 10_000, a=["a secret"])).stream_id
    assert len(str(refusal.value)) < 120
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("redis://h:1234/5", RedisSettings(host="h", port=1234, database=5)),
        ("redis://h", RedisSettings(host="h")),
        ("redis://me:p%40ss@h/0", RedisSettings(host="h", username="me", password="p@ss")),
        (
            "rediss://h?ssl_ca_certs=/ca.pem",
            RedisSettings(host="h", ssl=True, ssl_ca_certs="/ca.pem", ssl_check_hostname=True),
        ),
        (
            "redis+sentinel://me:pw@a:1,b/main/3",
            RedisSettings(
                host=[("a", 1), ("b", 26379)],
                sentinel=True,
                sentinel_master="main",
                database=3,
                username="me",
                password="pw",
            ),
        ),
        ("unix:///run/redis.sock?db=2", RedisSettings(unix_socket_path="/run/redis.sock", database=2)),
    ],
)
def test_a_server_s_url_is_told_to_arq(url: str, settings: RedisSettings) -> None:
    assert arq_server(url) == settings
