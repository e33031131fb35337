"""The data in Redis: keys, logs, records, the queue, quotas, provider limits, presence, erasures.

Changes that belong together are one Lua script in ``lua/``. ``durability`` tells which of the two promises a server
can give. This room uses ``shared.redis`` and ``shared.config``; API, worker and ``headrace doctor`` use it.
"""
