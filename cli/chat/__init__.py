"""``headrace chat`` and ``headrace tail``: a caller like any other, which uses the API over HTTP.

``command`` runs them. ``api_client`` creates a stream and reads it to its end, ``answer_state`` is what is known of
the answer, ``views`` and ``blocks`` show it, ``interrupt`` handles Ctrl-C, ``pipes`` are stdin and stdout.
"""
