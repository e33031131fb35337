"""What the doctor makes of what it sees, and its two commands as a person runs them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

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
    worker_findings,
)
from cli.main import build_app
from cli.up.sockets import free_port
from shared.config.api_keys import new_api_key, parse_api_keys
from shared.config.settings import load
from shared.process.files import find_room

HEALTHY: dict[str, Any] = {"redis_version": "7.2.4", "aof_enabled": 1, "maxmemory_policy": "noeviction"}


def told(save: str = "", appendfsync: str = "always") -> dict[str, str]:
    return {"save": save, "appendfsync": appendfsync}


def wrong(info: dict[str, Any], config: dict[str, str]) -> dict[str, str]:
    """What is not ok: check -> state."""
    return {f.check: f.state for f in redis_findings({**HEALTHY, **info}, config) if f.state != "ok"}


@pytest.mark.parametrize(
    ("info", "config", "found"),
    [
        ({}, told(), {}),
        ({}, told(appendfsync="everysec"), {"persistence": "note"}),
        ({}, told(appendfsync="no"), {"persistence": "mend"}),
        ({}, {}, {"persistence": "note"}),
        ({"redis_version": "6.2.14"}, told(), {"version": "mend"}),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, told(), {}),
        ({"role": "slave"}, told(), {"role": "mend"}),
        ({"aof_enabled": 0}, told(), {"persistence": "mend"}),
        ({"aof_enabled": 0}, {}, {"persistence": "mend"}),
        ({"aof_enabled": 0}, told("3600 1"), {"persistence": "note"}),
        ({"maxmemory_policy": "allkeys-lru"}, told(), {"eviction": "mend"}),
        ({"aof_last_write_status": "err"}, told(), {"disk": "mend"}),
        ({"maxmemory": 100, "used_memory": 95}, told(), {"memory": "mend"}),
        ({"maxmemory": 100, "used_memory": 50}, told(), {}),
    ],
)
def test_faults_of_a_server_are_found(info: dict[str, Any], config: dict[str, str], found: dict[str, str]) -> None:
    assert wrong(info, config) == found


def test_the_nodes_of_a_cluster_are_named_where_something_is_wrong() -> None:
    well, ill = ({**HEALTHY, "role": role} for role in ("slave", "master"))
    ill["maxmemory_policy"] = "allkeys-lru"
    found = of_nodes(
        {
            "a:1": redis_findings(well, told(), node=True),
            "b:2": redis_findings(ill, told(appendfsync="no"), node=True),
        }
    )
    bad = {f.check: f.said.partition(" ")[0] for f in found if f.state != "ok"}
    assert bad == {"persistence": "b:2:", "eviction": "b:2:"}
    assert {f.check for f in found if f.state == "ok"} == {"version", "role", "disk", "memory"}
    assert next(f.said for f in found if f.check == "version") == "Redis 7.2.4, on 2 nodes"


@pytest.mark.parametrize(("apart_s", "state"), [(0.01, "ok"), (-5, "note"), (45, "mend"), (-3600, "mend")])
def test_clocks_may_be_a_little_apart(apart_s: float, state: str) -> None:
    assert clock_finding(apart_s).state == state


@pytest.mark.parametrize(
    ("workers", "waiting", "states"),
    [(2, 0, ["ok", "ok"]), (0, 3, ["mend", "ok"]), (1, 50, ["ok", "note"]), (1, 100, ["ok", "mend"])],
)
def test_the_doctor_judges_workers_and_queue(workers: int, waiting: int, states: list[str]) -> None:
    assert [finding.state for finding in worker_findings(workers, waiting, 100)] == states


@pytest.mark.parametrize(
    ("status", "state"), [(200, "ok"), (404, "note"), (401, "mend"), (403, "mend"), (500, "mend"), (None, "mend")]
)
def test_providers(status: int | None, state: str) -> None:
    finding = provider_finding("openai", status, "it does not answer")
    assert finding.state == state
    if status == 401:
        assert "OPENAI_API_KEY" in finding.mend


def test_files() -> None:
    assert files_finding(find_room(20_000, 10_000)).state == "ok"
    assert files_finding(find_room(1024, 10_000)).state == "note"


def doors(**env: str) -> dict[str, str]:
    return {f.check: f.state for f in auth_findings(load({f"HEADRACE_{k}": v for k, v in env.items()}).settings)}


def test_the_doctor_says_who_gets_in() -> None:
    entry = new_api_key("a")[1]
    assert doors() == {"keys": "ok"}
    assert doors(HOST="0.0.0.0") == {"keys": "mend"}
    assert doors(HOST="0.0.0.0", ALLOW_OPEN="true") == {"keys": "note"}
    assert doors(HOST="0.0.0.0", API_KEYS=entry) == {"keys": "ok", "secret": "note"}
    assert doors(API_KEYS=entry, SECRET="x") == {"keys": "ok"}


@pytest.mark.parametrize(
    ("may_rewrite", "rewrite_s", "overdue_s", "states"),
    [
        (True, 600, 0.0, ["ok"]),
        (True, 600, 600.0, ["ok"]),
        (True, 600, 1000.0, ["ok", "mend"]),
        (False, 600, 0.0, ["mend"]),
        (True, 0, 1000.0, ["note"]),
    ],
)
def test_the_doctor_says_when_erased_text_leaves_the_file(
    may_rewrite: bool, rewrite_s: int, overdue_s: float, states: list[str]
) -> None:
    found = [erasure_finding(HEALTHY, may_rewrite, rewrite_s), *overdue_findings(overdue_s, rewrite_s)]
    assert [finding.state for finding in found] == states
    assert all(finding.mend for finding in found if finding.state != "ok")


def test_a_finding_to_mend_says_how() -> None:
    everything: list[Finding] = [
        *redis_findings({"redis_version": "6", "role": "slave", "maxmemory": 1, "used_memory": 1}, {}),
        *redis_findings({"redis_version": "7", "maxmemory_policy": "x", "rdb_last_bgsave_status": "err"}, told()),
        clock_finding(99),
        *worker_findings(0, 10, 10),
        provider_finding("openai", None, "away"),
        *auth_findings(load({"HEADRACE_HOST": "::"}).settings),
    ]
    bad = [finding for finding in everything if finding.state == "mend"]
    assert len({finding.check for finding in bad}) == 11
    assert all(len(finding.mend) > 15 for finding in bad)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An environment whose Redis and provider are not there."""
    monkeypatch.chdir(tmp_path)
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    monkeypatch.setenv("HEADRACE_REDIS_URL", url)
    monkeypatch.setenv("HEADRACE_VIEWERS", "10")  # there are files for so many on any machine
    monkeypatch.setenv("LOCAL_BASE_URL", f"http://127.0.0.1:{free_port()}/v1")
    return url


def test_the_doctor_ends_with_1_where_something_must_be_mended(nowhere: str) -> None:
    result = CliRunner().invoke(build_app(), ["doctor"])
    assert result.exit_code == 1
    assert "nothing answers" in result.output
    assert "secret" not in result.output
    assert "2 to fix" in result.output


def test_the_doctor_speaks_json_to_programs(nowhere: str) -> None:
    result = CliRunner().invoke(build_app(), ["doctor", "--json"])
    assert result.exit_code == 1
    said = json.loads(result.output)
    assert said["ok"] is False
    assert {f["check"]: f["state"] for f in said["findings"]} == {
        "Redis": "mend",
        "provider local": "mend",
        "default model": "ok",
        "files": "ok",
        "keys": "ok",
    }


def test_key_new_prints_a_secret_that_its_entry_lets_in() -> None:
    result = CliRunner().invoke(build_app(), ["key", "new", "alice"])
    assert result.exit_code == 0
    secret, entry = re.findall(r"^  (\S+)$", result.output, re.MULTILINE)
    assert parse_api_keys(entry).owner(secret) == "alice"


def test_key_new_refuses_a_name_that_would_break_the_list() -> None:
    result = CliRunner().invoke(build_app(), ["key", "new", "a,b"])
    assert result.exit_code == 2
    assert "No key was made" in result.output
