"""The logs that are followed by one process: made for their first viewer, kept a moment behind their last.

A viewer that reconnects, and a storm of viewers that do, find the buffer that is there.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from api.dialects.base import Dialect
from api.follow import Follow
from shared.ids import Cursor
from shared.keys import Keys


class Follows:
    """Follows by stream and dialect."""

    def __init__(
        self, keys: Keys, linger_s: float, made: Callable[[Follow], None], forgotten: Callable[[Follow], None]
    ) -> None:
        """``made`` and ``forgotten`` are told of each follow that comes and goes."""
        self._keys = keys
        self._linger_s = linger_s
        self._made = made
        self._forgotten = forgotten
        self._follows: dict[tuple[str, str], Follow] = {}
        self._by_stream: dict[str, list[Follow]] = {}
        self._lingering: dict[Follow, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._follows)

    def __iter__(self) -> Iterator[Follow]:
        return iter(self._follows.values())

    def of(self, stream_ids: Iterable[str]) -> list[Follow]:
        """All follows of these streams, one for each dialect."""
        known = self._by_stream
        return [follow for one in stream_ids for follow in known.get(one, ())]

    @contextmanager
    def viewed(self, stream_id: str, dialect: Dialect, text_from: Cursor) -> Iterator[Follow]:
        """Follow a log as long as the block lasts, and ``linger_s`` beyond."""
        key = (stream_id, dialect.name)
        follow = self._follows.get(key)
        if follow is None or follow.gone:
            follow = Follow(stream_id, self._keys.log(stream_id).encode(), dialect, text_from)
            self._follows[key] = follow
            self._by_stream.setdefault(stream_id, []).append(follow)
            self._made(follow)
        handle = self._lingering.pop(follow, None)
        if handle is not None:
            handle.cancel()
        follow.viewers += 1
        try:
            yield follow
        finally:
            follow.viewers -= 1
            if not follow.viewers:
                loop = asyncio.get_running_loop()
                self._lingering[follow] = loop.call_later(self._linger_s, self._forget, follow)

    def close(self) -> None:
        """Forget no more (the process ends)."""
        for handle in self._lingering.values():
            handle.cancel()

    def _forget(self, follow: Follow) -> None:
        self._lingering.pop(follow, None)
        if follow.viewers:
            return
        key = (follow.stream_id, follow.dialect.name)
        if self._follows.get(key) is follow:
            del self._follows[key]
        siblings = self._by_stream.get(follow.stream_id, [])
        if follow in siblings:
            siblings.remove(follow)
        if not siblings:
            self._by_stream.pop(follow.stream_id, None)
        self._forgotten(follow)
