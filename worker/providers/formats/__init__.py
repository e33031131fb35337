"""The wire formats: for each one, what is sent (``openai.py``) and what its events mean (``openai_stream.py``).

All of it is pure: JSON in, values out. ``wire`` holds what the formats share, ``history`` the turns before the
question. :func:`worker.providers.adapter` finds a format by its file's name; nobody else knows one of them.
"""
