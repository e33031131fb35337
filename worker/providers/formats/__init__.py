"""The wire formats: for each one, what is sent (``openai.py``) and what its events mean (``openai_stream.py``).

All of it is pure: JSON in, values out. ``reader`` is what the formats share on the way back, ``history`` on the
way out. :func:`worker.providers.adapter` finds a format by its file's name; nobody else knows one of them.
"""
