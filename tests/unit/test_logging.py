"""Log lines that can't be written are dropped and counted, and never an error."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.process.logging import LogOutput
from tests.support.processes import ROOT

SAYS = """
import logging, sys, structlog
from shared.process.logging import configure_logs
output = configure_logs("info", "%s")
structlog.get_logger("test").info("said", number=1)
logging.getLogger("library").warning("a library")
try:
    raise ValueError("traced")
except ValueError:
    structlog.get_logger("test").exception("broke")
    logging.getLogger("library").exception("broke too")
print(output.dropped)
"""


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("stderr", ["full", "closed"])
def test_neither_a_full_disk_nor_a_closed_descriptor_is_an_error(form: str, stderr: str) -> None:
    where = "2>/dev/full" if stderr == "full" else "2>&-"
    said = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {where}', sys.executable, SAYS % form],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert said.returncode == 0
    # What was closed is open on nothing, so nothing is dropped there.
    assert (int(said.stdout) >= 4) == (stderr == "full")


def test_everything_is_json_where_that_is_asked_for() -> None:
    said = subprocess.run(
        [sys.executable, "-c", SAYS % "json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lines = [json.loads(line) for line in said.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["said", "a library", "broke", "broke too"]
    assert "traced" in lines[2]["exception"]
    assert "traced" in lines[3]["exception"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_dropped_lines_are_told_when_there_is_room_again(tmp_path: Path, form: str) -> None:
    full, room = os.open("/dev/full", os.O_WRONLY), os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    place = os.dup(full)
    try:
        output = LogOutput(form, place)
        output.write("one\n")
        output.write("two\n")
        os.dup2(room, place)
        output.write("three\n")
        output.write("four\n")
    finally:
        for descriptor in (full, room, place):
            os.close(descriptor)
    assert output.dropped == 2
    told, *rest = (tmp_path / "log").read_text().splitlines()
    assert "2" in told
    assert "dropped" in told
    assert rest == ["three", "four"]
    assert form == "text" or json.loads(told)["count"] == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_control_characters_of_a_value_do_not_reach_the_log(form: str) -> None:
    script = (
        "import structlog; from shared.process.logging import configure_logs; "
        f"configure_logs('info', {form!r}); "
        "structlog.get_logger().info('said', path='/a\\x00\\x1b[2J\\nfake', word='é\\x9b31m')"
    )
    ended = subprocess.run((sys.executable, "-c", script), capture_output=True, check=True, timeout=60)
    (line,) = ended.stderr.splitlines()
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", line)
    assert "é" in line.decode() or "\\u00e9" in line.decode()
    assert "\x9b" not in line.decode()
