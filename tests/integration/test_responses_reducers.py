"""OpenAI's own libraries add up the events of made-up logs, whole and trimmed, to the same response."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.viewing.viewer import resync
from tests.support.clients import CLIENTS, PYTHON, require_clients
from tests.support.made_logs import ATTEMPTS, log_of, trimmed
from tests.support.made_responses import events, said, spoken
from tests.support.node import FOLDER, node_script

LOGS = 60
WITHIN_S = 60


def bodies() -> tuple[list[str], list[list[dict[str, Any]]]]:
    """Made-up logs as their viewers get them, and the items of each."""
    found: list[str] = []
    outputs: list[list[dict[str, Any]]] = []

    @settings(
        max_examples=LOGS,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(ATTEMPTS, st.data())
    def make(attempts: list[list[Any]], data: st.DataObject) -> None:
        entries = log_of(attempts)
        pieces = said(spoken(), entries)
        as_of = data.draw(st.integers(1, len(entries) - 2))
        first = data.draw(st.integers(1, as_of))
        late = resync(spoken(1), trimmed(entries, as_of), entries[first : as_of + 1])
        whole = b"".join(pieces)
        for body in (whole, late.head + b"".join(pieces[as_of + 1 :])):
            found.append(body.decode())
            outputs.append(events(whole)[-1]["response"]["output"])

    make()
    assert len(found) >= LOGS
    return found, outputs


def check(told: list[dict[str, Any]], outputs: list[list[dict[str, Any]]]) -> None:
    assert len(told) == len(outputs)
    for one, output in zip(told, outputs, strict=True):
        assert one["output"] == output
        texts = {
            item["id"]: item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"]
            for item in output
            if item["type"] != "reasoning"
        }
        assert one["snapshots"] == texts


@pytest.mark.parametrize("library", ["python", "node"])
async def test_a_library_adds_up_the_same(tmp_path: Path, library: str) -> None:
    made, outputs = bodies()
    file = tmp_path / "bodies.json"
    file.write_text(json.dumps(made), encoding="utf-8")
    if library == "python":
        require_clients()
        argv = [str(PYTHON), str(CLIENTS / "responses_reducer.py"), str(file)]
    else:
        node, _ = node_script("openai/package.json")
        argv = [node, str(FOLDER / "responses_reducer.mjs"), str(file)]
    done = await asyncio.to_thread(
        subprocess.run, argv, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check(json.loads(done.stdout), outputs)
