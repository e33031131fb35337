"""One attempt: it claims its stream, carries the provider's tokens into the log, and ends.

``lifecycle`` runs an attempt from claim to end, ``pump`` carries the tokens, ``pacing`` slows them, ``outcome`` and
``resume`` decide what happens (both are pure), ``ending`` writes how the attempt ended. This room uses the log, the
providers and the background tasks; the composition root uses it.
"""
