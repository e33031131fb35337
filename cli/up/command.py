"""`headrace up`: runs everything that Headrace needs on one machine, until Ctrl-C."""

import asyncio
import secrets
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from cli.up.datadir import DataDir
from cli.up.plan import Address, Plan, children_env, decided_env, embedded_url
from cli.up.progress import Progress
from cli.up.sockets import base_url, held_port, listen
from cli.up.supervisor import Supervisor
from cli.up.valkey import check_server, find_server
from cli.up.welcome import label, welcome, why_no_model
from shared.redis import without_password

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line, and the settings for those that were not given."""

    host: str
    port: int
    api: int
    workers: int
    redis_url: str | None = field(repr=False)
    """None: start an embedded server."""
    data_dir: Path
    appendfsync: str
    """How the embedded server syncs its file: ``always`` or ``everysec``."""
    model: bool
    default_model: str
    key_prefix: str
    env: Mapping[str, str] = field(repr=False)


async def run_up(options: Options, console: Console) -> None:
    """Start everything, run until a signal, and stop everything.

    Raises :class:`cli.errors.CannotStart`, before anything was started or after everything was stopped.
    """
    with ExitStack() as owned:
        # First the steps that can fail at once: the port, the folder, the server's program.
        listener = owned.enter_context(listen(options.host, options.port))
        port = listener.getsockname()[1]
        data = DataDir(options.data_dir)
        owned.callback(data.close)
        if options.redis_url:
            await check_server(options.redis_url, options.key_prefix)
        program = None if options.redis_url else find_server()
        no_model = why_no_model(options.env, options.model)
        model_port = owned.enter_context(held_port()) if no_model is None else None
        server_port = owned.enter_context(held_port()) if program else 0
        # Every local user can connect to loopback. Without a password each could read all prompts and answers.
        password = secrets.token_urlsafe(24)
        redis_url = options.redis_url or embedded_url(server_port, password)
        decided = decided_env(redis_url, options.host, port, model_port)
        # The password of a server that is not ours is not written to disk.
        shown = decided if program else {**decided, "HEADRACE_REDIS_URL": without_password(redis_url)}

        env = children_env(options.env, decided)
        plan = Plan(env, data.log, Address(options.host, port, listener.fileno()))
        server = []
        if program:
            config = data.write_server_config(password)
            fsync = options.appendfsync
            server = [plan.server(program, server_port, config, data.path, data.lock_fd, fsync)]
        after = tuple(spec.name for spec in server)
        specs = [
            *server,
            *([plan.model(model_port)] if model_port else []),
            *(plan.api(number, after) for number in range(1, options.api + 1)),
            *(plan.worker(number, after) for number in range(1, options.workers + 1)),
        ]

        progress = Progress(console, {spec.name: label(spec.name) for spec in specs})
        url = base_url(options.host, port)
        supervisor = Supervisor(specs, progress, lambda pids: data.write_state(url, shown, pids))

        def up() -> None:
            progress.finish()
            progress.say(f"\nHeadrace is up: {url}", style="bold green")
            welcome(progress.say, url, options.host, data.logs, env, options.default_model, no_model)

        async with progress:
            await _run_until_signal(supervisor, up, progress)


async def _run_until_signal(supervisor: Supervisor, up: Callable[[], None], progress: Progress) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        # A second Ctrl-C kills the children at once.
        if stopping.is_set():
            supervisor.kill()
        stopping.set()

    for sig in STOP_SIGNALS:
        loop.add_signal_handler(sig, stop)
    work = asyncio.create_task(supervisor.run(up))
    signalled = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({work, signalled}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        signalled.cancel()
        outcome = (await asyncio.gather(work, signalled, return_exceptions=True))[0]
        try:
            progress.finish()
            progress.say("Stopping (Ctrl-C again: at once) …" if stopping.is_set() else "Stopping everything …")
        finally:
            # Stop them also if nothing can be printed any more because the terminal is gone.
            await supervisor.stop()
    if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
        raise outcome
    progress.say("Stopped.")
