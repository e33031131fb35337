"""Viewing: from a log to a viewer's socket. The hub reads all logs that have a viewer in this process; a followed
log holds what was read in a shared buffer of ready bytes; a viewer is a cursor into it.

Used by the routes and by ``streams``. Knows dialects; only ``subscribe`` knows requests.
"""
