"""A stream as its callers know it: creating, cancelling and erasing it, refusals by quotas, its record, its links
and their tokens.

The routes use this room. It imports the problems of ``http``, the schemas, and of ``viewing`` only presence, which
a create with ``flow: "client"`` begins.
"""
