"""What a claim leads to. Pure, no I/O."""

from dataclasses import dataclass

from shared.events import CONTINUED


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim led to. ``outcome``: run, look, end, leased, ended, provisional, settling or gone.

    ``run``: ``opening``, ``epoch``, ``attempt``, ``tries_left``, ``queued_ms`` and ``request`` are set.
    ``seen`` is the id behind which a ``continued`` attempt goes on.
    ``look``: ``seen`` and ``request`` are set; claim again with how to go on.
    ``end``: ``why``, ``epoch`` and ``attempt`` are set, and ``request`` holds the last event's data.
    """

    outcome: str
    opening: str = ""
    why: str = ""
    epoch: int = 0
    attempt: int = 0
    tries_left: int = 0
    queued_ms: int = 0
    request: bytes = b""
    seen: str = ""


def read_claim(raw: bytes, extra: bytes, seen: str) -> Claim:
    """The answer of ``claim.lua``; ``seen`` is the id that it was asked with."""
    match raw.decode().split():
        case ["run", opening, epoch, attempt, left, created, now]:
            queued_ms = int(now) - int(created)
            after = seen if opening == CONTINUED else ""
            return Claim("run", opening, "", int(epoch), int(attempt), int(left), queued_ms, extra, after)
        case ["look", last_id]:
            return Claim("look", seen=last_id, request=extra)
        case ["end", why, epoch, attempt]:
            return Claim("end", why=why, epoch=int(epoch), attempt=int(attempt), request=extra)
        case [outcome, *_]:
            return Claim(outcome)
        case _:
            raise AssertionError("a claim answers something")
