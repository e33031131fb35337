"""Every Redis key of Headrace: name, type, writer, reader, life time.

``<p>`` is the setting ``key_prefix`` (``headrace``). Owner: the name of an API key.

**Keys of one stream.** They share the hash tag ``{id}``, so a script may use them together on a cluster. They
expire together once the stream has ended.

``<p>:{id}:log``, stream
    The events. Fields: ``e`` type; ``d`` JSON, ready to be sent; ``a``, on an entry that opens an epoch, the id
    before it; ``c``, on an entry that opens an attempt, the nonce of its claim. Written by the worker and the
    scripts, read by the API.
``<p>:{id}:meta``, hash
    The record (below). Written only by scripts.
``<p>:{id}:snapshot``, string
    Lines of JSON deltas: everything said up to ``snapshot_id``. Written by the worker through scripts, read by the
    API.
``<p>:{id}:lease``, string
    ``<worker>:<epoch>`` of the running attempt. Written by scripts, read by scripts and the sweep. Lives 3 s,
    renewed each second.
``<p>:{id}:presence``, string
    The stream has a viewer. Set by the API for viewers and heartbeats of streams with ``flow: client``, read by
    their worker. Lives for the stream's ``pause_after``.

**Keys of the queue.** These and all others below lie on the queue's server, and have no hash tag.

``<p>:unfinished``, sorted set
    Stream ids by creation (ms), which the sweep walks through. Written by the API and the workers; the sweep
    removes streams that have ended.
``<p>:queue``, sorted set
    arq's queue: job ids by their places (see :mod:`shared.store.queue`; by ms where another program enqueued them
    with arq). Written by the API, the workers and the sweep; workers wait on it, and take jobs out of it.
``<p>:lane:<provider>:<owner>``, sorted set
    The jobs of one owner for one provider, with their places in the queue. The lanes and the books are an index
    over the queue, with the same writers and readers. They expire two days after the last job.
``<p>:lanes``, sorted set
    The lanes, by the place of their first job.
``<p>:books``, hash
    ``served`` (the highest place that was taken), ``last:<owner>`` (the last place that was given),
    ``waiting:<owner>`` (how many jobs wait), ``listens`` (a worker waits for the bell).
``<p>:bell``, sorted set
    Its one member wakes a worker that may not take the waiting jobs. Added with a job if a worker listens, taken
    by workers; expires like the books.
``<p>:queue:health-check``, string
    arq's sign that a worker of this queue lives. Written by the workers every 5 s, lives 6 s, deleted by a worker
    that stops; read by ``arq --check``.
``arq:job:<job id>``, string
    The job's payload in arq's form, always JSON (see :mod:`shared.store.queue`). Written with the queue's entry,
    deleted when a worker takes the job, lives a day at most. (arq's names know no prefix.)
``arq:in-progress:<job id>`` and ``arq:retry:<job id>``, strings
    The marks of arq's own worker: set when it sees a job, deleted when it begins the job or ends it. The first
    lives as long as a job may run, the second about a day.

**Keys of the deployment.**

``<p>:sweeper``, string
    A worker has taken the turn to sweep. Lives 0.45 s.
``<p>:erasures``, sorted set
    Times (ms) at which the log server's file must be rewritten, because text was deleted
    (:mod:`shared.store.erasures`). Written by the API and the workers; the workers remove a time when it is done.
``<p>:rewriter``, string
    A worker has taken the turn to rewrite the file. Lives for ``HEADRACE_REWRITE_S``.
``<p>:workers``, sorted set
    Workers by their last sign of life (ms). The API reads it for readiness.
``<p>:secret``, string
    The secret for Idempotency-Keys and read tokens, where none is configured. Never expires.

``<p>:chat:<owner>:<hash of the chat's id>``, string
    The id of the stream that answers in a chat (:mod:`shared.store.chats`). Written and read by the API. Lives
    48 h.

**Keys of the quotas** (:mod:`shared.store.quotas`).

``<p>:limit:creations:<owner>``, string
    The time (ms) at which the owner's whole quota of creations is free again. Written and read by the API. Lives a
    minute.
``<p>:limit:streams:<owner>``, sorted set
    The owner's stream ids by creation (ms). Ended ones stay until the set is full. Written and read by the API.
    Lives 48 h.
``<p>:limit:requests:<owner>``, hash
    Unfinished stream → bytes of its request; ``sum``, all bytes that the owner stores, with those of ended streams;
    ``seen``, the time at which they were last counted again (ms). Written by the API, and by the sweep as streams
    end; read by both. Lives 48 h.
``<p>:limit:kept:<owner>``, hash
    Hour of expiry → bytes of the owner's ended streams. Written by the sweep and by an erasure, read by the API.
    Expires two hours after the last of these streams.
``<p>:limit:viewers:<id>``, hash
    API process → ``<seats> <until, ms>``. Written and read by the API. Lives 15 s.
``<p>:turn:<provider>:…``
    Turns at a provider (:mod:`shared.store.provider_limits`). Sorted sets: ``line``, waiting attempts by arrival;
    ``seen``, the time until which each counts as waiting (ms); ``running``, the time until which each counts as
    running (ms). Hash: ``used``, second → ``<requests> <tokens>``, of the last minute. String: ``arrivals``, a
    counter. Written and read only by the workers; they expire an hour after the last use.

Channels: ``<p>:wake`` (ids of streams whose logs grew, separated by spaces: a hint, never data) and
``<p>:cancelled`` (one stream id: its worker stops at once instead of at its next append).

The record's fields: ``status``, ``epoch``, ``attempt``, ``tries``, ``released``, ``claimed_epoch``, ``worker``,
``owner``, ``request`` (JSON; deleted at the end), ``request_hash``, ``about`` (JSON, in every opening), ``model``,
``provider``, ``on_failure``, ``asked`` (JSON: the fields of the request that a protocol's answers repeat) and
``input`` (JSON: the messages to the model, where the caller wants them kept), ``kept_bytes`` (the size of the two),
``pause_after_ms`` (only with ``flow: client``), ``text_from`` (the id of the opening from which the text counts),
``text_index`` (the number of entries before it in the log, trimmed ones too), ``index`` (the same for the attempt's
opening), ``snapshot_id``, ``created_ms``, ``started_ms``, ``finished_ms``, ``usage:<attempt>`` and
``cost:<attempt>`` (JSON), ``end:<attempt>`` (why the attempt ended: a status, a code, or how the stream was
released), ``result`` (JSON: the terminal event's data), and for each operation ``nonce:<operation>`` with
``answer:<operation>`` (its reply).
"""

from dataclasses import dataclass
from hashlib import sha256
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

    def chat(self, owner: str, chat: str) -> str:
        # A hash, because a caller's name may have 200 characters, which would be most of the entry.
        return f"{self.prefix}:chat:{owner}:{sha256(chat.encode()).hexdigest()[:32]}"

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
