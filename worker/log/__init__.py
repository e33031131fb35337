"""Writing logs: what a worker's attempts have to say, in one round trip a flush.

An :class:`~worker.log.attempt_log.AttemptLog` is the writing side of one attempt; the
:class:`~worker.log.writer.LogWriter` owns the connection and writes all of them. Inside: which attempts a flush
takes (``flush_policy``), a flush as commands (``flush``), and what a new connection or a refused append leads to
(``recovery``). Used by the worker's attempts and its background tasks.
"""
