"""API keys: who may call, and who owns which streams. Pure, no I/O.

``HEADRACE_API_KEYS`` holds ``NAME:hash`` entries; the hash is the SHA-256 of the secret, in hex. A slow password
hash would gain nothing: the secret is not chosen by a person, it is 256 bits from the system's CSPRNG, and can't be
guessed. It would also let callers wear the server out, by one slow hash for each request. Two entries with the same
name are one owner with two secrets, so a key can be changed without a gap.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

SECRET_BYTES: Final = 32
PREFIX: Final = "hr_"
"""Makes a leaked secret easy to recognise: in a repository, in a log."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class BadApiKeys(ValueError):
    """The entries can't be used. The text names the entry and the fault, without any part that may be a secret."""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """All keys of a deployment. Falsy when there are none: then no caller needs a key."""

    entries: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.entries)

    @property
    def names(self) -> frozenset[str]:
        """The owners: two entries with the same name are one owner."""
        return frozenset(name for name, _ in self.entries)

    def owner(self, secret: str) -> str | None:
        """The owner of this secret; None for an unknown one. Every entry is compared, each in constant time."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        found = None
        for name, known in self.entries:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def parse_api_keys(text: str) -> ApiKeys:
    """Read comma-separated ``NAME:hash`` entries. Raises :class:`BadApiKeys`."""
    # Errors name an entry by its number only: a secret that was put in place of an entry looks like a name.
    entries = []
    for number, entry in enumerate((part.strip() for part in text.split(",")), 1):
        if not entry:
            continue
        name, _, digest = entry.partition(":")
        if not _NAME.fullmatch(name):
            raise BadApiKeys(f"entry {number} has no name of 1 to 64 letters, digits, '_', '.' or '-'")
        if not _DIGEST.fullmatch(digest):
            raise BadApiKeys(
                f"entry {number} is not NAME:hash with the 64 hex digits that "
                "`headrace key new NAME` prints (the hash, not the secret itself)"
            )
        entries.append((name, bytes.fromhex(digest)))
    if text.strip() and not entries:
        raise BadApiKeys("there is no entry in it")
    return ApiKeys(tuple(entries))


def new_api_key(name: str) -> tuple[str, str]:
    """Make a key. Out: the secret, which is stored nowhere, and its entry. Raises :class:`BadApiKeys`."""
    if not _NAME.fullmatch(name):
        raise BadApiKeys("a key's name has 1 to 64 letters, digits, '_', '.' or '-'")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    return secret, f"{name}:{hashlib.sha256(secret.encode()).hexdigest()}"
