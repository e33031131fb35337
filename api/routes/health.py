"""Health and readiness, which need no key, and metrics, which do."""

import asyncio
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

from api.context import Context
from api.http.auth import context
from api.http.problems import Problem, documented, redis_full
from shared.redis import AWAY, check_masters, what_to_grant

READY_TIMEOUT_S: Final = 1.5

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """This process answers. It says nothing of Redis: restarting the API would not bring that back."""
    return {"status": "ok"}


@router.get("/readyz/viewers", responses=documented(503))
async def ready_for_viewers(request: Request) -> dict[str, object]:
    """The log's and the queue's Redis answer (of a cluster: every master): streams that are there can be read.

    It says nothing of workers. A load balancer that asks this keeps an API whose workers are gone.
    """
    await _check_redis(context(request))
    return {"status": "ready"}


@router.get("/readyz/creates", responses=documented(503))
async def ready_for_creates(request: Request) -> dict[str, object]:
    """As ``/readyz``, and Redis has room for new streams: a create would be taken."""
    ready = await readyz(request)
    if context(request).memory.is_full:
        raise redis_full()
    return ready


@router.get("/readyz", responses=documented(503))
async def readyz(request: Request) -> dict[str, object]:
    """The log's and the queue's Redis answer (of a cluster: every master) and have room, and a worker is there.

    ``creates`` is ``refused`` while Redis is so full that the rest is kept for what runs: reading still works.
    """
    parts = context(request)
    workers, waiting = await _check_redis(parts)
    if parts.memory.used >= 1:
        raise redis_full()
    if not workers:
        raise Problem(
            503, "no_workers", "No worker is running: start one with headrace worker.", headers={"Retry-After": "2"}
        )
    creates = "refused" if parts.memory.is_full else "taken"
    return {"status": "ready", "workers": workers, "waiting": waiting, "creates": creates}


async def _check_redis(parts: Context) -> tuple[int, int]:
    """Whether Redis answers and lets this process work. Out: how many workers there are, and how many jobs wait.
    Raises a :class:`api.http.problems.Problem`."""
    queue = parts.queue
    if parts.rights.missing:
        raise Problem(
            503, "redis_rights_missing", what_to_grant(parts.rights.missing), headers={"Retry-After": "10"}
        )
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            for server in parts.servers:
                await check_masters(server)
            workers = await queue.workers()
            waiting = await queue.waiting()
            await parts.memory.look()
    except (*AWAY, RedisError):
        raise Problem(503, "redis_unavailable", "Redis does not answer.", headers={"Retry-After": "2"}) from None
    return workers, waiting


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **documented(401)}
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics of this process (several that share the port: of one of them)."""
    return Response(await request.app.state.metrics.render(), media_type=CONTENT_TYPE_LATEST)
