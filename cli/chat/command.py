"""`headrace chat` and `headrace tail`: one answer on the screen or in a pipe, and a conversation of several.

Theory of operation. Reading is a task that shows what comes; beside it stand the signals. Whatever ends the
watching, a person or an error, the stream on the server is not touched by it, unless its stop was chosen: it goes
on, and the last words say how it is found again. A stop is seen through: what is shown as the end is the
``cancelled`` that the log holds.
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
from cli.chat.views import Begun, View
from cli.errors import NoAnswer

DEFAULT_URL: Final = "http://127.0.0.1:8000"
STOPPED_WITHIN_S: Final = 10.0
"""A cancel ends the log at once; the rest is the way here, with a reconnect on it."""

Ending = Literal["done", "failed", "stopped", "detached"]
EXIT_CODES: Final[dict[Ending, int]] = {"done": 0, "failed": 1, "detached": 3, "stopped": 130}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where to ask, with which key."""

    url: str
    key: str = field(repr=False)

    def tail(self, stream_id: str) -> str:
        """The command that finds a stream again."""
        url = "" if self.url == DEFAULT_URL else f" --url {shlex.quote(self.url)}"
        # Some ids begin with a hyphen, which would be an option.
        return f"headrace tail{url} {'-- ' if stream_id.startswith('-') else ''}{stream_id}"


@dataclass(slots=True)
class Watching:
    """Asks for answers, or finds them again, and shows each to its end."""

    server: ServerAddress
    view: Callable[[], View]
    notes: Console
    may_ask: bool
    """Whether a person sits there whom Ctrl-C can ask."""

    async def watch(
        self, body: dict[str, Any] | None, stream_id: str = "", cursor: str = ""
    ) -> tuple[Ending, AnswerState]:
        """Show one answer: to what ``body`` asks for, or of the stream ``stream_id`` behind ``cursor``.

        Out: how it ended, and what is known of it. Raises :class:`NoAnswer`.
        """
        answer, view = AnswerState(), self.view()
        answer.cursor = cursor
        with signals() as got:
            view.start()
            try:
                async with open_http(self.server.url, self.server.key) as http:
                    client = ApiClient(http, view.waiting)
                    if body is not None:
                        made = await _unless_told(client.create(body), got)
                        if made is None:
                            view.end(None)
                            return "stopped", answer
                        stream_id = made
                    ending = await self._follow(client, stream_id, answer, view, got)
                view.end(answer)
            except Begun:
                view.end(None)
                raise NoAnswer(
                    "The answer began anew, so what was written is not it. Get it whole: "
                    + self.server.tail(stream_id)
                ) from None
            except NoAnswer as error:
                view.end(None)
                more = f"\nWhere it may go on: {self.server.tail(stream_id)}" if answer.attempt else ""
                raise NoAnswer(f"{error}{more}") from None
            finally:
                view.end(None)
        if ending == "detached":
            self.say(f"Detached; the answer goes on. Come back to it:\n  {self.server.tail(stream_id)}")
        return ending, answer

    async def _follow(
        self,
        client: ApiClient,
        stream_id: str,
        answer: AnswerState,
        view: View,
        got: "asyncio.Queue[signal.Signals]",
    ) -> Ending:
        reading = asyncio.create_task(_read(client, stream_id, answer, view))
        stopping = False
        try:
            while not reading.done():
                told = asyncio.ensure_future(got.get())
                within_s = STOPPED_WITHIN_S if stopping else None
                await asyncio.wait({reading, told}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    told.cancel()
                    break
                if stopping or not told.done() or not self.may_ask or told.result() in LEAVING:
                    told.cancel()
                    return "detached"
                view.pause()
                choice = await ask(got)
                if choice == "detach":
                    return "detached"
                view.start()
                if choice == "stop" and not reading.done():
                    stopping = await self._stop(client, stream_id)
            reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return {"done": "done", "cancelled": "stopped"}.get(answer.ending, "failed")  # type: ignore[return-value]

    async def _stop(self, client: ApiClient, stream_id: str) -> bool:
        try:
            await client.stop(stream_id)
        except NoAnswer as error:
            self.say(f"It could not be stopped: {error}")
            return False
        return True

    def say(self, text: str, style: str = "") -> None:
        """A note for people, on stderr."""
        self.notes.print(Text(harmless(text), style=style), soft_wrap=True, highlight=False)


async def _read(client: ApiClient, stream_id: str, answer: AnswerState, view: View) -> None:
    async for change in client.changes(stream_id, answer):
        view.show(change)


async def _unless_told(creating: Any, got: "asyncio.Queue[signal.Signals]") -> str | None:
    """The created stream's id; None if a signal came first."""
    made, told = asyncio.ensure_future(creating), asyncio.ensure_future(got.get())
    try:
        await asyncio.wait({made, told}, return_when=asyncio.FIRST_COMPLETED)
        return str(made.result()) if made.done() else None
    finally:
        told.cancel()
        made.cancel()
        await asyncio.gather(made, told, return_exceptions=True)


def converse(watching: Watching, model: str, turns: list[dict[str, str]]) -> Ending:
    """Questions from the terminal until /quit or Ctrl-D; each is asked with what was said before.

    ``turns``: what stands in front (the system's turn). Out: ``done``, or ``detached``.
    """
    import readline  # noqa: F401 - input() edits its line with it

    watching.say("Ask something. /quit or Ctrl-D leaves.", "dim")
    while True:
        try:
            asked = input("› ").strip()
        except KeyboardInterrupt:
            watching.say("\n/quit or Ctrl-D leaves.", "dim")
            continue
        except EOFError:
            print(file=sys.stderr)
            return "done"
        if asked == "/quit":
            return "done"
        if not asked:
            continue
        try:
            question = {"role": "user", "content": checked(asked)}
            ending, answer = asyncio.run(watching.watch(request(model, [*turns, question])))
        except NoAnswer as error:
            watching.say(str(error), "red")
            continue
        if ending == "detached":
            return ending
        # A failed question is not kept: an answer to it is missing, and asking again would double it.
        if answer.transcript.text.strip() and ending != "failed":
            turns += [question, {"role": "assistant", "content": answer.transcript.text}]


def request(model: str, turns: list[dict[str, str]]) -> dict[str, Any]:
    """The body of a create call."""
    return {"messages": turns, **({"model": model} if model else {})}
