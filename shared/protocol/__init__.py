"""What API, worker and terminal agree on: cursors, events and what they add up to, SSE, statuses, fallbacks, read
tokens, and how deep a stranger's JSON may nest.

Pure: no I/O, no clock, nothing of the other rooms. Everything may use it.
"""
