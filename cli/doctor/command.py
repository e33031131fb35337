"""`headrace doctor`: checks a deployment from its environment, and says what to fix.

It only reads: nothing is written, and no question takes longer than :data:`ASK_WITHIN_S`.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Mapping
from dataclasses import asdict
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.doctor.findings import (
    Finding,
    auth_findings,
    clock_finding,
    erasure_finding,
    files_finding,
    of_nodes,
    overdue_findings,
    provider_finding,
    redis_findings,
    untold_finding,
    worker_findings,
)
from shared.config.network import Network
from shared.config.providers import Provider, UnknownModel, resolve_model
from shared.config.settings import BadSettings, Configuration, Settings
from shared.process.files import file_limit, find_room
from shared.redis import (
    AWAY,
    address_of,
    may,
    missing_rights,
    node_urls,
    open_client,
    reason,
    what_to_grant,
    why_refused,
    without_password,
)
from shared.store.erasures import Erasures
from shared.store.keys import Keys
from shared.store.queue import Queue
from worker.providers.base import ProviderError
from worker.providers.probe import ask_models, way_to

ASK_WITHIN_S: Final = 5.0
SIGNS: Final = {"ok": ("✓", "green"), "note": ("!", "yellow"), "mend": ("✗", "red")}


async def examine(configuration: Configuration) -> list[Finding]:
    """All findings, in the order in which to fix them."""
    settings = configuration.settings
    urls = {"Redis": settings.redis_url}
    if settings.queue_url and settings.queue_url != settings.redis_url:
        urls["queue's Redis"] = settings.queue_url
    asked = [
        _findings_or_error(
            name,
            url,
            _servers(name, url, settings.key_prefix, settings.rewrite_s if url == settings.redis_url else None),
        )
        for name, url in urls.items()
    ]
    network = configuration.network
    providers = [_provider(provider, network) for provider in configuration.providers.values()]
    results = await asyncio.gather(*asked, _workers(settings), *providers)
    found = [finding for result in results for finding in result]
    room = find_room(file_limit(), settings.viewers)
    return [
        *found,
        _default_model(settings, configuration.providers),
        files_finding(room),
        *auth_findings(settings),
    ]


async def _findings_or_error(name: str, url: str, check: Awaitable[list[Finding]]) -> list[Finding]:
    """The findings of this check, or one that says why it failed."""
    shown = without_password(url)
    try:
        return await check
    except ValueError as error:
        return [Finding(name, "mend", f"{shown} is no Redis URL ({error})", "It looks like redis://HOST:6379/0.")]
    except AWAY as error:
        return [_away(name, shown, error)]
    except RedisError as error:
        return [
            Finding(
                name, "mend", f"{shown} refuses: {reason(error)}", "Correct the password and rights in its URL."
            )
        ]


async def _servers(name: str, url: str, prefix: str, rewrite_s: int | None) -> list[Finding]:
    """The findings of one server. In a cluster each node is asked, because a replica may be the next master.
    ``rewrite_s``: only for the log's server, else None."""
    if missing := await missing_rights(url, prefix):
        return [
            Finding(name, "mend", f"{without_password(url)} refuses what Headrace must do", what_to_grant(missing))
        ]
    nodes = await node_urls(url)
    if nodes == [url]:
        return await _server(name, url, rewrite_s)
    found = await asyncio.gather(
        *(_findings_or_error(name, node, _server(name, node, rewrite_s, node=True)) for node in nodes)
    )
    return of_nodes({address_of(node): said for node, said in zip(nodes, found, strict=True)})


async def _server(name: str, url: str, rewrite_s: int | None, *, node: bool = False) -> list[Finding]:
    client = open_client(url, ASK_WITHIN_S)
    try:
        info = await _info(client)
        seconds, micros = await client.time()
        apart_s = seconds + micros / 1e6 - time.time()
        found = [*redis_findings(info, await _config(client), node=node)] if info else [untold_finding()]
        found.append(clock_finding(apart_s))
        if rewrite_s is not None and int(info.get("aof_enabled", 0)):
            found.append(erasure_finding(info, await may(client, "BGREWRITEAOF"), rewrite_s))
    finally:
        await client.aclose()
    return [Finding(name, "ok", "answers" if node else f"answers at {without_password(url)}"), *found]


def _away(name: str, shown: str, error: BaseException) -> Finding:
    if refused := why_refused(error):
        return Finding(name, "mend", f"{shown} lets nobody in", refused[0].upper() + refused[1:] + ".")
    why = reason(error) or type(error).__name__
    return Finding(name, "mend", f"nothing answers at {shown} ({why})", "Start it, or correct the URL.")


async def _info(client: Redis) -> dict[str, Any]:
    """All sections of INFO; {} if this user may not call it."""
    try:
        return dict(await client.info("everything"))
    except NoPermissionError:
        return {}


async def _config(client: Redis) -> dict[str, str]:
    """The server's settings of persistence; {} if CONFIG is forbidden (as on many hosted servers)."""
    try:
        return dict(await client.config_get("save", "appendfsync"))  # type: ignore[arg-type]
    except RedisError:
        return {}


async def _workers(settings: Settings) -> list[Finding]:
    try:
        client = open_client(settings.queue_redis_url, ASK_WITHIN_S)
    except ValueError:
        return []
    keys = Keys(settings.key_prefix)
    queue = Queue(client, keys)
    try:
        found = worker_findings(await queue.workers(), await queue.waiting(), settings.max_queue)
        overdue_s = await Erasures(settings, client, keys).overdue_s()
        return [*found, *overdue_findings(overdue_s, settings.rewrite_s)]
    except (*AWAY, RedisError):
        return []  # the finding about the server says so already
    finally:
        await client.aclose()


async def _provider(provider: Provider, network: Network) -> list[Finding]:
    if provider.missing:
        return []
    way = way_to(provider, network)
    try:
        status = await ask_models(provider, network, ASK_WITHIN_S)
        return [provider_finding(provider.name, status, "", provider.key_variable, way=way)]
    except ProviderError as error:
        return [provider_finding(provider.name, None, str(error), way=way, code=error.code)]
    except BadSettings as error:
        return [Finding(f"provider {provider.name}", "mend", str(error))]


def _default_model(settings: Settings, providers: Mapping[str, Provider]) -> Finding:
    try:
        target = resolve_model("", providers, settings.default_model)
    except UnknownModel as error:
        return Finding("default model", "mend", str(error), "Or name another in HEADRACE_DEFAULT_MODEL.")
    return Finding("default model", "ok", target.full_name)


def report(findings: list[Finding], console: Console, *, as_json: bool) -> bool:
    """Show the findings. Out: True if nothing must be fixed."""
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
    counted = f"{len(bad)} to fix" if bad else "Nothing must be fixed"
    console.print(Text(f"\n{counted}.", style="bold red" if bad else "bold green"))
    return not bad
