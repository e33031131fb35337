"""What API, worker and terminal have in common. It imports none of them.

Rooms, each of which knows only those before it: ``protocol``, ``redis``, ``config``, ``store``, ``process``.
"""
