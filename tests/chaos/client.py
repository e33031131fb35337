"""What a chaos run asks of the API: create, cancel, look up; repeated on any process until one answers."""

import asyncio
from typing import Any

import httpx

from tests.chaos.world import World

AGAIN_S = 0.2
ANSWER_S = 3.0
"""Less than a network swallows, so that what was done, and its reply lost, is asked for again."""
MOST_S = 60.0
"""Nothing that a fault does lasts this long."""
PASSING = (429, 503)
"""What says: come back later."""


class Client:
    """Asks the API processes in turn. Each call takes ``MOST_S`` at most (``TimeoutError``)."""

    def __init__(self, world: World, http: httpx.AsyncClient) -> None:
        self._world = world
        self._http = http
        self._turn = 0
        self.refusals = 0

    async def create(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create a stream: one stream, however often it is repeated. Raises ``AssertionError`` for a refusal."""
        answer = await self._ask("POST", "/v1/streams", json=body, headers={"Idempotency-Key": name})
        assert answer.status_code == 202, f"create: {answer.status_code} {answer.text}"
        return dict(answer.json())

    async def cancel(self, stream_id: str) -> str:
        """Cancel. Out: the status that the answer tells ('' where the stream is gone)."""
        answer = await self._ask("POST", f"/v1/streams/{stream_id}/cancel")
        assert answer.status_code in (200, 404), f"cancel: {answer.status_code} {answer.text}"
        return str(answer.json().get("status", "")) if answer.status_code == 200 else ""

    async def record(self, stream_id: str) -> dict[str, Any] | None:
        """The record, once the stream has ended; None where it is gone."""
        async with asyncio.timeout(MOST_S):
            while True:
                answer = await self._ask("GET", f"/v1/streams/{stream_id}")
                if answer.status_code == 404:
                    return None
                assert answer.status_code == 200, f"record: {answer.status_code} {answer.text}"
                record: dict[str, Any] = answer.json()
                if record["status"] in ("done", "failed", "cancelled"):
                    return record
                await asyncio.sleep(AGAIN_S)

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async with asyncio.timeout(MOST_S):
            while True:
                self._turn += 1
                urls = self._world.urls
                try:
                    answer = await self._http.request(
                        method, urls[self._turn % len(urls)] + path, timeout=ANSWER_S, **more
                    )
                except httpx.TransportError:
                    pass
                else:
                    if answer.status_code not in PASSING:
                        return answer
                    self.refusals += 1
                await asyncio.sleep(AGAIN_S)
