"""HTTP in, SSE out. Never imports worker.

Rooms, each of which knows only those before it: ``http``, ``schemas`` and ``dialects``, ``viewing``, ``streams``,
``routes``, and the composition root ``app``.
"""
