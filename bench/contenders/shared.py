"""(b) The article's direct proxy with one shared client, as a fairer form of (a).

The client may open as many connections as there are streams, because httpx's default limit is 100.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from pydantic import BaseModel
from sse_starlette.sse import EventSourceResponse

BASE_URL = os.environ["PROVIDER_URL"]
API_KEY = os.environ["PROVIDER_KEY"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=BASE_URL, headers=headers, timeout=60.0, limits=limits) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


class SharedChatRequest(BaseModel):
    prompt: str
    model: str = "bench"


async def stream_chat(client: httpx.AsyncClient, prompt: str, model: str) -> AsyncIterator[dict[str, str]]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True}
    async with client.stream("POST", "chat/completions", json=body) as response:
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
async def chat_stream(request: Request, asked: SharedChatRequest) -> EventSourceResponse:
    return EventSourceResponse(stream_chat(request.app.state.client, asked.prompt, asked.model))
