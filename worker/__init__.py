"""Provider in, log out. Never imports api.

Rooms, each of which knows only those before it: ``log`` and ``providers``, which do not know each other;
``background``, ``attempt``, and the composition root ``main``.
"""
