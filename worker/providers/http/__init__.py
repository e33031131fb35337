"""HTTP to providers: connections that are opened, kept and paused, directly or through proxies.

``transport`` sends a request over a kept connection, ``body`` reads a short body whole, ``encodings`` unpacks a
body. Nothing here knows a wire format or a stream. The rest of ``worker.providers`` uses this room.
"""
