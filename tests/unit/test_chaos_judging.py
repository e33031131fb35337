"""The chaos run judges right: what each promise allows, and what a disk holds when the plug is pulled."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.chaos.invariant import AGAIN, FORGOTTEN, GONE, Facts, judge, judge_weak
from tests.chaos.power import Power, synced
from tests.chaos.stories import Story
from tests.chaos.viewer import Answer, Seen, Viewer
from tests.support.processes import start_server
from tests.support.script import script_text
from tests.support.scripted_answer import Call

SCRIPT: dict[str, Any] = {"name": "s1", "numbered": True, "seed": 1, "tokens": 5}
CALLS = [Call("s1", number, 0.0, sent=5) for number in (1, 2)]


def whole(call: int) -> str:
    return script_text(SCRIPT, call)


def viewer(text: str, *events: tuple[str, str], status: int = 200) -> Viewer:
    """One that saw these events (kind, id), and has this text."""
    seen = [
        Seen(float(at), 1, event_id, kind, {"code": "x", "after": ""} if kind == "failed" else {})
        for at, (kind, event_id) in enumerate(events)
    ]
    return Viewer("steady", Answer(text), seen, status, 1)


def record(status: str, last: str, text: str) -> dict[str, Any]:
    return {"status": status, "last_event_id": last, "text": text, "error": {"code": "x"}}


def facts(record: dict[str, Any] | None, *viewers: Viewer, cancelled: bool = False) -> Facts:
    story = Story("s1", SCRIPT, "restart", (), 1.0 if cancelled else None, None)
    return Facts(story, viewers, record, CALLS, cancelled)


FIRST = (("started", "7-0"), ("message", "7-1"), ("done", "7-2"))
SECOND = (("started", "9-0"), ("message", "9-1"), ("done", "9-2"))


def test_a_stream_as_it_should_be_is_right_by_both() -> None:
    seen = facts(record("done", "7-2", whole(1)), viewer(whole(1), *FIRST))
    assert judge(seen) == []
    assert judge_weak(seen) == ([], [])


@pytest.mark.parametrize(
    ("seen", "lost"),
    [
        (facts(None, viewer("", status=404)), GONE),
        (facts(record("done", "9-2", whole(2)), viewer(whole(1), *FIRST), viewer(whole(2), *SECOND)), AGAIN),
        (facts(record("done", "9-2", whole(2)), viewer(whole(2), *SECOND), cancelled=True), FORGOTTEN),
    ],
    ids=["gone", "again", "forgotten"],
)
def test_a_forgotten_write_is_counted_and_breaks_the_stronger_promise(seen: Facts, lost: str) -> None:
    assert judge(seen)
    assert judge_weak(seen) == ([], [lost])


@pytest.mark.parametrize(
    "seen",
    [
        facts(record("done", "7-2", whole(1)), viewer(whole(2), *FIRST)),
        facts(record("done", "9-2", whole(2)), viewer(whole(1)[:-3] + whole(2)[-3:], *FIRST)),
        facts(record("done", "9-2", whole(2)), viewer(whole(1) + whole(2), *FIRST)),
        facts(record("done", "7-2", whole(1)), viewer(whole(1)[:9], *FIRST[:2])),
        facts(record("done", "7-2", whole(1)), viewer(whole(1), FIRST[0], FIRST[2])),
        facts(record("done", "7-2", whole(1) * 2), viewer(whole(1) * 2, *FIRST)),
        facts(None, viewer("what nobody said", FIRST[0], status=404)),
    ],
    ids=["another text", "mixed", "doubled", "no end", "a hole", "a doubled record", "invented"],
)
def test_a_fault_that_no_server_excuses_is_wrong_by_both_promises(seen: Facts) -> None:
    assert judge(seen)
    assert judge_weak(seen)[0]


def test_the_ledger_follows_renames_and_cuts() -> None:
    lines = ["S 88 temp.manifest", "R temp.manifest manifest", "S 50 1.incr", "S 90 1.incr", "S 70 1.incr"]
    assert synced("\n".join(lines)) == {"manifest": 88, "1.incr": 90}
    assert synced("\n".join([*lines, "T 60 1.incr", "S 65 1.incr", "T 9 2.incr"]))["1.incr"] == 65
    assert synced("\n".join([*lines, "S 95 1.incr (deleted)"]))["1.incr"] == 90


@pytest.mark.parametrize(("appendfsync", "kept"), [("always", 3), ("no", 0)])
def test_a_server_whose_plug_is_pulled_has_what_was_synced(tmp_path: Path, appendfsync: str, kept: int) -> None:
    if not shutil.which("gcc") and not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    power = Power(tmp_path)
    with start_server(tmp_path, env=power.env, appendfsync=appendfsync) as server:
        with Redis(port=server.port) as redis:
            for number in range(3):
                redis.set(f"key-{number}", number)
        server.kill()
        sizes = {path.name: path.stat().st_size for path in (tmp_path / "appendonlydir").iterdir()}
        power.cut(_Never())
        server.start_again()
        with Redis(port=server.port) as redis:
            assert redis.dbsize() == kept
        assert (
            os.path.getsize(tmp_path / "appendonlydir" / "appendonly.aof.manifest")
            == sizes["appendonly.aof.manifest"]
        )


class _Never(random.Random):
    """Every cut is at the last sync."""

    def random(self) -> float:
        return 1.0
