"""The front door's composition root: reads the environment, and hands it on."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli import model
from cli.doctor import examine, report
from cli.errors import CannotStart
from cli.up import Options, run_up
from shared.api_keys import BadApiKeys, new_api_key
from shared.settings import BadSettings, check_open, environment, load

DATA_DIR = Path(".headrace")


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
            model=not no_model,
            default_model=settings.default_model,
            env=env,
        )
        check_open(settings, options.host)
        asyncio.run(run_up(options, Console()))
    except (BadSettings, CannotStart) as error:
        Console(stderr=True).print(Text(str(error), style="red"), soft_wrap=True, highlight=False)
        raise typer.Exit(2 if isinstance(error, BadSettings) else 1) from None


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check a deployment from its environment, and say what to mend (then the exit code is 1)."""
    try:
        configuration = load(environment())
    except BadSettings as error:
        Console(stderr=True).print(Text(str(error), style="red"), soft_wrap=True, highlight=False)
        raise typer.Exit(2) from None
    if not report(asyncio.run(examine(configuration)), Console(highlight=False), as_json=as_json):
        raise typer.Exit(1)


def new_key(name: Annotated[str, typer.Argument(help="Whose key it is: the owner of what it creates.")]) -> None:
    """Make an API key. Its secret is shown this once, and kept nowhere."""
    try:
        secret, entry = new_api_key(name)
    except BadApiKeys as error:
        Console(stderr=True).print(Text(f"No key was made: {error}.", style="red"), soft_wrap=True, highlight=False)
        raise typer.Exit(2) from None
    # Plain print: nothing may be wrapped or coloured in what is copied.
    print("The secret, shown this once; callers send it as 'Authorization: Bearer <secret>':")
    print(f"\n  {secret}\n")
    print("The entry for HEADRACE_API_KEYS (comma-separated, the same on every API process):")
    print(f"\n  {entry}\n")


def build_app() -> typer.Typer:
    """The command line: every command, and the function behind it."""
    app = typer.Typer(
        help="Headrace carries tokens from any AI API to any browser over a durable log.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.command("up")(up)
    app.command("model")(model.serve)
    app.command("doctor")(doctor)
    key = typer.Typer(help="API keys.", no_args_is_help=True)
    key.command("new")(new_key)
    # Without it the one command would stand in the place of the group.
    key.callback()(lambda: None)
    app.add_typer(key, name="key")
    return app


def main() -> None:
    """The ``headrace`` command."""
    build_app()()
