"""``headrace chat`` and ``headrace tail``: a caller like any other, which speaks to the API over HTTP.

``command`` runs them. ``client`` creates a stream and reads it whole, ``answer`` is what is known of it, ``views``
and ``blocks`` show it, ``asking`` hears Ctrl-C, ``pipes`` are stdin and stdout.
"""
