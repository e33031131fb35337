"""``headrace up``: a server, workers, APIs and a model as child processes of one program, on one machine.

``command`` runs it. ``plan`` says which children there are, ``supervisor`` keeps them alive, ``process`` is one of
them; ``datadir``, ``sockets`` and ``valkey`` are what they need, ``progress`` and ``welcome`` what is shown.
"""
