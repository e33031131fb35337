"""A stream as its callers know it: creating, cancelling and erasing it, refusals by quotas, its record, its links
and their tokens.

The routes use this room. It imports ``problems`` and ``unsent`` of ``http``, the schemas, the metrics, and of
``viewing`` only ``snapshots``, and ``presence``, which a create with ``flow: "client"`` begins.
"""
