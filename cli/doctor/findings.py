"""The judgements of `headrace doctor`: facts in, findings out. Pure, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cli.up.valkey import OLDEST_MAJOR
from shared.config.settings import Settings, is_loopback
from shared.process.files import Room
from shared.redis import USEFUL
from shared.store.durability import durability
from shared.store.erasures import REWRITE_WITHIN_S

OFF_S = 2.0
"""A larger difference is a note. Clocks with NTP are milliseconds apart."""
BROKEN_S = 30.0
"""A larger difference must be fixed: it is too much of the 15 minutes for which a read token lives by default."""
FULL = 0.85
SET_REWRITE = "Set HEADRACE_REWRITE_S to 600: the workers then have it rewritten, at most once in that time."


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. ``state``: ok; note, which may stay as it is; or mend, which must be fixed."""

    check: str
    state: Literal["ok", "note", "mend"]
    said: str
    mend: str = ""


def redis_findings(info: Mapping[str, Any], config: Mapping[str, str], *, node: bool = False) -> list[Finding]:
    """In: all sections of INFO; the settings ``save`` and ``appendfsync`` ({} if unknown); whether the server is a
    node of a cluster, which may be a replica."""
    return [
        _version(info),
        _role(info, node),
        _persistence(info, config),
        _writing(info),
        _eviction(info),
        _memory(info),
    ]


def untold_finding() -> Finding:
    """The finding for a server whose user may not call INFO."""
    return Finding(
        "server",
        "note",
        "this user may not call INFO, so version, memory and disk were not checked: " + USEFUL["info"],
        "Give the user +info.",
    )


def of_nodes(found: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """The findings of a cluster's nodes (address -> findings), joined: one for a check that is ok on all nodes,
    else one for each node on which it is not."""
    checks: dict[str, dict[str, Finding]] = {}
    for address, findings in found.items():
        for finding in findings:
            checks.setdefault(finding.check, {})[address] = finding
    lines = []
    for check, by_node in checks.items():
        wrong = {address: finding for address, finding in by_node.items() if finding.state != "ok"}
        if not wrong:
            said = {finding.said for finding in by_node.values()}
            lines.append(
                Finding(check, "ok", f"{said.pop() if len(said) == 1 else 'well'}, on {len(by_node)} nodes")
            )
        lines += [replace(finding, said=f"{address}: {finding.said}") for address, finding in wrong.items()]
    return lines


def _version(info: Mapping[str, Any]) -> Finding:
    version = str(info.get("valkey_version") or info["redis_version"])
    name = "Valkey" if "valkey_version" in info else "Redis"
    if int(str(info["redis_version"]).partition(".")[0]) >= OLDEST_MAJOR:
        return Finding("version", "ok", f"{name} {version}")
    return Finding(
        "version",
        "mend",
        f"{name} {version} does not have script flags, which Headrace needs",
        f"Upgrade it to {OLDEST_MAJOR}.0 or newer, or to Valkey.",
    )


def _role(info: Mapping[str, Any], node: bool) -> Finding:
    if info.get("role", "master") == "master" or node:
        return Finding("role", "ok", "takes writes" if not node else "masters, and replicas that stand by")
    return Finding("role", "mend", "a replica, which takes no writes", "Point HEADRACE_REDIS_URL at its master.")


def _persistence(info: Mapping[str, Any], config: Mapping[str, str]) -> Finding:
    if int(info.get("aof_enabled", 0)):
        return _append_only(info, config.get("appendfsync"))
    save = config.get("save")
    if save:
        return Finding(
            "persistence",
            "note",
            f"snapshots only (save {save}): a crash loses what came after the last one",
            "Set appendonly yes and appendfsync always: then nothing that was acknowledged is lost.",
        )
    return Finding(
        "persistence",
        "mend",
        "nothing is written to disk" if save is not None else "no append-only file",
        "Set appendonly yes and appendfsync always, or a restart of the server loses every stream.",
    )


def _append_only(info: Mapping[str, Any], fsync: str | None) -> Finding:
    found = durability(info, fsync)
    said = f"{found.promise} promise: {found.why}"
    if fsync is None:
        return Finding("persistence", "note", said, "Make sure that appendfsync is always, or accept that loss.")
    if fsync != "always":
        state: Literal["note", "mend"] = "mend" if fsync == "no" else "note"
        return Finding("persistence", state, said, "Set appendfsync always: then what was acknowledged is on disk.")
    return Finding("persistence", "ok", said)


def _writing(info: Mapping[str, Any]) -> Finding:
    names = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
    failed = [name for name in names if info.get(name, "ok") != "ok"]
    if not failed:
        return Finding("disk", "ok", "the last writes went well")
    return Finding("disk", "mend", f"not ok: {', '.join(failed)}", "Look at the server's log and its disk.")


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return Finding("eviction", "ok", policy)
    return Finding(
        "eviction",
        "mend",
        f"{policy}: a server that is full drops streams, in mid-answer too",
        "Set maxmemory-policy noeviction: Headrace then says 503 and loses nothing.",
    )


def _memory(info: Mapping[str, Any]) -> Finding:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    said = f"{used / 2**20:.0f} MB" + (f" of {most / 2**20:.0f} MB" if most else ", without a limit")
    if most and used > FULL * most:
        return Finding("memory", "mend", said, "Raise maxmemory, or shorten HEADRACE_RETENTION_S.")
    return Finding("memory", "ok", said)


def erasure_finding(info: Mapping[str, Any], may_rewrite: bool, rewrite_s: int) -> Finding:
    """Whether erased text leaves the server's append-only file in time. In: INFO; whether this user may rewrite the
    file; the setting."""
    check = "erased text"
    if not rewrite_s:
        return Finding(check, "note", "stays in the server's file until the server rewrites it", SET_REWRITE)
    if not may_rewrite:
        return Finding(
            check,
            "mend",
            "stays in the server's file until the server rewrites it: this user may not call BGREWRITEAOF",
            "Give the user +bgrewriteaof. If the server has no such command, ask its operator how long its files "
            "keep deleted data, and set HEADRACE_REWRITE_S=0.",
        )
    took_s = int(info.get("aof_last_rewrite_time_sec", -1))
    last = f" (the last one took {took_s} s)" if took_s >= 0 else ""
    return Finding(check, "ok", f"leaves the server's file within {rewrite_s} s and the time of a rewrite{last}")


def overdue_findings(overdue_s: float, rewrite_s: int) -> list[Finding]:
    """In: for how long a rewrite of the server's file has been due, and the setting. A rewrite that failed is tried
    again after each interval."""
    if not rewrite_s or overdue_s < rewrite_s + REWRITE_WITHIN_S:
        return []
    said = f"still in the server's file: a rewrite has been due for {overdue_s / 60:.0f} min"
    return [
        Finding("erased text", "mend", said, "Look at the workers' logs for rewrite_refused or rewrite_failed.")
    ]


def clock_finding(apart_s: float) -> Finding:
    """In: the server's clock minus this machine's (s)."""
    said = f"{abs(apart_s):.3f} s apart from this machine's"
    if abs(apart_s) < OFF_S:
        return Finding("clock", "ok", said)
    state: Literal["note", "mend"] = "note" if abs(apart_s) < BROKEN_S else "mend"
    return Finding("clock", state, said, "Let NTP keep both clocks: read tokens end early, or late.")


def worker_findings(workers: int, waiting: int, max_queue: int) -> list[Finding]:
    """In: the workers alive, the waiting jobs, and the limit of waiting jobs (0: none)."""
    there = Finding("workers", "ok", f"{workers} alive")
    if not workers:
        there = Finding("workers", "mend", "none alive", "Start one: headrace worker")
    queue = Finding("queue", "ok", f"{waiting} streams wait")
    if max_queue and waiting >= max_queue:
        queue = Finding("queue", "mend", f"full: {waiting} streams wait", "Start more workers.")
    elif waiting > 10 * max(workers, 1):
        queue = Finding(
            "queue", "note", f"{waiting} streams wait", "Start more workers, or raise HEADRACE_MAX_STREAMS."
        )
    return [there, queue]


def provider_finding(
    name: str, status: int | None, error: str, key: str = "", *, way: str = "", code: str = ""
) -> Finding:
    """In: the status of the provider's list of models, or None with the error and its code; the variable of its
    key; and how it was reached ('': unknown)."""
    check = f"provider {name}"
    key = key or f"{name.upper()}_API_KEY"
    asked = f" (asked {way})" if way else ""
    if status is None:
        mends = {"provider_tls": "Correct its certificate, or what is trusted here (SSL_CERT_FILE)."}
        mend = mends.get(code, f"Correct {name.upper()}_BASE_URL, or start what should be there.")
        return Finding(check, "mend", f"{error}{asked}", mend)
    if status in (401, 403):
        return Finding(check, "mend", f"refuses the key ({status}){asked}", f"Correct {key}.")
    if status >= 500:
        return Finding(check, "mend", f"answers {status}{asked}", "Wait, or ask the provider.")
    if status >= 300:
        return Finding(check, "note", f"answers, but its list of models has status {status}{asked}")
    return Finding(check, "ok", f"answers{asked}")


def files_finding(room: Room) -> Finding:
    """In: the open files that an API process on this machine can have."""
    if room.enough:
        return Finding("files", "ok", f"enough for {room.viewers} viewers in an API process")
    return Finding(
        "files",
        "note",
        f"an API process started here has room for {room.viewers} viewers, and HEADRACE_VIEWERS is {room.wanted}",
        "Raise the hard limit of open files (ulimit -Hn, LimitNOFILE), or lower HEADRACE_VIEWERS.",
    )


def auth_findings(settings: Settings) -> list[Finding]:
    """Whether the settings let only authorised callers in."""
    if not settings.keys:
        if is_loopback(settings.host):
            return [Finding("keys", "ok", "none; it listens on this machine only")]
        way_out = "headrace key new NAME makes one."
        if settings.allow_open:
            return [Finding("keys", "note", f"none, and it listens on {settings.host}", way_out)]
        return [Finding("keys", "mend", f"none, so the API does not listen on {settings.host}", way_out)]
    found = [Finding("keys", "ok", f"{len(settings.keys.entries)} configured")]
    if not settings.secret:
        found.append(
            Finding(
                "secret",
                "note",
                "kept in Redis: tokens and Idempotency-Keys end with its data",
                "Set HEADRACE_SECRET to a long random text, the same on every API process.",
            )
        )
    return found
