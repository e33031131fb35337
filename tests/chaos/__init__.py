"""`make chaos`: real processes, faults from a seed, and one invariant for every viewer of every stream.

Theory of operation. One server with an append-only file, two API processes and three workers run around a
scripted provider whose every answer is known in advance (and numbered, so that an answer tells which call gave
it). A steady load of streams runs through them, each with several viewers of different habits, while faults
strike that a seeded generator chooses; another generator, of the same seed, chooses the streams. Between every
two parts, viewers and callers included, stands a TCP proxy. What a viewer saw is judged by pure code
(:mod:`tests.chaos.invariant`) when its stream has ended, and once more at the end of the run, when all faults are
over: nothing may have changed.

*The invariant.* What was assembled from the events is, byte for byte, what the record says and what the winning
call of the provider sent (of a stream that failed or was cancelled: a beginning of it). Ids rise without holes
except where a ``snapshot``, ``started`` or ``restart`` said so. There is exactly one terminal event, the same
for every viewer. A stream cancelled with a 200 is cancelled; every upstream is closed in the end; a create that was
repeated because its reply was lost made one stream.

*What is left out.* Redis and the process that wrote lost together within the same two seconds may lose what both
forgot, and Headrace promises nothing else. So a fault that may take log entries away (``LOSS``) and one that
takes away or stops a process that remembers them (``WRITER``) are never closer than ``APART_S``. Losses alone may
follow each other at once. A stream whose creation fell into the lost seconds is no exception: whoever got a 202
gets a stream.

A seed chooses the same faults and streams again, not the same microseconds: repeat a run to meet a rare order.
"""
