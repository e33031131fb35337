"""All routes that are no static file and no health check: none is open without a key."""

from typing import Final

ROUTES: Final = (
    ("GET", "/chat/stream"),
    ("POST", "/chat/stream"),
    ("POST", "/stream/aware"),
    ("POST", "/stream/heartbeat"),
    ("POST", "/v1/streams"),
    ("GET", "/v1/streams/{id}"),
    ("GET", "/v1/streams/{id}/events"),
    ("POST", "/v1/streams/{id}/token"),
    ("POST", "/v1/streams/{id}/cancel"),
    ("POST", "/v1/streams/{id}/heartbeat"),
    ("DELETE", "/v1/streams/{id}"),
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/{id}"),
    ("GET", "/v1/responses/{id}/input_items"),
    ("POST", "/v1/responses/{id}/cancel"),
    ("DELETE", "/v1/responses/{id}"),
    ("POST", "/api/chat"),
    ("GET", "/api/chat/a-chat/stream"),
    ("POST", "/api/chat/a-chat/stop"),
    ("POST", "/ag-ui"),
    ("GET", "/ag-ui"),
    ("GET", "/ag-ui/{id}"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing/here"),
    ("GET", "/v1"),
)
ONE_STREAM: Final = tuple((method, path) for method, path in ROUTES if "{id}" in path)
