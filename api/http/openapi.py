"""The OpenAPI document, and ``/docs``: the same for people, as one page of plain HTML.

The page has no script and loads nothing from another server, so it works offline, and its Content-Security-Policy
forbids both.
"""

from html import escape
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse

from api.http.auth import OPEN
from api.http.error_codes import ERRORS, HEAD
from api.http.problems import ProblemDocument

DOCS_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
}
BEARER: Final = {"type": "http", "scheme": "bearer", "description": "Where keys are set: the secret of one"}
TOKEN: Final = {"type": "apiKey", "in": "query", "name": "token", "description": "The read token of events_url"}


def add_docs(app: FastAPI) -> None:
    """Serve ``/docs``, and add the parts to ``/openapi.json`` that FastAPI does not know."""

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                servers=app.servers,
            )
            app.openapi_schema = _completed(made)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_page(app.openapi()), headers=DOCS_HEADERS)


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})[ProblemDocument.__name__] = ProblemDocument.model_json_schema()
    components["securitySchemes"] = {"key": BEARER, "token": TOKEN}
    document["security"] = [{"key": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in OPEN:
                operation["security"] = []
            elif path.endswith("/events"):
                operation["security"] = [{"key": []}, {"token": []}]
    return document


def _page(document: dict[str, Any]) -> str:
    calls = [
        _call(method, path, operation, document)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Headrace API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="static/favicon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="static/docs.css"></head><body><main>'
        f"<h1>{escape(document['info']['title'])} API</h1><p>{escape(document['info']['description'])}</p>"
        "<p>Where keys are set, send yours as <code>Authorization: Bearer &lt;key&gt;</code>. Errors are problem "
        'documents (RFC 9457) with a stable <code>code</code>: <a href="#errors">all of them</a>. For programs: '
        '<a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(calls)}{_errors()}</main></body></html>"
    )


def _errors() -> str:
    head = "".join(f"<th scope=col>{escape(word)}</th>" for word in HEAD)
    rows = "".join(
        f"<tr><th scope=row><code>{row.code}</code></th>"
        + "".join(f"<td>{escape(word.replace('`', ''))}</td>" for word in row[1:])
        + "</tr>"
        for row in ERRORS
    )
    return f'<section id="errors"><h2>Errors</h2><table><thead><tr>{head}</tr></thead>{rows}</table></section>'


def _call(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> str:
    rows = [
        (parameter["name"], parameter["in"], parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        rows += [
            (name, "body", _kind(schema)) for name, schema in _fields(content.get("schema", {}), document).items()
        ]
    responses = [
        (status, ", ".join(response.get("content", {})), response["description"])
        for status, response in operation["responses"].items()
    ]
    text = escape(operation.get("description", "")).replace("``", "")
    return (
        f'<section><h2><span class="method">{method.upper()}</span> <code>{escape(path)}</code></h2>'
        f"<p>{text}</p>{_table('Takes', rows)}{_table('Answers', responses)}</section>"
    )


def _fields(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    for choice in (schema, *schema.get("anyOf", [])):
        if name := choice.get("$ref", "").rpartition("/")[2]:
            found: dict[str, dict[str, Any]] = document["components"]["schemas"][name].get("properties", {})
            return found
    return {}


def _kind(schema: dict[str, Any]) -> str:
    kinds = [choice.get("type") or choice.get("$ref", "").rpartition("/")[2] for choice in schema.get("anyOf", [])]
    kind = " or ".join(kinds) or schema.get("type", "")
    if "enum" in schema:
        kind = " or ".join(map(repr, schema["enum"]))
    return f"{kind}: {schema['description']}" if "description" in schema else kind


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    lines = "".join(
        f"<tr><th scope=row>{escape(a)}</th><td>{escape(b)}</td><td>{escape(c)}</td></tr>" for a, b, c in rows
    )
    return f"<table><caption>{title}</caption>{lines}</table>"
