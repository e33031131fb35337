"""One attempt: it claims its stream, carries the provider's tokens into the log, and ends.

``lifecycle`` runs it from claim to end, ``pump`` carries, ``pacing`` holds back, ``outcome`` and ``resume`` decide
(both are pure), ``ending`` writes how it ended. Stands on the log, the providers and the background; used by the
composition root.
"""
