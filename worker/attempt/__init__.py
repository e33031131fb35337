"""One attempt: it claims its stream, carries the provider's tokens into the log, and ends.

``generation`` is its life, ``pump`` carries, ``pace`` holds back, ``course`` and ``continuation`` decide (both are
pure), ``endings`` writes how it ended. Stands on the log, the providers and the background; used by the composition
root.
"""
