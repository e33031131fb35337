"""Links to a stream, with a read token in ``events_url`` where keys are set (see
:mod:`shared.protocol.read_token`).

A token opens the events route of its stream and nothing else; even the record needs the key. A viewer renews it by
asking for a new link. Its cursor is not part of the token (it stands in the URL or in a header), so nothing is
lost.

Theory of operation. One round trip brings all that a check needs: the record's fields, and the log's first entry
from the viewer's cursor on. Until a token expires, it lets every viewer in. After that it lets in only a viewer
that comes back, for a bounded time. The proof is the viewer's cursor, which must be an event of this stream. It is
one if that entry is the event itself, or a later one of the same epoch: an epoch's events have no holes
(:mod:`shared.store.log`), so the cursor's own event existed, and was trimmed. All other cursors prove nothing: an
invented epoch, a number ahead of the log, and an epoch without any entry left (its viewer must get a new token).
"""

import time
from collections.abc import Awaitable, Callable

from api.http.problems import Problem, no_such_stream
from shared.config.settings import Settings
from shared.protocol.cursor import Cursor, is_stream_id
from shared.protocol.read_token import TokenExpired, TokenInvalid, check_token, sign_token
from shared.store.streams import Streams


class ReadLinks:
    """Signs and checks read tokens; the secret is fetched when it is first needed."""

    def __init__(
        self,
        settings: Settings,
        secret: Callable[[], Awaitable[bytes]],
        streams: Streams,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock``: s since 1970."""
        self._needed = bool(settings.keys)
        self._life_s = settings.token_life_s
        # The longest life of a stream, and the time for which its events stay after its end.
        self._grace_s = settings.max_stream_s + settings.retention_s
        self._secret = secret
        self._streams = streams
        self._clock = clock

    async def links(self, stream_id: str, created_ms: int, prefix: str) -> dict[str, str]:
        """The links to the stream with this id and time of creation (ms, from its record). ``prefix``: the path
        under which the caller sees the server (see :mod:`api.http.prefix`)."""
        url = f"{prefix}/v1/streams/{stream_id}"
        found = {"events_url": f"{url}/events", "url": url}
        if self._needed:
            expires_s = int(self._clock() + self._life_s)
            token = sign_token(await self._secret(), stream_id, created_ms, expires_s)
            found["events_url"] += f"?token={token}"
        return found

    def expires_in_s(self) -> float | None:
        """The life of a token that is made now (s); None where no token is needed."""
        return self._life_s if self._needed else None

    async def fields(self, stream_id: str, token: str, cursor: Cursor | None, *names: str) -> list[str | None]:
        """Check a viewer's token. Out: these fields of the stream's record. ``cursor``: of a returning viewer.

        Raises :class:`Problem`: 401 for an expired token or one of another stream, 404 for an unknown stream.
        """
        if not is_stream_id(stream_id):
            raise no_such_stream()
        (created_ms, *found), entry = await self._streams.fields_from(stream_id, cursor, "created_ms", *names)
        if created_ms is None:
            raise no_such_stream()
        returning = cursor is not None and entry is not None and entry.epoch == cursor.epoch
        grace_s = self._grace_s if returning else 0
        headers = {"WWW-Authenticate": 'Bearer realm="headrace"'}
        try:
            check_token(await self._secret(), stream_id, int(created_ms), token, self._clock(), grace_s)
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
        return found
