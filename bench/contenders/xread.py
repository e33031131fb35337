"""(d) Headrace's log, read by one blocking XREAD per viewer: the design that most people would write.

Streams are created as Headrace creates them and written by Headrace's worker; only the reading is simple. Each
viewer has a connection from redis-py's pool, because a blocking read keeps it busy.
"""

import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis
from fastapi import FastAPI, Header, Request
from pydantic import BaseModel
from sse_starlette.sse import EventSourceResponse

from shared.protocol.cursor import new_stream_id
from shared.redis import load_scripts
from shared.store.keys import Keys
from shared.store.new_stream import NewStream, new_nonce
from shared.store.queue import Queue
from shared.store.streams import Streams

REDIS_URL = os.environ["HEADRACE_REDIS_URL"]
MODEL = "local/smollm2"
BLOCK_MS = 15_000
WAIT_MS = 10_000
KEYS = Keys("headrace")
ENDS = {"done", "failed", "cancelled"}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with redis.Redis.from_url(REDIS_URL, max_connections=10_000) as client:
        app.state.client = client
        app.state.streams = Streams(client, KEYS, load_scripts())
        app.state.queue = Queue(client, KEYS)
        yield


app = FastAPI(lifespan=lifespan)


class AskedXread(BaseModel):
    prompt: str


@app.post("/streams", status_code=202)
async def create(request: Request, asked: AskedXread) -> dict[str, str]:
    streams, queue = request.app.state.streams, request.app.state.queue
    messages = [{"role": "user", "content": asked.prompt}]
    body = json.dumps({"provider": "local", "model": "smollm2", "messages": messages})
    about = json.dumps({"model": MODEL, "provider": "local"}).encode()
    fields = {"request": body, "about": about, "model": MODEL, "provider": "local", "on_failure": "continue"}
    stream_id = new_stream_id()
    new = NewStream(stream_id, hashlib.sha256(body.encode()).hexdigest(), "", about, fields)
    await streams.record(new, new_nonce(), int(time.time() * 1000) + WAIT_MS)
    await queue.put(stream_id, 1, new.lane)
    return {"id": stream_id, "events_url": f"/streams/{stream_id}/events"}


async def read(client: redis.Redis, stream_id: str, last_id: str) -> AsyncIterator[dict[str, str]]:
    key = KEYS.log(stream_id)
    while True:
        found = await client.xread({key: last_id}, block=BLOCK_MS, count=100)
        for _, entries in found or ():
            for entry_id, fields in entries:
                last_id = entry_id.decode()
                kind = fields[b"e"].decode()
                yield {"id": last_id, "event": kind, "data": fields[b"d"].decode()}
                if kind in ENDS:
                    return


@app.get("/streams/{stream_id}/events")
async def events(
    request: Request, stream_id: str, last_event_id: str | None = Header(default=None)
) -> EventSourceResponse:
    return EventSourceResponse(read(request.app.state.client, stream_id, last_event_id or "0"))
