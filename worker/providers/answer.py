"""One open answer of a provider: reads of bytes in, events of the common vocabulary out.

Theory of operation. An answer is whole when its finish reason was read: whatever ends it before that is an
error; after it nothing is. What still comes then (usage, the end mark) is waited for a short time only.
After the end mark the rest of the body is read and ignored, for a moment, because only a body read to
its end leaves a connection that the next request can use.

Events are told in the very call that reads them (see :mod:`worker.providers.upstream`): at once, or when it is the
turn of whoever hears them. Who hears them may ask to be told no more for now: then what else the same read brought
waits here, nothing is read, and TCP holds the provider.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from shared.providers import Provider
from shared.sse import ServerSentEvent, SseError, SseParser
from worker.providers import failures
from worker.providers.base import End, Finish, ProviderError, ProviderEvent, Reader, Said
from worker.providers.body import inflater
from worker.providers.patience import Patience
from worker.providers.upstream import Head
from worker.providers.upstreams import Lent

USAGE_WAIT_S: Final = 5.0
"""Usage comes right behind the finish reason; past this a provider that never closes sends none."""
LINGER_S: Final = 0.2
"""The end of the body comes with the end mark; a new connection costs less than waiting longer."""

Hear = Callable[[ProviderEvent], bool]
"""Takes one event; True asks to be told no more for now."""
Ready = Callable[[], object]
"""Learns that there is something to :meth:`Answer.read`."""


def _nobody() -> None:
    """Who waits for nothing is told nothing."""


class Answer:
    """A stream of events whose head is there; ``close`` it whatever happens."""

    def __init__(
        self, provider: Provider, reader: Reader, lent: Lent, head: Head, left_s: float, idle_s: float
    ) -> None:
        """``left_s``: how long the first token may still take; ``idle_s``: the longest silence between tokens."""
        self._provider = provider
        self._reader = reader
        self._lent = lent
        self._idle_s = idle_s
        self._patience = Patience(left_s, self._has_unread, self._silent)
        self._parser = SseParser()
        self._inflate = inflater(head)
        self._rest: Iterator[ProviderEvent] | None = None
        self.ready: Ready = _nobody
        """See :class:`worker.providers.upstream.Listener`."""
        self._hear: Hear | None = None
        self._turn: asyncio.Future[bool] | None = None
        self._heard = False
        self._said = self._says = False
        self._finished = False
        self._over = False
        self._ended = False

    async def tell(self, hear: Hear, ready: Ready | None = None) -> bool:
        """Hand out events, as they come; with ``ready`` only when :meth:`read` is called, and ``ready`` says when
        there is something. Out: True at the end, after exactly one ``Finish``; False as soon as ``hear`` asked for
        a pause: call it again to go on.

        Raises :class:`ProviderError`, behind all that came before the fault.
        """
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._turn, self._hear, self.ready = turn, hear, ready or self.read
        self._patience.begin()
        try:
            if self._rest is not None:
                self.ready()
            elif self._heard:
                self._lent.upstream.resume()
            else:
                self._heard = True
                self._lent.upstream.listen(self)
            return await turn
        finally:
            self._turn = self._hear = None
            self.ready = _nobody
            self._patience.hold()

    def read(self) -> None:
        """Tell what has come. Nobody is told anything but while :meth:`tell` runs."""
        turn = self._turn
        if turn is None or turn.done():
            return
        if self._rest is None:
            held = self._lent.upstream.read()
        else:
            held = True
            self._tell(self._rest)
            if not turn.done():
                self._lent.upstream.resume()
        if self._says:
            self._said, self._says = True, False
            if not self._finished:
                self._patience.reset(self._idle_s)
        elif not held:
            self._patience.nothing_new()
        elif not turn.done():
            self._patience.begin()  # only from now on is the provider waited for

    def close(self) -> None:
        """Let go of the connection at once: kept if the body was read to its end, closed otherwise."""
        self._patience.close()
        self._lent.close()

    # -- from the connection ------------------------------------------------------------------------

    def take(self, chunk: bytes) -> None:
        """See :class:`worker.providers.upstream.Listener`."""
        if self._inflate is not None:
            try:
                chunk = self._inflate(chunk)
            except zlib.error:
                self._fail(failures.garbage(self._provider, "in an encoding that can't be read"))
                return
        bare = self._parser.bare(chunk)
        if not bare:
            self._tell(self._meanings(self._parser.feed(chunk)))
        elif self._over or (said := self._reader.texts(bare)) is None:
            self._tell(self._meanings(self._parser.messages(bare)))
        elif said:
            self._says = True
            self._tell(map(Said, said))

    def end(self, *, cut: bool) -> None:
        """See :class:`worker.providers.upstream.Listener`."""
        last = None if cut else self._parser.finish()
        self._tell(self._meanings(() if last is None else (last,), at_end=True))

    # -- telling ------------------------------------------------------------------------------------

    def _tell(self, events: Iterator[ProviderEvent]) -> None:
        hear = self._hear
        assert hear is not None
        try:
            for event in events:
                if hear(event):
                    self._rest = events
                    self._lent.upstream.pause()
                    self._settle(ended=False)
                    return
        except Exception as error:
            self._fail(error)
            return
        self._rest = None
        if self._ended:
            self._lent.upstream.pause()
            self._settle(ended=True)

    def _meanings(self, events: Iterable[ServerSentEvent], *, at_end: bool = False) -> Iterator[ProviderEvent]:
        """What events mean, piece by piece. Raises ProviderError at the place where it went wrong."""
        try:
            for event in events:
                if self._over:
                    continue
                for meaning in self._reader.read(event):
                    if isinstance(meaning, Said):
                        self._says = True
                        yield meaning
                    elif self._is_news(meaning):
                        yield meaning
        except SseError:
            if not self._finished:
                raise failures.too_large(self._provider) from None
            self._ended = True
        except ProviderError:
            if not self._finished:
                raise
        if at_end:
            if not self._finished:
                raise failures.upstream_cut(self._provider)
            self._ended = True

    def _is_news(self, meaning: ProviderEvent) -> bool:
        if isinstance(meaning, Finish):
            if self._finished:  # some gateways repeat it beside the usage
                return False
            self._finished = True
            self._patience.reset(USAGE_WAIT_S)
        elif isinstance(meaning, End):
            if not self._finished:
                raise failures.upstream_cut(self._provider)
            self._over = True
            self._patience.reset(LINGER_S)
        return True

    def _has_unread(self) -> bool:
        return self._rest is not None or self._lent.upstream.has_unread

    def _silent(self) -> None:
        """The provider's time is over."""
        if self._finished:
            self._ended = True
            self._settle(ended=True)
        elif self._said:
            self._fail(failures.upstream_silent(self._provider))
        else:
            self._fail(failures.first_token_timeout(self._provider))

    def _fail(self, error: Exception) -> None:
        self._lent.upstream.pause()
        if isinstance(error, ProviderError):
            error = failures.cleaned(error, self._provider.api_key)
        if self._turn is not None and not self._turn.done():
            self._turn.set_exception(error)

    def _settle(self, *, ended: bool) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(ended)
