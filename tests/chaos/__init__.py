"""`make chaos`: real processes, faults from a seed, and an invariant for every viewer of every stream.

Theory of operation. Redis, two API processes and three workers run around a scripted provider whose every answer
is known in advance (and numbered, so that an answer tells which call gave it). A steady load of streams runs
through them, each with several viewers of different habits, while faults strike that a seeded generator chooses;
another generator, of the same seed, chooses the streams. Between every two parts, viewers and callers included,
stands a TCP proxy. What a viewer saw is judged by pure code (:mod:`tests.chaos.invariant`) when its stream has
ended, and once more at the end of the run, when all faults are over: nothing may have changed.

*The strong promise* (the default: one server with ``appendfsync always``). What was assembled from the events is,
byte for byte, what the record says and what the winning call of the provider sent (of a stream that failed or was
cancelled: a beginning of it). Ids rise without holes except where a ``snapshot``, ``started`` or ``restart`` said
so. There is exactly one terminal event, the same for every viewer. A stream cancelled with a 200 is cancelled;
every upstream is closed in the end; a create that was repeated because its reply was lost made one stream. All of
this holds also when *the plug is pulled*: Redis, all workers and all APIs are killed in one moment, and the
append-only file is cut back to what was synced by then (:mod:`tests.chaos.power`).

*The weak promise* (``PROMISE=weak``: ``appendfsync everysec``, then fail-overs of a cluster and of a Sentinel).
Redis may lose its last moments, alone or together with those who wrote. Then each viewer saw one answer, in order,
nothing doubled and nothing mixed, and an end; a viewer that had seen more than is left got a ``snapshot``. Three
losses are allowed, and counted: a 202 that became a 404 (the same create makes it anew, which is tried), an ended
stream that was generated again, a cancel that was forgotten. A stream whose life no such fault met is judged by
the strong promise.

A seed chooses the same faults and streams again, not the same microseconds: repeat a run to meet a rare order.
"""
