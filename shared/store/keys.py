"""Every Redis key of Headrace: name, type, writer, reader, life time.

``<p>`` is the prefix of the settings (``headrace``).

**Of one stream.** They share the hash tag ``{id}``, so a script may touch them together on a cluster. They expire
together once the stream has ended.

``<p>:{id}:log``, stream
    The events. Fields: ``e`` type; ``d`` JSON ready to be sent; ``a``, on what opens an epoch, the id before it;
    ``c``, on what opens an attempt, the nonce of its claim. Written by the worker and the scripts, read by the API.
``<p>:{id}:meta``, hash
    The record (below). Written by scripts alone.
``<p>:{id}:snapshot``, string
    Lines of JSON deltas: all that was said up to ``snapshot_id``. Written by the worker through scripts, read by
    the API.
``<p>:{id}:lease``, string
    ``<worker>:<epoch>`` of the attempt that runs. Written by scripts, read by scripts and the sweep. Lives 3 s,
    renewed each second.
``<p>:{id}:presence``, string
    Somebody watches. Set by the API for viewers and heartbeats of streams with ``flow: client``, read by their
    worker. Lives for the stream's ``pause_after``.

**Of the queue.** These and all others below stand on the queue's server, so they carry no hash tag.

``<p>:unfinished``, sorted set
    Stream ids by creation (ms): what the sweep walks. Written by the API and the workers; the sweep takes out what
    has ended.
``<p>:queue``, sorted set
    arq's queue of job ids, by their places in line (see :mod:`shared.store.queue`; by ms where another program
    enqueued them with arq). Written by the API, the workers and the sweep; workers wait on it, and take jobs out of
    it.
``<p>:lane:<provider>:<owner>``, sorted set
    The jobs of one key for one provider, as they stand in the queue. The lanes and the books are an index over the
    queue, written and read by the same; two days after the last job they are gone.
``<p>:lanes``, sorted set
    The lanes, by the place of their first job.
``<p>:books``, hash
    ``served`` (the highest place that was taken), ``last:<owner>`` (the last place that was given),
    ``waiting:<owner>`` (how many jobs wait), ``listens`` (a worker waits for the bell).
``<p>:bell``, sorted set
    Its one member wakes a worker that passes over what waits. Rung by whoever enqueues a job, taken by workers;
    lives as the books.
``<p>:queue:health-check``, string
    arq's sign that a worker of this queue lives. Written by the workers every 5 s, lives 6 s, deleted by a worker
    that stops; read by ``arq --check``.
``arq:job:<job id>``, string
    The job's payload in arq's form, always JSON (see :mod:`shared.store.queue`). Written with the queue's entry,
    deleted when a worker takes the job, lives a day at most. (arq's names know no prefix.)
``arq:in-progress:<job id>`` and ``arq:retry:<job id>``, strings
    The marks of arq's own worker, from when it sees a job until it begins it or ends it; they live as long as a job
    may run, and a day.

**Of the deployment.**

``<p>:sweeper``, string
    Whose turn it is to sweep. Lives 0.45 s.
``<p>:erasures``, sorted set
    When the log server's file must be rewritten (ms), because text was deleted (:mod:`shared.store.erasures`).
    Written by the API and the workers; the workers take out what was done.
``<p>:rewriter``, string
    A worker has taken that turn. Lives for ``HEADRACE_REWRITE_S``.
``<p>:workers``, sorted set
    Workers by their last sign of life (ms). The API reads it for readiness.
``<p>:secret``, string
    Behind Idempotency-Key and read tokens, where none is configured. Lives for ever.

**Of the limits** (:mod:`shared.store.quotas`).

``<p>:limit:creations:<owner>``, string
    When all that this API key took of its creations per minute is given back (ms). Written and read by the API.
    Lives a minute.
``<p>:limit:streams:<owner>``, sorted set
    The key's stream ids by creation (ms), ended ones among them until somebody looks. Written and read by the API.
    Lives 48 h.
``<p>:limit:requests:<owner>``, hash
    Unfinished stream to the bytes of its request; ``sum``, the bytes that the key stores in all, its kept ones too;
    ``seen``, when that was last counted anew (ms). Written by the API, and by the sweep as streams end; read by
    both. Lives 48 h.
``<p>:limit:kept:<owner>``, hash
    The bytes that are kept of the key's ended streams, by the hour in which they expire. Written by the sweep and
    by an erasure, read by the API. Lives as the last of them, and two hours.
``<p>:limit:viewers:<id>``, hash
    API process to ``<seats> <until, ms>``. Written and read by the API. Lives 15 s.
``<p>:turn:<provider>:…``
    Turns at a provider (:mod:`shared.store.provider_limits`). Sorted sets: ``line``, who waits, by arrival;
    ``seen``, until when (ms) each counts as waiting; ``running``, until when (ms) each counts as running. Hash:
    ``used``, second to ``<requests> <tokens>`` of the last minute. String: ``arrivals``, how many came. Written and
    read by the workers alone; an hour after the last of it they are gone.

Channels: ``<p>:wake`` (stream ids whose logs grew, space-separated: a hint, never data) and
``<p>:cancelled`` (one stream id: its worker stops at once instead of at its next append).

The record's fields: ``status``, ``epoch``, ``attempt``, ``tries``, ``released``, ``claimed_epoch``, ``worker``,
``owner``, ``request`` (JSON; goes at the end), ``request_hash``, ``about`` (JSON, in every opening), ``model``,
``provider``, ``on_failure``, ``asked`` (JSON: what a protocol's answers tell again of its request) with
``kept_bytes`` (how long that is), ``pause_after_ms`` (with ``flow: client`` alone), ``text_from`` (the id of the
opening from which the text counts), ``text_index`` (how many entries stood in front of it in the log), ``index``
(the same of the attempt's opening), ``snapshot_id``, ``created_ms``, ``started_ms``, ``finished_ms``,
``usage:<attempt>`` and ``cost:<attempt>`` (JSON), ``end:<attempt>`` (why it ended: a status, a code, or how it was
given back), ``result`` (JSON: the terminal event's data), and for each operation ``nonce:<operation>`` with
``answer:<operation>``.
"""

from dataclasses import dataclass
from typing import NamedTuple


class StreamKeys(NamedTuple):
    """The five keys of one stream, in the order in which every script takes them."""

    meta: str
    log: str
    snapshot: str
    lease: str
    presence: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names below one prefix."""

    prefix: str

    def stream(self, stream_id: str) -> StreamKeys:
        head = f"{self.prefix}:{{{stream_id}}}"
        return StreamKeys(f"{head}:meta", f"{head}:log", f"{head}:snapshot", f"{head}:lease", f"{head}:presence")

    def log(self, stream_id: str) -> str:
        return f"{self.prefix}:{{{stream_id}}}:log"

    @property
    def unfinished(self) -> str:
        return f"{self.prefix}:unfinished"

    @property
    def queue(self) -> str:
        return f"{self.prefix}:queue"

    @property
    def lanes(self) -> str:
        return f"{self.prefix}:lanes"

    @property
    def books(self) -> str:
        return f"{self.prefix}:books"

    @property
    def bell(self) -> str:
        return f"{self.prefix}:bell"

    def lane(self, lane: str) -> str:
        return f"{self.prefix}:lane:{lane}"

    @property
    def sweeper(self) -> str:
        return f"{self.prefix}:sweeper"

    @property
    def erasures(self) -> str:
        return f"{self.prefix}:erasures"

    @property
    def rewriter(self) -> str:
        return f"{self.prefix}:rewriter"

    @property
    def workers(self) -> str:
        return f"{self.prefix}:workers"

    @property
    def secret(self) -> str:
        return f"{self.prefix}:secret"

    def creations(self, owner: str) -> str:
        return f"{self.prefix}:limit:creations:{owner}"

    def streams_of(self, owner: str) -> str:
        return f"{self.prefix}:limit:streams:{owner}"

    def requests_of(self, owner: str) -> str:
        return f"{self.prefix}:limit:requests:{owner}"

    def kept_of(self, owner: str) -> str:
        return f"{self.prefix}:limit:kept:{owner}"

    def seats(self, stream_id: str) -> str:
        return f"{self.prefix}:limit:viewers:{stream_id}"

    def turns(self, provider: str) -> tuple[str, str, str, str, str]:
        head = f"{self.prefix}:turn:{provider}"
        return f"{head}:line", f"{head}:seen", f"{head}:running", f"{head}:used", f"{head}:arrivals"

    @property
    def wake_channel(self) -> str:
        return f"{self.prefix}:wake"

    @property
    def cancelled_channel(self) -> str:
        return f"{self.prefix}:cancelled"
