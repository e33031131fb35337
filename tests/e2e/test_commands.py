"""`headrace api`, `worker` and `--version`, started from any folder, and settings that are wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.up.sockets import free_port
from shared.version import VERSION
from tests.support.probes import http_ok
from tests.support.processes import Child, Server, base_env, run, wait_until

HEADRACE = str(Path(sys.executable).parent / "headrace")
COMMANDS = ("api", "worker", "cli up --no-model --port 0", "cli doctor", "cli chat hello")
"""Modules with their arguments; `headrace api` and `headrace worker` become the first two."""


def ended(command: str, directory: Path, **settings: str) -> "subprocess.CompletedProcess[bytes]":
    return run(command.split(), base_env(**settings), directory)


def sentence(command: str, directory: Path, **settings: str) -> str:
    """What it says, on one line, before it ends."""
    done = ended(command, directory, **settings)
    said = done.stderr.decode()
    assert done.returncode in (1, 2), done
    assert b"Traceback" not in done.stderr + done.stdout
    assert said.strip().count("\n") == 0, said
    return said


def test_the_processes_start_from_a_folder_that_has_an_api_of_its_own(tmp_path: Path, valkey: Server) -> None:
    for name in ("api", "worker", "shared", "cli"):
        (tmp_path / name).mkdir()
        for file in ("__init__", "__main__"):
            (tmp_path / name / f"{file}.py").write_text("raise SystemExit('not this one')")
    port = free_port()
    (tmp_path / ".env").write_text(f"HEADRACE_PORT={port}\nHEADRACE_REDIS_URL={valkey.url}\n")
    env = base_env()
    del env["PYTHONPATH"]
    with Child("one", [HEADRACE, "api"], env, tmp_path) as api, Child("two", [HEADRACE, "worker"], env, tmp_path):
        api.wait_ready(lambda: http_ok(f"http://127.0.0.1:{port}/readyz/viewers"))
        wait_until(lambda: http_ok(f"http://127.0.0.1:{port}/readyz/creates"), what="a worker")


def test_the_version_is_told(tmp_path: Path) -> None:
    env = base_env()
    del env["PYTHONPATH"]
    told = subprocess.run(
        [HEADRACE, "--version"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert told.stdout == f"headrace {VERSION}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_broken_env_file_is_a_sentence(tmp_path: Path, command: str) -> None:
    file = tmp_path / ".env"
    file.write_text("A=1\nOPENAI_API_KEY='sk-open\n")
    said = sentence(command, tmp_path)
    assert "line 2" in said
    assert "sk-open" not in said
    file.write_bytes(b"A=\xff\xfe\n")
    assert "UTF-8" in sentence(command, tmp_path)
    file.unlink()
    file.mkdir()
    assert "directory" in sentence(command, tmp_path)


@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "cli chat hello"])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://box", "begins with none of"),
        ("redis://box:99999", "port"),
        ("rediss://box?ssl_ca_certs=/no/such.pem", "ssl_ca_certs can't be used: /no/such.pem"),
    ],
)
def test_a_url_that_is_none_is_a_sentence(tmp_path: Path, command: str, url: str, why: str) -> None:
    assert why in sentence(command, tmp_path, HEADRACE_REDIS_URL=url)


def test_a_key_is_made_beside_a_broken_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff")
    assert ended("cli key new me", tmp_path).returncode == 0


def test_certificates_that_are_missing_are_a_sentence(tmp_path: Path, valkey: Server) -> None:
    done = ended("cli worker", tmp_path, HEADRACE_REDIS_URL=valkey.url, SSL_CERT_FILE="/no/such.pem")
    assert done.returncode == 1
    assert b"/no/such.pem" in done.stderr.splitlines()[-1]
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_env_file_of_somebody_else_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").touch(mode=0)
    assert "Permission denied" in sentence("api", tmp_path)
