"""The short form of `make hostile`: attacks that take a moment (:mod:`tests.hostile`)."""

import asyncio
from pathlib import Path

from rich.console import Console

from tests.hostile.attack import Attack, Told
from tests.hostile.report import print_table
from tests.hostile.run import chosen, run_hostile
from tests.hostile.world import World

GAP_S = 2.0
"""Other tests run beside this one, so it tells what stops for seconds; `make hostile` tells what stops for less."""
STOPPED_S = 3.0


async def test_an_attack_harms_nobody_beside_it(tmp_path: Path) -> None:
    attacks = chosen(short=True)
    results = await run_hostile(tmp_path, attacks, gap_s=GAP_S)
    print_table(results, Console(width=160))
    # A run in which nothing happened proves nothing.
    assert {result.attack.name for result in results} == {attack.name for attack in attacks}
    assert [result.attack.name for result in results if not result.told.outcomes] == []
    assert all(result.watched.tokens and result.watched.probes for result in results)
    assert [f"{result.attack.name}: {text}" for result in results for text in result.violations] == []


async def stop_the_api(world: World, told: Told) -> None:
    world.stack.apis[0].pause()
    await asyncio.sleep(STOPPED_S)
    world.stack.apis[0].resume()
    told.outcomes["200"] += 1


async def test_the_bystander_notices_an_api_that_stands_still(tmp_path: Path) -> None:
    attack = Attack("an API that stands still", stop_the_api, refused=("403",), growth_mb={"redis": -1})
    # On a busy machine a wait counts by a quarter.
    (result,) = await run_hostile(tmp_path, [attack], gap_s=STOPPED_S / 8)
    assert result.slow
    assert result.watched.gap > STOPPED_S / 2
    assert len(result.wrong) == 3, "no refusal, an outcome that must not be, and a process that grew"
