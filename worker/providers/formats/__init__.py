"""The wire formats: for each one, what is sent (``openai.py``) and the meaning of what comes back
(``openai_stream.py``).

All of it is pure: JSON in, values out. ``reader`` has what the formats share for answers, ``history`` what they
share for requests. :func:`worker.providers.adapter` finds a format by its file's name; nothing else names a format.
"""
