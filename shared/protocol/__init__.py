"""The protocol between API, worker and terminal: cursors, events and their sum, SSE, statuses, fallbacks, read
tokens, and the allowed depth of JSON from outside.

Pure: no I/O, no clock, no import of another room. Every room may use it.
"""
