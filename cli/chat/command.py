"""`headrace chat` and `headrace tail`: one answer on the screen or in a pipe, and a conversation of several.

Theory of operation. One task reads the answer and shows it; signals are handled beside it. When a person or an
error ends the watching, the stream on the server goes on, unless the person chose to stop it. The last words then
say how to find the stream again. After a stop, the command keeps reading until the log's ``cancelled``, so the end
that it shows is the log's.
"""

import asyncio
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rich.console import Console
from rich.text import Text

from cli.chat.answer_state import AnswerState
from cli.chat.api_client import ApiClient, open_http
from cli.chat.blocks import harmless
from cli.chat.interrupt import LEAVING, ask, signals
from cli.chat.pipes import checked
from cli.chat.views import AnswerReplaced, View
from cli.errors import NoAnswer

DEFAULT_URL: Final = "http://127.0.0.1:8000"
STOPPED_WITHIN_S: Final = 10.0
"""How long a stop may take. A cancel ends the log at once; the rest is for the network, with one reconnect."""

Ending = Literal["done", "failed", "stopped", "detached"]
EXIT_CODES: Final[dict[Ending, int]] = {"done": 0, "failed": 1, "detached": 3, "stopped": 130}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server's URL, and the key for it."""

    url: str
    key: str = field(repr=False)

    def tail(self, stream_id: str) -> str:
        """The command that finds a stream again."""
        url = "" if self.url == DEFAULT_URL else f" --url {shlex.quote(self.url)}"
        # Some ids begin with a hyphen, which would be read as an option.
        return f"headrace tail{url} {'-- ' if stream_id.startswith('-') else ''}{stream_id}"


@dataclass(slots=True)
class Watching:
    """Creates or finds streams, and shows each answer to its end."""

    server: ServerAddress
    view: Callable[[], View]
    notes: Console
    may_ask: bool
    """Whether there is a person at a terminal who can answer a question."""

    async def watch(
        self, body: dict[str, Any] | None, stream_id: str = "", cursor: str = ""
    ) -> tuple[Ending, AnswerState]:
        """Show one answer: of a new stream for ``body``, or of the stream ``stream_id`` after ``cursor``.

        Out: how the watching ended, and what is known of the answer. Raises :class:`NoAnswer`.
        """
        answer, view = AnswerState(), self.view()
        answer.cursor = cursor
        with signals() as received:
            view.start()
            try:
                async with open_http(self.server.url, self.server.key) as http:
                    api = ApiClient(http, view.waiting)
                    if body is not None:
                        made = await _unless_signalled(api.create(body), received)
                        if made is None:
                            view.end(None)
                            return "stopped", answer
                        stream_id = made
                    ending = await self._follow(api, stream_id, answer, view, received)
                view.end(answer)
            except AnswerReplaced:
                view.end(None)
                raise NoAnswer(
                    "The answer started over, so the text that was written is not the answer. Get all of it: "
                    + self.server.tail(stream_id)
                ) from None
            except NoAnswer as error:
                view.end(None)
                more = f"\nThe answer may still go on: {self.server.tail(stream_id)}" if answer.attempt else ""
                raise NoAnswer(f"{error}{more}") from None
            finally:
                view.end(None)
        if ending == "detached":
            self.say(f"Detached; the answer goes on. Come back to it:\n  {self.server.tail(stream_id)}")
        return ending, answer

    async def _follow(
        self,
        api: ApiClient,
        stream_id: str,
        answer: AnswerState,
        view: View,
        received: "asyncio.Queue[signal.Signals]",
    ) -> Ending:
        reading = asyncio.create_task(_read(api, stream_id, answer, view))
        stopping = False
        try:
            while not reading.done():
                signalled = asyncio.ensure_future(received.get())
                within_s = STOPPED_WITHIN_S if stopping else None
                await asyncio.wait({reading, signalled}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    signalled.cancel()
                    break
                if stopping or not signalled.done() or not self.may_ask or signalled.result() in LEAVING:
                    signalled.cancel()
                    return "detached"
                view.pause()
                choice = await ask(received)
                if choice == "detach":
                    return "detached"
                view.start()
                if choice == "stop" and not reading.done():
                    stopping = await self._stop(api, stream_id)
            reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return {"done": "done", "cancelled": "stopped"}.get(answer.ending, "failed")  # type: ignore[return-value]

    async def _stop(self, api: ApiClient, stream_id: str) -> bool:
        try:
            await api.stop(stream_id)
        except NoAnswer as error:
            self.say(f"The answer could not be stopped: {error}")
            return False
        return True

    def say(self, text: str, style: str = "") -> None:
        """Print a note for people, on stderr."""
        self.notes.print(Text(harmless(text), style=style), soft_wrap=True, highlight=False)


async def _read(api: ApiClient, stream_id: str, answer: AnswerState, view: View) -> None:
    async for change in api.changes(stream_id, answer):
        view.show(change)


async def _unless_signalled(creating: Any, received: "asyncio.Queue[signal.Signals]") -> str | None:
    """The created stream's id; None if a signal came first."""
    made, signalled = asyncio.ensure_future(creating), asyncio.ensure_future(received.get())
    try:
        await asyncio.wait({made, signalled}, return_when=asyncio.FIRST_COMPLETED)
        return str(made.result()) if made.done() else None
    finally:
        signalled.cancel()
        made.cancel()
        await asyncio.gather(made, signalled, return_exceptions=True)


def converse(watching: Watching, model: str, turns: list[dict[str, str]]) -> Ending:
    """Ask questions from the terminal until /quit or Ctrl-D. Each is sent with the earlier turns.

    ``turns``: the first turns (the system's). Out: ``done``, or ``detached``.
    """
    import readline  # noqa: F401 - gives input() line editing

    watching.say("Ask something. /quit or Ctrl-D leaves.", "dim")
    while True:
        try:
            text = input("› ").strip()
        except KeyboardInterrupt:
            watching.say("\n/quit or Ctrl-D leaves.", "dim")
            continue
        except EOFError:
            print(file=sys.stderr)
            return "done"
        if text == "/quit":
            return "done"
        if not text:
            continue
        try:
            question = {"role": "user", "content": checked(text)}
            ending, answer = asyncio.run(watching.watch(request(model, [*turns, question])))
        except NoAnswer as error:
            watching.say(str(error), "red")
            continue
        if ending == "detached":
            return ending
        # A failed question is not kept: it has no answer, and asking again would send it twice.
        if answer.transcript.text.strip() and ending != "failed":
            turns += [question, {"role": "assistant", "content": answer.transcript.text}]


def request(model: str, turns: list[dict[str, str]]) -> dict[str, Any]:
    """The body of a create call."""
    return {"messages": turns, **({"model": model} if model else {})}
