"""(a) The article's direct proxy, as the article has it: no log, and the request that asks also streams the answer.

It has a client for each request, ``aiter_lines``, ``json.loads``, and a dict for each event.
"""

import json
import os
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI
from pydantic import BaseModel
from sse_starlette.sse import EventSourceResponse

BASE_URL = os.environ["PROVIDER_URL"]
API_KEY = os.environ["PROVIDER_KEY"]

app = FastAPI()


class ChatRequest(BaseModel):
    prompt: str
    model: str = "bench"


async def stream_chat(prompt: str, model: str) -> AsyncIterator[dict[str, str]]:
    async with (
        httpx.AsyncClient(timeout=60.0) as client,
        client.stream(
            "POST",
            f"{BASE_URL}/chat/completions",
            headers={"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"},
            json={"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True},
        ) as response,
    ):
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            data = line[6:]
            if data == "[DONE]":
                break
            chunk = json.loads(data)
            choices = chunk.get("choices", [])
            if choices and (content := choices[0].get("delta", {}).get("content")):
                yield {"event": "message", "data": content}
    yield {"event": "done", "data": ""}


@app.post("/chat/stream")
async def chat_stream(request: ChatRequest) -> EventSourceResponse:
    return EventSourceResponse(stream_chat(request.prompt, request.model))
