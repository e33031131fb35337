"""HTTP to providers: connections that are opened, kept and paused, and the ways through proxies.

``transport`` sends a request over a kept connection, ``body`` reads a short answer whole, ``encodings`` unpacks
one. Nothing here knows a wire format or a stream; the rest of ``worker.providers`` stands on it.
"""
