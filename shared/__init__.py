"""The code that API, worker and terminal share. It imports none of them.

Rooms; each imports only the ones before it: ``protocol``, ``redis``, ``config``, ``store``, ``process``.
"""
