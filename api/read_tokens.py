"""Links to a stream, with a read token in ``events_url`` where keys are set (see :mod:`shared.tokens`).

A token opens the events route of its stream and nothing else; the record, too, needs the key. It is renewed by
asking for a new link; a viewer's cursor stands beside the token in the URL or in a header, so nothing is lost.
"""

import time
from collections.abc import Awaitable, Callable

from api.answers import links
from api.problems import Problem
from shared.settings import Settings
from shared.tokens import TokenExpired, TokenInvalid, check_token, sign_token


class ReadTokens:
    """Signs and checks; the secret is asked for when it is first needed."""

    def __init__(self, settings: Settings, secret: Callable[[], Awaitable[bytes]]) -> None:
        self._needed = bool(settings.keys)
        self._life_s = settings.token_life_s
        # A stream may run for so long, and its events stay for so long behind its end.
        self._grace_s = settings.max_stream_s + settings.retention_s
        self._secret = secret

    async def links(self, stream_id: str) -> dict[str, str]:
        """Where a stream is found."""
        found = links(stream_id)
        if self._needed:
            token = sign_token(await self._secret(), stream_id, self._expires_s())
            found["events_url"] += f"?token={token}"
        return found

    def expires_in_s(self) -> float | None:
        """Life of a token made now; None where none is needed."""
        return self._life_s if self._needed else None

    async def check(self, stream_id: str, token: str | None, *, returning: bool) -> None:
        """Let a viewer in, or raise :class:`Problem` (401). ``returning``: it comes back with a cursor."""
        headers = {"WWW-Authenticate": 'Bearer realm="headrace"'}
        try:
            check_token(
                await self._secret(), stream_id, token or "", time.time(), self._grace_s if returning else 0
            )
        except TokenInvalid:
            raise Problem(
                401,
                "token_invalid",
                "This is no read token of this stream. Take events_url from the create call as it is.",
                headers=headers,
            ) from None
        except TokenExpired:
            raise Problem(
                401,
                "token_expired",
                f"The read token has expired. POST /v1/streams/{stream_id}/token gives a new one.",
                headers=headers,
            ) from None

    def _expires_s(self) -> int:
        return int(time.time() + self._life_s)
