"""The command line's composition root: reads the environment, and passes it on."""

import asyncio
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from cli import model
from cli.chat.command import DEFAULT_URL, EXIT_CODES, ServerAddress, Watching, converse, request
from cli.chat.pipes import asked_on_stdin, checked, write_out
from cli.chat.views import PlainView, TerminalView, View
from cli.doctor.command import examine, report
from cli.errors import CannotStart, NoAnswer
from cli.up.command import Options, run_up
from cli.up.datadir import environment_of
from cli.up.plan import CODE
from cli.up.progress import LastingConsole
from cli.up.valkey import ALWAYS, EVERYSEC
from shared.config.api_keys import BadApiKeys, new_api_key
from shared.config.settings import BadSettings, check_open, environment, load
from shared.protocol.cursor import BadCursor, is_stream_id, parse_cursor
from shared.version import VERSION

DATA_DIR = Path(".headrace")

Url = Annotated[
    str | None,
    typer.Option(help=f"The server to ask. (default: HEADRACE_URL or {DEFAULT_URL})", show_default=False),
]
Key = Annotated[
    str | None, typer.Option(help="Your API key for the server. (default: HEADRACE_KEY)", show_default=False)
]
Raw = Annotated[bool, typer.Option("--raw", help="Plain text as it arrives, also on a terminal.")]


class Fsync(StrEnum):
    ALWAYS = ALWAYS
    EVERYSEC = EVERYSEC


def up(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. (default: HEADRACE_HOST or 127.0.0.1)")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0: any free one. (default: HEADRACE_PORT or 8000)", min=0, max=65535),
    ] = None,
    api: Annotated[int, typer.Option(help="API processes, all on the one port.", min=1, max=64)] = 1,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1, max=256)] = 2,
    redis_url: Annotated[
        str | None,
        typer.Option(help="A Redis 7+ or Valkey to use. (default: HEADRACE_REDIS_URL, or an embedded server)"),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder of the embedded server's data and all logs.")] = DATA_DIR,
    appendfsync: Annotated[
        Fsync | None,
        typer.Option(
            help="When the embedded server syncs its file: before each reply, so that what was acknowledged is on "
            "disk; or each second. (default: HEADRACE_APPENDFSYNC or always)"
        ),
    ] = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Do not start the local model.")] = False,
) -> None:
    """Start everything on this machine: server, local model, API, workers. Ctrl-C stops it."""
    try:
        env = environment()
        settings = load(env).settings
        options = Options(
            host=settings.host if host is None else host,
            port=settings.port if port is None else port,
            api=api,
            workers=workers,
            redis_url=redis_url or env.get("HEADRACE_REDIS_URL", "").strip() or None,
            data_dir=data_dir,
            appendfsync=appendfsync.value if appendfsync else settings.appendfsync,
            model=not no_model,
            default_model=settings.default_model,
            key_prefix=settings.key_prefix,
            env=env,
        )
        check_open(settings, options.host)
        asyncio.run(run_up(options, LastingConsole()))
    except (BadSettings, CannotStart) as error:
        _refuse(error)


def api() -> None:
    """Run one API process, as the environment and .env say, until SIGTERM."""
    _become("api")


def worker() -> None:
    """Run one worker process, as the environment and .env say, until SIGTERM."""
    _become("worker")


def _become(module: str) -> None:
    """Replace this process by the module's: the process id stays, and the command line's imports are gone."""
    path = os.pathsep.join(filter(None, (str(CODE), os.environ.get("PYTHONPATH"))))
    # -P: do not import a folder of this name from the current directory.
    os.execve(sys.executable, (sys.executable, "-P", "-m", module), {**os.environ, "PYTHONPATH": path})  # noqa: S606


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data_dir: Annotated[
        Path,
        typer.Option(help="Folder of a `headrace up`: while it runs, its settings are used where you set none."),
    ] = DATA_DIR,
) -> None:
    """Check a deployment from its environment, and say what to fix (then the exit code is 1)."""
    try:
        configuration = load({**environment_of(data_dir), **environment()})
    except BadSettings as error:
        _refuse(error)
    if not report(asyncio.run(examine(configuration)), Console(highlight=False), as_json=as_json):
        raise typer.Exit(1)


def new_key(name: Annotated[str, typer.Argument(help="Whose key it is: the owner of what it creates.")]) -> None:
    """Make an API key. Its secret is shown only now, and stored nowhere."""
    try:
        secret, entry = new_api_key(name)
    except BadApiKeys as error:
        Console(stderr=True).print(Text(f"No key was made: {error}.", style="red"), soft_wrap=True, highlight=False)
        raise typer.Exit(2) from None
    # Plain print, because rich would wrap or colour the text that is copied.
    print("The secret, shown this once; callers send it as 'Authorization: Bearer <secret>':")
    print(f"\n  {secret}\n")
    print("The entry for HEADRACE_API_KEYS (comma-separated, the same on every API process):")
    print(f"\n  {entry}\n")


def chat(
    prompt: Annotated[
        str, typer.Argument(help="The question; without one: stdin, or a conversation on a terminal.")
    ] = "",
    model: Annotated[str, typer.Option(help="provider/name, or a name of the default provider.")] = "",
    system: Annotated[str, typer.Option(help="Instructions before the conversation.")] = "",
    url: Url = None,
    key: Key = None,
    raw: Raw = False,
) -> None:
    """Ask a model, and watch its answer; it survives lost connections. Ctrl-C asks whether to stop it.

    Exit codes: 0 answered, 1 failed, 2 wrongly called, 3 detached (it goes on), 130 stopped.
    """
    watching = _watching(url, key, raw)
    try:
        turns = [{"role": "system", "content": checked(system)}] if system else []
        if not prompt and watching.may_ask:
            raise typer.Exit(EXIT_CODES[converse(watching, model, turns)])
        turns.append({"role": "user", "content": checked(prompt or asked_on_stdin())})
        ending, _ = asyncio.run(watching.watch(request(model, turns)))
    except NoAnswer as error:
        watching.say(str(error), "red")
        raise typer.Exit(1) from None
    raise typer.Exit(EXIT_CODES[ending])


def tail(
    stream_id: Annotated[str, typer.Argument(metavar="ID", help="The stream's id, from `headrace chat`.")],
    cursor: Annotated[str, typer.Option("--from", help="An event's id: show only what came after it.")] = "",
    url: Url = None,
    key: Key = None,
    raw: Raw = False,
) -> None:
    """Show an answer from its beginning, and follow it to its end. The exit codes are those of `headrace chat`."""
    watching = _watching(url, key, raw)
    try:
        parse_cursor(cursor)
    except BadCursor:
        raise typer.BadParameter("An event's id looks like 1795341803123-7.", param_hint="--from") from None
    if not is_stream_id(stream_id):
        raise typer.BadParameter("A stream's id has 24 letters, digits, - or _.", param_hint="ID")
    try:
        ending, _ = asyncio.run(watching.watch(None, stream_id, cursor))
    except NoAnswer as error:
        watching.say(str(error), "red")
        raise typer.Exit(1) from None
    raise typer.Exit(EXIT_CODES[ending])


def _watching(url: str | None, key: str | None, raw: bool) -> Watching:
    try:
        env = environment()
    except BadSettings as error:
        _refuse(error)
    server = ServerAddress(
        url=(url or env.get("HEADRACE_URL", "").strip() or DEFAULT_URL).rstrip("/"),
        key=(env.get("HEADRACE_KEY", "") if key is None else key).strip(),
    )
    notes, on_terminal = Console(stderr=True), sys.stdout.isatty()

    def view() -> View:
        if raw or not on_terminal:
            return PlainView(write_out, notes, on_terminal=on_terminal)
        return TerminalView(Console(highlight=False))

    return Watching(server, view, notes, may_ask=on_terminal and sys.stdin.isatty())


def _refuse(error: BadSettings | CannotStart) -> NoReturn:
    """Print the error and exit: with code 2 if the settings are wrong, else 1."""
    Console(stderr=True).print(Text(str(error), style="red"), soft_wrap=True, highlight=False)
    raise typer.Exit(2 if isinstance(error, BadSettings) else 1) from None


def _show_version(asked: bool) -> None:
    if asked:
        print(f"headrace {VERSION}")
        raise typer.Exit


def _general(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The options before the command."""


def build_app() -> typer.Typer:
    """The command line: every command, and the function behind it."""
    app = typer.Typer(
        help="Headrace carries tokens from any AI API to any browser over a durable log.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_general)
    app.command("up")(up)
    app.command("api")(api)
    app.command("worker")(worker)
    app.command("chat")(chat)
    app.command("tail")(tail)
    app.command("model")(model.serve)
    app.command("doctor")(doctor)
    key = typer.Typer(help="API keys.", no_args_is_help=True)
    key.command("new")(new_key)
    # Without a callback, typer would replace the group by its only command.
    key.callback()(lambda: None)
    app.add_typer(key, name="key")
    return app


def main() -> None:
    """The ``headrace`` command."""
    build_app()()
