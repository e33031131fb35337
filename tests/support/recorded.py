"""Answers of providers as tests/data/providers tells them, and what this code makes of such bytes."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from shared.config.providers import Provider
from shared.protocol.transcript import Transcript
from worker.providers import adapter
from worker.providers.base import GenerationRequest, ProviderError, Usage
from worker.providers.decoder import AnswerLimits, StreamDecoder
from worker.providers.errors import read_error, to_provider_error

DATA = Path(__file__).parents[1] / "data" / "providers"
LIMITS = AnswerLimits(first_token_s=30, idle_s=30, liveness_s=60, max_bytes=16 * 1024 * 1024)
KIND = "text/event-stream"


@dataclass(frozen=True)
class Recorded:
    """One answer: the response's status and body, and what it means (see ``means`` in tests/data/providers)."""

    provider: str
    wire_format: str
    name: str
    body: bytes
    means: dict[str, Any]
    status: int = 200

    @property
    def kind(self) -> str:
        return KIND if self.body.lstrip()[:1] not in b"[{" else "application/json"


@dataclass
class Told:
    """What was read of an answer: its transcript, and how it ended."""

    transcript: Transcript = field(default_factory=Transcript)
    finish: str | None = None
    usage: Usage | None = None
    error: ProviderError | None = None


@cache
def recorded() -> tuple[Recorded, ...]:
    """All answers of all files."""
    found = []
    for path in sorted(DATA.glob("*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        assert table["source"]
        assert table["read_on"]
        found += [
            Recorded(
                path.stem,
                table["wire_format"],
                one["name"],
                one["body"].encode(),
                one["means"],
                one.get("status", 200),
            )
            for one in table["answers"]
        ]
    return tuple(found)


def tell(wire_format: str, reads: list[bytes], *, status: int = 200, kind: str = KIND) -> Told:
    """What these reads of a body mean, up to its end."""
    provider, told = Provider("acme", wire_format, "http://x", ""), Told()
    if status != 200:
        reading = read_error(b"".join(reads), status=status)
        assert reading is not None
        told.error = to_provider_error(reading, provider, "m", status=status)
        return told
    reader = adapter(wire_format).reader(GenerationRequest("m", []))
    answer = StreamDecoder(provider, reader, LIMITS, 0.0, kind=kind)
    for read in reads:
        answer.feed(read, 0.0)
        _take(answer, told)
    answer.feed_eof(0.0, cut=False)
    _take(answer, told)
    return told


def _take(answer: StreamDecoder, told: Told) -> None:
    batch = answer.read()
    for delta in batch.deltas:
        told.transcript.add(delta)
    told.usage = batch.usage or told.usage
    if batch.ended:
        told.finish, told.error = batch.finish, batch.error
