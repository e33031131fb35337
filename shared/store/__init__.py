"""What Headrace keeps in Redis, and how: keys, logs, records, the queue, quotas, provider limits, presence,
erasures.

What must change together is a Lua script in ``lua/``. Which of the two promises a server can give is here too
(``durability``). Stands on ``shared.redis`` and ``shared.config``; used by API, worker and ``headrace doctor``.
"""
