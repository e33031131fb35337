"""Writing logs: everything that a worker's attempts have to write, in one round trip a flush.

An :class:`~worker.log.attempt_log.AttemptLog` is the writing side of one attempt. The
:class:`~worker.log.writer.LogWriter` owns the connection and writes all of them. Inside: which attempts a flush
takes (``flush_policy``), a flush as commands (``flush``), and how a new connection or a refused append is handled
(``recovery``). Used by the worker's attempts and its background tasks.
"""
