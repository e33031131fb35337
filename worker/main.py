"""The worker's composition root: reads the environment, opens the connections, and runs until SIGTERM.

There are two ways to start a worker. ``python -m worker`` runs :class:`worker.job_consumer.JobConsumer`, which
waits for its jobs. ``arq worker.main.WorkerSettings`` runs arq's own worker, which polls. Both have the same
functions, hooks and settings (:func:`worker_settings`). ``arq worker.main.WorkerSettings --check`` tells whether a
worker of either kind is running.
"""

import asyncio
import logging
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog
import uvloop
from arq.worker import func
from prometheus_client import CollectorRegistry

from shared.config.settings import BadSettings, Configuration, environment, load
from shared.process.critical_tasks import start_critical
from shared.process.files import raise_file_limit
from shared.process.gc_tuning import calm_collector
from shared.process.logging import LogOutput, configure_logs
from shared.process.metrics import Read, common, gauge, rendered, served
from shared.process.rights_watch import RightsWatch
from shared.redis import arq_server, connect_to_logs, errors_of, listen, load_scripts, open_client, read_url
from shared.store.durability import log_durability
from shared.store.erasures import Erasures
from shared.store.keys import Keys
from shared.store.presence import PresenceKeys
from shared.store.provider_limits import ProviderLimits
from shared.store.queue import JOB, Job, Queue, deserialize, serialize
from shared.store.quotas import Quotas
from shared.store.streams import Streams
from worker.attempt.ending import AttemptEnding
from worker.attempt.lifecycle import AttemptRunner
from worker.attempt.pump import Pump
from worker.background.leases import Leases
from worker.background.presence_watch import PresenceWatch
from worker.background.provider_limiter import ProviderLimiter
from worker.background.sweep import Sweep
from worker.background.ticker import Ticker
from worker.job_consumer import JobConsumer, MultiplexedArq
from worker.log.attempt_log import FENCED
from worker.log.writer import LogWriter
from worker.metrics import WorkerMetrics
from worker.places import Places
from worker.providers.client import ProviderClient

HEALTH_S: Final = 5
"""How often a worker writes arq's health-check key, which all workers of a queue share. A worker that stops deletes
the key, and ``--check`` fails until another worker writes it again. When the last worker dies, the key expires one
second after the next write would have been due."""
TRIES: Final = 1000
"""arq's own count of tries must never end a job: the claim counts attempts."""
MARGIN_S: Final = 60
"""Added to a job's time limit for the pauses between its attempts."""

log = structlog.get_logger("worker")


def __getattr__(name: str) -> dict[str, Any]:
    """``WorkerSettings`` for arq's command line, made from the environment when arq reads the attribute."""
    if name != "WorkerSettings":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    configuration, output = configured()
    # arq's command line prints arq's log lines itself, so they must not be printed twice.
    logging.getLogger("arq").propagate = False
    return worker_settings(configuration, output)


def worker_settings(configuration: Configuration, output: LogOutput) -> dict[str, Any]:
    """The arguments of arq's worker. Nothing is connected before it runs."""
    settings = configuration.settings
    return {
        "functions": [func(generate, name=JOB)],
        "queue_name": Keys(settings.key_prefix).queue,
        "redis_settings": arq_server(settings.queue_redis_url),
        "job_serializer": serialize,
        "job_deserializer": deserialize,
        "ctx": {
            "configuration": configuration,
            "output": output,
            "parts": AsyncExitStack(),
            "places": shared_places(configuration),
        },
        "on_startup": start,
        "on_job_start": take_out,
        "on_shutdown": stop,
        "max_jobs": settings.max_streams,
        # At this limit arq cancels the job, which hands its stream over.
        "job_timeout": settings.max_attempts * settings.max_stream_s + MARGIN_S,
        "job_completion_wait": int(settings.drain_s),
        "max_tries": TRIES,
        "keep_result": 0,
        "health_check_interval": HEALTH_S,
        "log_results": False,
    }


def shared_places(configuration: Configuration) -> Places:
    """The places of this process. A single key, or a single provider, shares them with nobody. (A worker that is
    not told the keys shares between the owners of its streams.)"""
    settings = configuration.settings
    usable = [provider for provider in configuration.providers.values() if provider.missing is None]
    return Places(
        settings.max_streams,
        keys=len(settings.keys.names) != 1,
        providers=len(usable) > 1,
        most_of_key=settings.running_per_key,
    )


async def generate(ctx: dict[str, Any], stream_id: str) -> None:
    """The function that jobs name: run this stream to its end, unless another worker already runs it."""
    runner: AttemptRunner = ctx["runner"]
    await runner.generate(Job(ctx["job_id"], stream_id, ctx["score"]))


async def take_out(ctx: dict[str, Any]) -> None:
    """Take a job that starts out of the queue. (arq itself leaves it there until it has ended.)"""
    queue: Queue = ctx["queue"]
    await queue.take_out(ctx["job_id"])


async def start(ctx: dict[str, Any]) -> None:
    """Build the worker's parts, wait until its Redis user has all the rights that it needs, and start the
    background tasks. Ends the process if the settings name certificates that can't be read."""
    try:
        ctx["queue"], ctx["runner"] = await ctx["parts"].enter_async_context(
            running(ctx["configuration"], ctx["output"], ctx["places"])
        )
    except BadSettings as error:
        sys.exit(str(error))
    calm_collector()


async def stop(ctx: dict[str, Any]) -> None:
    """Stop everything that :func:`start` started."""
    await ctx["parts"].aclose()


@asynccontextmanager
async def running(
    configuration: Configuration, output: LogOutput, places: Places
) -> AsyncIterator[tuple[Queue, AttemptRunner]]:
    """The running parts of one worker. Out: what its jobs need. ``output``: where its log goes."""
    settings = configuration.settings
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    keys = Keys(settings.key_prefix)
    scripts = load_scripts()
    log_client = open_client(settings.redis_url)
    queue_client = open_client(settings.queue_redis_url) if settings.queue_url else log_client
    streams = Streams(log_client, keys, scripts, tries=8)
    queue = Queue(queue_client, keys)
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)

    async def publish(names: bytes) -> None:
        await queue_client.publish(keys.wake_channel, names)

    writer = LogWriter(
        lambda: connect_to_logs(settings.redis_url),
        keys,
        scripts,
        settings.log_cap,
        settings.flush_ms / 1000,
        publish if settings.queue_url else None,
        metrics,
    )
    provider_client = ProviderClient(settings, configuration.network, metrics=metrics)
    leases = Leases(streams, name, settings.lease_ms, writer.running)
    quotas = Quotas(queue_client, keys)
    sweep = Sweep(
        streams,
        queue,
        quotas,
        leases,
        lease_ms=settings.lease_ms,
        retention_ms=int(settings.retention_s * 1000),
        may_differ=bool(settings.queue_url) or read_url(settings.redis_url).kind == "sentinel",
        metrics=metrics,
    )
    presence_watch = PresenceWatch(PresenceKeys(log_client, keys))
    erasures = Erasures(settings, queue_client, keys)
    ticker = Ticker(name, queue, leases, sweep, writer, presence_watch, erasures)
    ending = AttemptEnding(settings, streams, queue, writer, erasures, metrics)
    provider_limiter = ProviderLimiter(ProviderLimits(queue_client, keys))
    pump = Pump(provider_client, writer, provider_limiter, presence_watch, configuration.prices, places)
    runner = AttemptRunner(settings, configuration.providers, pump, streams, queue, writer, ending, name, metrics)

    registry.register(
        Read(lambda: [gauge("headrace_running_streams", "Streams that run here", len(writer.running()))])
    )
    common(registry, lambda: output.dropped, lambda: writer.errors + errors_of(log_client, queue_client))

    async def render() -> bytes:
        return rendered(registry)

    def cancelled(stream_id: bytes) -> None:
        # Only a hint. Without it the next append is refused, or the lease tick stops the stream within a second.
        for attempt in writer.running():
            if attempt.stream_id == stream_id.decode():
                attempt.stop(FENCED)

    await RightsWatch((settings.redis_url, settings.queue_redis_url), settings.key_prefix).run()
    background = [
        start_critical(work, about)
        for work, about in (
            (writer.run(), "log"),
            (ticker.run(), "upkeep"),
            (listen(settings.queue_redis_url, keys.cancelled_channel, cancelled), "cancellations"),
            (provider_limiter.run(), "line"),
        )
    ]
    background.append(asyncio.create_task(log_durability(settings.redis_url)))
    log.info("worker_started", worker=name, max_streams=settings.max_streams, settings=settings.told())
    if configuration.service_links:
        log.info("service_links_passed_over", names=configuration.service_links)
    try:
        async with served(settings.metrics_host, settings.metrics_port, render):
            yield queue, runner
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await provider_client.aclose()
        await ticker.sign_off()
        await queue_client.aclose()
        await log_client.aclose()
        log.info("worker_stopped", worker=name)


def configured() -> tuple[Configuration, LogOutput]:
    """Read the environment, set up the log, and raise the limit of open files, because each stream has a connection
    to its provider. Out: the settings, and where the log goes. Ends the process if the settings can't be used."""
    try:
        configuration = load(environment())
    except BadSettings as error:
        sys.exit(str(error))
    output = configure_logs(configuration.settings.log_level, configuration.settings.log_format)
    raise_file_limit()
    return configuration, output


def main() -> None:
    """Run one worker process until SIGTERM or SIGINT."""
    configuration, output = configured()
    settings = configuration.settings
    asyncio.set_event_loop(uvloop.new_event_loop())
    pool = MultiplexedArq(open_client(settings.queue_redis_url).connection_pool)
    queue = Queue(pool, Keys(settings.key_prefix))
    blocking_client = open_client(settings.queue_redis_url)
    arguments = worker_settings(configuration, output)
    JobConsumer(queue, blocking_client, arguments["ctx"]["places"], redis_pool=pool, **arguments).run()
