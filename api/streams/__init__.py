"""A stream as its callers know it: how it is created, cancelled and erased, what limits refuse, its record,
its links and their tokens.

Used by the routes. Stands on HTTP's problems and on the schemas; of viewing it knows only presence, which a create
with ``flow: "client"`` begins.
"""
