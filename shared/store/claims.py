"""The result of a claim. Pure, no I/O."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """The result of a claim. ``outcome``: run, look, end, leased, ended or gone.

    ``run``: ``opening``, ``epoch``, ``attempt``, ``tries_left``, ``queued_ms``, ``request`` and ``nonce`` are set.
    The attempt's opening entry carries the nonce. ``look``: ``seen`` (the log's last id) and ``request`` are set.
    Read the log, decide how to go on, and claim again. ``end``: ``why``, ``epoch`` and ``attempt`` are set.
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
    nonce: bytes = b""


def read_claim(raw: bytes, extra: bytes, nonce: str) -> Claim:
    """Decode the reply of ``claim.lua`` to a call with this nonce."""
    match raw.decode().split():
        case ["run", opening, epoch, attempt, left, created, now]:
            queued_ms = max(0, int(now) - int(created))  # the clock may have gone back
            return Claim(
                "run", opening, "", int(epoch), int(attempt), int(left), queued_ms, extra, nonce=nonce.encode()
            )
        case ["look", last_id]:
            return Claim("look", seen=last_id, request=extra)
        case ["end", why, epoch, attempt]:
            return Claim("end", why=why, epoch=int(epoch), attempt=int(attempt))
        case [outcome, *_]:
            return Claim(outcome)
        case _:
            raise AssertionError("the reply of a claim is never empty")
