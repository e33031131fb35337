"""What API, worker and terminal agree on: ids and cursors, events, SSE, statuses, fallbacks, read tokens, and how
deep a stranger's JSON may nest.

Pure: no I/O, no clock, nothing of the other rooms. Everything may use it.
"""
