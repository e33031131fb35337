"""HTTP, below every route: connections and their bounds, who is let in, bodies, problem documents, the SSE
response.

The rooms above it use it: viewing, streams, routes, app. Nothing here knows a stream's record or its log; ``auth``
alone knows the context, for a request finds it through it.
"""
