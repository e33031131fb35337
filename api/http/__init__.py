"""HTTP, below every route: connections, authentication, bodies, problem documents, the SSE response.

The rooms viewing, streams, routes and app use it. Nothing here reads a stream's record or log, except ``auth``,
which checks the owner. Only ``auth`` imports the context: requests get it from there.
"""
