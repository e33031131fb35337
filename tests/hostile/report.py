"""What a run tells: one table, and the violations in words."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.hostile.run import Result

SHOWN_OUTCOMES = 3
KINDS = ("api", "worker", "redis")


def print_table(results: Sequence[Result], console: Console) -> None:
    """A row for each attack."""
    table = Table(title="hostile: each attack, and what the bystander and the processes felt")
    for name, justify in (
        ("attack", "left"),
        ("s", "right"),
        ("gap ms", "right"),
        ("create", "right"),
        ("1st token", "right"),
        ("late", "right"),
        ("CPU", "right"),
        *((f"{kind} MB", "right") for kind in KINDS),
        ("outcomes", "left"),
        ("", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for result in results:
        seen = result.watched
        table.add_row(
            result.attack.name,
            f"{result.seconds:.1f}",
            *(f"{seconds * 1000:.0f}" for seconds in (seen.gap, seen.create, seen.first, seen.late)),
            f"{result.share:.0%}",
            *(_growth(result, kind) for kind in KINDS),
            _outcomes(result),
            "[red]violated" if result.violations else "[green]held",
        )
    console.print(table)


def _growth(result: Result, kind: str) -> str:
    """Of the process of this kind that grew most, and its bound."""
    found = [(grown, most) for name, (grown, most) in result.growth.items() if name.startswith(kind)]
    return "{:.0f}/{}".format(*max(found)) if found else "gone"


def _outcomes(result: Result) -> str:
    common = result.told.outcomes.most_common()
    told = [f"{count}x {name}" for name, count in common[:SHOWN_OUTCOMES]]
    if more := len(common) - SHOWN_OUTCOMES:
        told += [f"{more} more"] if more > 0 else []
    return ", ".join([*told, *result.told.figures]) or "-"


def print_violations(results: Sequence[Result], console: Console) -> None:
    """Each violation, in words."""
    for result in results:
        for text in result.violations:
            console.print(f"{result.attack.name}: {text}", markup=False, highlight=False)
    count = sum(len(result.violations) for result in results)
    console.print(f"{len(results)} attacks, {count} violations.", highlight=False)
