"""``headrace up``: a server, workers, APIs and a model as child processes of one program, on one machine.

``command`` runs it. ``plan`` defines the children, ``supervisor`` keeps them alive, ``process`` is one child.
``datadir``, ``sockets`` and ``valkey`` are what they need; ``progress`` and ``welcome`` are what is shown.
"""
