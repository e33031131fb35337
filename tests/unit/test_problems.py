"""Errors that nobody foresaw."""

import httpx
from fastapi import FastAPI

from api.http.problems import handlers
from api.metrics import ApiMetrics


async def test_a_stack_trace_reaches_no_client() -> None:
    app = FastAPI()
    app.state.metrics = ApiMetrics()
    app.exception_handlers.update(handlers())

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the password is 1234")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal_error"
    assert "1234" not in answer.text
    assert "Traceback" not in answer.text
