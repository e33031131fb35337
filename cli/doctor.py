"""`headrace doctor`: looks at a deployment from its environment, and says what to mend.

It only looks: nothing is written, and no question takes longer than :data:`ASK_WITHIN_S`.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.findings import (
    Finding,
    clock_finding,
    door_findings,
    provider_finding,
    redis_findings,
    worker_findings,
)
from cli.valkey import without_password
from shared.connections import AWAY, open_client
from shared.keys import Keys
from shared.providers import Provider, UnknownModel, resolve_model
from shared.queue import Queue
from shared.settings import Configuration, Settings
from worker.providers.base import ProviderError
from worker.providers.probe import ask_models

ASK_WITHIN_S: Final = 5.0
SEEN_MS: Final = 5000
SIGNS: Final = {"ok": ("✓", "green"), "note": ("!", "yellow"), "mend": ("✗", "red")}


async def examine(configuration: Configuration) -> list[Finding]:
    """Everything that was found, in the order in which it is mended."""
    settings = configuration.settings
    urls = {"Redis": settings.redis_url}
    if settings.queue_url and settings.queue_url != settings.redis_url:
        urls["queue's Redis"] = settings.queue_url
    asked = [_server(name, url) for name, url in urls.items()]
    answers = await asyncio.gather(*asked, _workers(settings), *map(_provider, configuration.providers.values()))
    found = [finding for answer in answers for finding in answer]
    return [*found, _default_model(settings, configuration.providers), *door_findings(settings)]


async def _server(name: str, url: str) -> list[Finding]:
    shown = without_password(url)
    try:
        client = open_client(url, ASK_WITHIN_S)
    except ValueError as error:
        return [Finding(name, "mend", f"{shown} is no Redis URL ({error})", "It looks like redis://HOST:6379/0.")]
    try:
        info: dict[str, Any] = await client.info("everything")
        seconds, micros = await client.time()
        apart_s = seconds + micros / 1e6 - time.time()
        found = [*redis_findings(info, await _save(client)), clock_finding(apart_s)]
    except AWAY as error:
        return [_away(name, shown, error)]
    except RedisError as error:
        return [Finding(name, "mend", f"{shown} refuses: {error}", "Correct the password and rights in its URL.")]
    finally:
        await client.aclose()
    return [Finding(name, "ok", f"answers at {shown}"), *found]


def _away(name: str, shown: str, error: BaseException) -> Finding:
    why = str(error) or type(error).__name__
    return Finding(name, "mend", f"nothing answers at {shown} ({why})", "Start it, or correct the URL or password.")


async def _save(client: Redis) -> str | None:
    """The server's ``save`` setting; None where it is not told."""
    try:
        found: dict[str, str] = await client.config_get("save")
    except RedisError:
        return None
    return found.get("save")


async def _workers(settings: Settings) -> list[Finding]:
    try:
        client = open_client(settings.queue_redis_url, ASK_WITHIN_S)
    except ValueError:
        return []
    queue = Queue(client, Keys(settings.key_prefix))
    try:
        workers = await queue.workers(await queue.now_ms() - SEEN_MS)
        return worker_findings(workers, await queue.waiting(), settings.max_queue)
    except (*AWAY, RedisError):
        return []  # said already
    finally:
        await client.aclose()


async def _provider(provider: Provider) -> list[Finding]:
    if provider.missing:
        return []
    try:
        status = await ask_models(provider, ASK_WITHIN_S)
        return [provider_finding(provider.name, status, "", provider.key_variable)]
    except ProviderError as error:
        return [provider_finding(provider.name, None, str(error))]


def _default_model(settings: Settings, providers: Mapping[str, Provider]) -> Finding:
    try:
        target = resolve_model("", providers, settings.default_model)
    except UnknownModel as error:
        return Finding("default model", "mend", str(error), "Or name another in HEADRACE_DEFAULT_MODEL.")
    return Finding("default model", "ok", target.full_name)


def report(findings: list[Finding], console: Console, *, as_json: bool) -> bool:
    """Show them. Out: whether nothing must be mended."""
    bad = [finding for finding in findings if finding.state == "mend"]
    if as_json:
        console.print_json(json.dumps({"ok": not bad, "findings": [asdict(finding) for finding in findings]}))
        return not bad
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        sign, colour = SIGNS[finding.state]
        said = Text(finding.said)
        if finding.mend:
            said.append(f"\n→ {finding.mend}", style=colour)
        table.add_row(Text(sign, style=colour), finding.check, said)
    console.print(table)
    counted = f"{len(bad)} to mend" if bad else "Nothing must be mended"
    console.print(Text(f"\n{counted}.", style="bold red" if bad else "bold green"))
    return not bad
