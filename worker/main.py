"""The worker's composition root: reads the environment, opens the connections, and runs until SIGTERM."""

import asyncio
import secrets
import socket
import sys
from typing import Any

import structlog
import uvloop
from arq.worker import func

from shared.cluster import connect_to_logs
from shared.collector import calm_collector
from shared.connections import open_client
from shared.durability import log_durability
from shared.keys import Keys
from shared.logs import configure_logs
from shared.presence import PresenceKeys
from shared.queue import JOB, Queue
from shared.scripts import load_scripts
from shared.settings import BadSettings, Configuration, environment, load
from shared.streams import Streams
from shared.turns import Turns
from shared.vital import start_vital
from worker.cancellations import listen
from worker.carried import FENCED
from worker.endings import Endings
from worker.generation import Generations
from worker.intake import Intake
from worker.leases import Leases
from worker.line import Line
from worker.link import Link
from worker.log_writer import LogWriter
from worker.providers.client import ProviderClient
from worker.reconcile import Reconciler
from worker.sweep import Sweep
from worker.upkeep import Upkeep
from worker.waking import WakingWorker, WiredArq
from worker.watchers import Watchers

log = structlog.get_logger("worker")


def build(configuration: Configuration, name: str) -> WakingWorker:
    """Wire one worker together; nothing is connected before it runs."""
    settings = configuration.settings
    keys = Keys(settings.key_prefix)
    scripts = load_scripts()
    log_client = open_client(settings.redis_url)
    queue_client = open_client(settings.queue_redis_url) if settings.queue_url else log_client
    streams = Streams(log_client, keys, scripts, tries=8)
    queue = Queue(queue_client, keys)

    async def hint(names: bytes) -> None:
        await queue_client.publish(keys.wake_channel, names)

    link = Link(lambda: connect_to_logs(settings.redis_url), scripts.values())
    writer = LogWriter(
        link,
        Reconciler(keys, scripts["reclaim"], name, settings.lease_ms, settings.log_cap),
        scripts,
        settings.flush_ms / 1000,
        hint if settings.queue_url else None,
    )
    client = ProviderClient(settings)
    leases = Leases(streams, name, settings.lease_ms, writer.held, writer.doubt)
    sweep = Sweep(streams, queue, leases, settings.lease_ms)
    watchers = Watchers(PresenceKeys(log_client, keys))
    upkeep = Upkeep(name, queue, leases, sweep, writer, watchers)
    endings = Endings(settings, streams, queue, writer)
    line = Line(Turns(queue_client, keys))
    intake = Intake(client, writer, line, watchers, configuration.prices)
    generations = Generations(
        settings, configuration.providers, intake, streams, queue, writer, endings, link.trouble.calm_ms, name
    )

    def cancelled(stream_id: str) -> None:
        for carried in writer.held():
            if carried.stream_id == stream_id:
                carried.stop(FENCED)

    async def generate(ctx: dict[str, Any], stream_id: str) -> None:
        await generations.generate(stream_id, ctx["job_id"], ctx["score"])

    background: list[asyncio.Task[None]] = []

    async def start(ctx: dict[str, Any]) -> None:
        for work, about in (
            (writer.run(), "log"),
            (upkeep.run(), "upkeep"),
            (listen(queue_client, keys.cancelled_channel, cancelled), "cancellations"),
            (line.run(), "line"),
        ):
            background.append(start_vital(work, about))
        background.append(asyncio.create_task(log_durability(settings.redis_url)))
        log.info("worker_started", worker=name, max_streams=settings.max_streams)

    async def stop(ctx: dict[str, Any]) -> None:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        client.close()
        await upkeep.sign_off()
        await queue_client.aclose()
        await log_client.aclose()
        log.info("worker_stopped", worker=name)

    return WakingWorker(
        [func(generate, name=JOB)],
        redis_pool=WiredArq(
            open_client(settings.queue_redis_url).connection_pool,
            default_queue_name=keys.queue,
        ),
        queue_name=keys.queue,
        queue=queue,
        waiting_client=open_client(settings.queue_redis_url),
        on_startup=start,
        on_shutdown=stop,
        max_jobs=settings.max_streams,
        job_completion_wait=int(settings.drain_s),
        log_results=False,
    )


def main() -> None:
    """Run one worker process until SIGTERM or SIGINT."""
    try:
        configuration = load(environment())
    except BadSettings as error:
        sys.exit(str(error))
    settings = configuration.settings
    configure_logs(settings.log_level, settings.log_format)
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    asyncio.set_event_loop(uvloop.new_event_loop())
    worker = build(configuration, name)
    calm_collector()
    worker.run()
