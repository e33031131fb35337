"""OpenAI's Responses, read by hand."""

import json
from typing import Any

import httpx

from shared.protocol.sse import SseParser

MODEL = "local/scripted"


async def ask(client: httpx.AsyncClient, script: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """The events of a response to this script."""
    body = {"model": MODEL, "input": json.dumps(script), "stream": True, **more}
    answer = await client.post("/v1/responses", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return events_of(answer.content)


def events_of(raw: bytes) -> list[dict[str, Any]]:
    """The data of these events."""
    return [json.loads(event.data) for event in SseParser(max_bytes=64 * 1024 * 1024).feed(raw) if event.data]


async def read_response(client: httpx.AsyncClient, response_id: str) -> dict[str, Any]:
    """The response as it is now."""
    answer = await client.get(f"/v1/responses/{response_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
