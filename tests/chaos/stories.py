"""What is asked in a chaos run: scripts for the provider, and what becomes of each, from a seed. Pure."""

import json
import random
from dataclasses import dataclass
from typing import Any

PROVIDER_FAULTS: dict[str, dict[str, Any]] = {
    "silent before the first token": {"hang_before_first": True},
    "silent in mid-answer": {"hang_after": 12},
    "cut in mid-answer": {"cut_after": 15},
    "ends without a finish reason": {"end_after": 10},
    "garbage": {"garbage_after": 9},
    "error event": {"error_after": 11},
    "429 with Retry-After": {"status": 429, "retry_after": 1},
    "503": {"status": 503},
}
ODDITIES: tuple[dict[str, Any], ...] = (
    {"no_done": True},
    {"double_done": True},
    {"chunk_bytes": 7},
    {"chunk_bytes": 1, "tokens": 25},
    {"reasoning_tokens": 8},
    {"tool_call": True},
    {"linger_ms": 300},
)


@dataclass(frozen=True)
class Story:
    """One stream to be: the provider's script, the create call, and how long after it a cancel comes (s)."""

    name: str
    script: dict[str, Any]
    on_failure: str
    viewers: tuple[str, ...]
    cancel_after_s: float | None
    fault: str | None

    def body(self) -> dict[str, Any]:
        return {"prompt": json.dumps(self.script), "on_failure": self.on_failure}


def story(seed: str, number: int, on_failure: tuple[str, ...]) -> Story:
    """Story number ``number`` of this seed."""
    rng = random.Random(f"{seed}/story/{number}")
    name = f"s{number}"
    script: dict[str, Any] = {
        "name": name,
        "numbered": True,
        "seed": number,
        "tokens": rng.choice((25, 60, 100, 150, 250)),
        "interval_ms": rng.choice((5, 15, 30, 50)),
    }
    if rng.random() < 0.3:
        script |= rng.choice(ODDITIES)
    fault = rng.choice(list(PROVIDER_FAULTS)) if rng.random() < 0.2 else None
    if fault:
        script |= {**PROVIDER_FAULTS[fault], "fail_times": rng.choice((1, 1, 2))}
    habits = ["steady", "dropping", *rng.choices(("steady", "dropping", "late", "slow"), k=rng.choice((1, 2, 3)))]
    return Story(
        name,
        script,
        rng.choice(on_failure) if rng.random() < 0.9 else "fail",
        tuple(habits),
        rng.uniform(0, 2) if rng.random() < 0.15 else None,
        fault,
    )
