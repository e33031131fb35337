"""HTTP, below every route: connections and their bounds, who is let in, bodies, problem documents, the SSE
response.

The rooms above it use it: viewing, streams, routes, app. Nothing here knows a stream's record or its log; ``doors``
alone knows the services, for a request finds them through it.
"""
