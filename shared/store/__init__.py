"""What Headrace keeps in Redis, and how: keys, logs, records, the queue, limits, turns, presence, erasures.

What must change together is a Lua script in ``lua/``. Stands on ``shared.redis``, which knows no key of it; used by
API and worker. Which of the two promises a server can give is here too (``durability``).
"""
