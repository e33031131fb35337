"""An OpenAI-compatible provider whose every move is scripted by the prompt.

The last user message, when it is a JSON object, is the script (all keys optional, see
:mod:`tests.support.script`); any other prompt gets the default answer. What will be said is known in advance:
:func:`script_tokens`. In a test: ``async with ScriptedProvider() as p: p.base_url``; as a program:
``python -m tests.support.scripted_provider --port 0`` prints its port and ends when its stdin closes.

Theory of operation. One connection carries one call (``Connection: close``). A task that reads the socket to
its end learns at once when the client goes away, and cancels the task that answers; so ``closed_by`` and
``closed_at`` tell a test whether a cancel really reached the upstream.
"""

import argparse
import asyncio
import contextlib
import json
import re
import sys
import time
from collections import Counter
from typing import Any, Self
from weakref import WeakSet

from tests.support.script import DEFAULTS, FAULTS, script_of, script_reasoning, script_text, script_tokens
from tests.support.scripted_answer import Call, ScriptedAnswer, respond

__all__ = ["Call", "ScriptedProvider", "script_reasoning", "script_text", "script_tokens"]

MAX_BODY = 4 * 1024 * 1024


class ScriptedProvider:
    """The server; ``calls`` is what ``GET /_calls`` shows."""

    def __init__(self, port: int = 0) -> None:
        self.calls: list[Call] = []
        self.port = port
        self._counts: Counter[str] = Counter()
        self._released: set[str] = set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: WeakSet[asyncio.StreamWriter] = WeakSet()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        # Tasks that had not begun yet, and connections whose client does not read, are still open.
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    def release(self, name: str, *, later: bool = True) -> None:
        """Let all calls of this name that hang, or would, go on; later ones too, unless told otherwise."""
        if later:
            self._released.add(name)
        for call in self.calls:
            if call.name == name:
                call.released.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._server is not None
        if not self._server.is_serving():  # accepted in the last moment
            writer.transport.abort()
            return
        self._writers.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            headers = dict(re.findall(r"(?m)^([^:\r\n]+): *([^\r\n]*)", head.lower()))
            body = await reader.readexactly(min(int(headers.get("content-length", 0)), MAX_BODY))
            # Bearer tokens are case-sensitive: take that one from the text as it came.
            key = re.search(r"(?mi)^authorization: *([^\r\n]*)", head)
            if (method, path) == ("POST", "/v1/chat/completions"):
                await self._complete(json.loads(body), key[1] if key else "", reader, writer)
            elif (method, path) == ("GET", "/_calls"):
                respond(writer, 200, [call.shown() for call in self.calls])
            elif (method, path) == ("POST", "/_release"):
                self.release(json.loads(body)["name"])
                respond(writer, 200, {})
            elif (method, path) == ("GET", "/v1/models"):
                respond(writer, 200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]})
            else:
                respond(writer, 404, {"error": {"message": f"no {method} {path} here"}})
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _complete(
        self, request: dict[str, Any], key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        script = script_of(request)
        name = script["name"]
        self._counts[name] += 1
        call = Call(name, self._counts[name], time.monotonic(), model=str(request.get("model")), asked=request)
        self.calls.append(call)
        if name in self._released:
            call.released.set()
        if script["fail_times"] is not None and call.call > script["fail_times"]:
            script.update({fault: DEFAULTS[fault] for fault in FAULTS})
        if script["tool_call_times"] is not None and call.call > script["tool_call_times"]:
            script["tool_call"] = False
        answering = asyncio.create_task(ScriptedAnswer(script, call, key, writer).run())
        leaving = asyncio.create_task(reader.read(-1))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            # A client that got its whole answer may close before this task has seen the end of it.
            answered = answering.done() and answering.exception() is None
            call.close("server" if answered else "client")
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)


async def main(port: int) -> None:
    """Serve until stdin closes."""
    async with ScriptedProvider(port) as provider:
        print(provider.port, flush=True)
        stdin = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        while await stdin.read(4096):
            pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An OpenAI-compatible provider, scripted by its prompts.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    asyncio.run(main(parser.parse_args().port))
