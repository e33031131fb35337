"""HTTP in, SSE out. Never imports worker.

Rooms; each imports only the ones before it: ``http``, ``schemas`` and ``dialects``, ``viewing``, ``streams``,
``routes``, and the composition root ``app``.
"""
