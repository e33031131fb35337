"""``headrace chat`` and ``headrace tail``: a caller like any other, which speaks to the API over HTTP.

``command`` runs them. ``api_client`` creates a stream and reads it whole, ``answer_state`` is what is known of it,
``views`` and ``blocks`` show it, ``interrupt`` hears Ctrl-C, ``pipes`` are stdin and stdout.
"""
