"""Attacks on what was erased: the text is looked for on the disk, as whoever finds the disk would."""

import asyncio
import time
from pathlib import Path

from tests.hostile.attack import Attack, Told
from tests.hostile.world import SCRIPTED, World

WITHIN_S = 40.0
"""The server's file is rewritten within this time after an erasure, where HEADRACE_REWRITE_S is a second."""
PROMPT, ANSWER = "sesame-prompt-9d1f", "sesame-answer-3c7e"


def _holding(directory: Path, text: str) -> list[str]:
    return [path.name for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def erased_text(world: World, told: Told) -> None:
    """Neither the prompt nor the answer of an erased stream stays in a file."""
    made = await world.create(told, {"text": f"{ANSWER} and more", "name": PROMPT}, model=SCRIPTED)
    await world.until_ended(made["id"], 10)
    directory = world.stack.directory
    # As the log has it: the prompt holds these letters, too.
    told.expect(bool(_holding(directory, f'{{"text":"{ANSWER[:6]}')), "the answer never was in a file")
    await world.mallory.delete(f"/v1/streams/{made['id']}")
    began = time.monotonic()
    while (
        left := _holding(directory, PROMPT) + _holding(directory, ANSWER[:6])
    ) and time.monotonic() < began + WITHIN_S:
        await asyncio.sleep(0.5)
    told.figures.append(f"gone after {time.monotonic() - began:.0f} s")
    told.expect(not left, f"{WITHIN_S:.0f} s after the erasure it is still in {', '.join(left)}")


ATTACKS = (Attack("erased text, looked for on the disk", erased_text, also=("202",), where="tight"),)
