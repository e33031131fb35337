"""The worker carries a provider's answer into a stream's log. It never imports ``api``.

Its rooms, each of which imports only those before it: ``log`` and ``providers`` (which do not know each other),
``background``, ``attempt``, and the composition root ``main``.
"""
