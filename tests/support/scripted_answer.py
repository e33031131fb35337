"""One call's answer from the scripted provider, as its script says (see :mod:`tests.support.script`)."""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from tests.support.script import TOOL_ARGUMENTS, call_of, script_reasoning, script_tokens


@dataclass
class Call:
    """What happened to one call; times in seconds of a monotonic clock."""

    name: str
    call: int
    started: float
    sent: int = 0
    closed_by: str | None = None
    closed_at: float | None = None
    model: str = ""
    asked: dict[str, Any] = field(default_factory=dict, repr=False)
    """The request's body; not shown over HTTP."""
    released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def close(self, by: str) -> None:
        if self.closed_by is None:
            self.closed_by, self.closed_at = by, time.monotonic()

    def shown(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("released", "asked")}


def behind(tokens: list[str], prefix: str) -> list[str]:
    """What is left to say behind this text; all of it, where that is not how the answer begins."""
    text = "".join(tokens)
    if not prefix or not text.startswith(prefix):
        return tokens
    said = 0
    for n, token in enumerate(tokens):
        if said >= len(prefix):
            return tokens[n:]
        said += len(token)
        if said > len(prefix):
            return [token[len(token) - (said - len(prefix)) :], *tokens[n + 1 :]]
    return []


def respond(writer: asyncio.StreamWriter, status: int, body: object, **headers: object) -> None:
    """Write a whole response that closes the connection."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    fields = {"Content-Type": "application/json", "Content-Length": len(data), "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**fields, **headers}.items())
    writer.write(f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode() + data)


class ScriptedAnswer:
    """One call's answer, as its script says."""

    def __init__(self, script: dict[str, Any], call: Call, key: str, writer: asyncio.StreamWriter) -> None:
        self._script = script
        self._call = call
        self._key = key
        self._writer = writer

    async def run(self) -> None:
        script = self._script
        if script["status"] != 200:
            headers = {} if script["retry_after"] is None else {"Retry-After": script["retry_after"]}
            body = script["body"] or {"error": {"message": "refused by the script", "type": "scripted"}}
            text = body if isinstance(body, str) else json.dumps(body)
            respond(
                self._writer,
                script["status"],
                text.replace("{authorization}", self._key),
                **headers,
                **script["headers"],
            )
            await self._writer.drain()
            return
        fields = {"Content-Type": script["content_type"], "Transfer-Encoding": "chunked"}
        fields |= {"Connection": "close", **script["headers"]}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        if script["raw"] is not None:
            await self._write(script["raw"].encode())
        elif not await self._say():
            return
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _say(self) -> bool:
        """Everything between the headers and the end of the body. Out: whether the body ends cleanly."""
        script, call = self._script, self._call
        if script["hang_before_first"]:
            await self._hang()
        await self._chunk({"role": "assistant", "content": ""})
        for piece in () if script["prefix"] else script_reasoning(script):
            await self._chunk({"reasoning_content": piece})
            await asyncio.sleep(script["interval_ms"] / 1000)
        # Whoever carries on says what the call that began would have said.
        tokens = behind(script_tokens(script, call_of(script["prefix"]) or call.call), script["prefix"])
        due = asyncio.get_running_loop().time()
        for n in range(len(tokens) + 1):
            if script["hang_after"] == n:
                await self._hang()
            if script["cut_after"] == n:
                await asyncio.sleep(0.02)  # an abort throws away what the kernel has not sent yet
                self._writer.transport.abort()
                return False
            if script["end_after"] == n:
                return True
            if script["garbage_after"] == n:
                await self._event('{"choices": [{"del')
            if script["error_after"] == n:
                await self._event('{"error": {"message": "the script wants an error", "code": 500}}')
            if n < len(tokens):
                await self._chunk({"content": tokens[n]})
                call.sent += 1
                due += script["interval_ms"] / 1000
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        if script["flood_bytes"]:
            for _ in range(script["flood_bytes"] // 65536):
                await self._write(b"x" * 65536)
        await self._finish(len(tokens))
        return True

    async def _finish(self, tokens: int) -> None:
        script = self._script
        if script["tool_call"]:
            first = {"index": 0, "id": "call_1", "type": "function"}
            first["function"] = {"name": "look_up", "arguments": ""}
            await self._chunk({"tool_calls": [first]})
            for at in range(0, len(TOOL_ARGUMENTS), 7):
                piece = {"index": 0, "function": {"arguments": TOOL_ARGUMENTS[at : at + 7]}}
                await self._chunk({"tool_calls": [piece]})
        reason = script["finish_reason"] or ("tool_calls" if script["tool_call"] else "stop")
        await self._chunk({}, reason)
        if script["usage"]:
            usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
            await self._event(json.dumps({"choices": [], "usage": usage}))
        await asyncio.sleep(script["linger_ms"] / 1000)
        for _ in range(0 if script["no_done"] else 2 if script["double_done"] else 1):
            await self._event("[DONE]")

    async def _hang(self) -> None:
        pause_s = self._script["keepalive_ms"] / 1000
        while not self._call.released.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._call.released.wait(), pause_s or None)
                return
            await self._write(b": keep-alive\n\n")
            await self._chunk({"content": ""})

    async def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        chunk = {"id": "c-1", "object": "chat.completion.chunk", "model": "scripted", "choices": [choice]}
        await self._event(json.dumps(chunk, ensure_ascii=False))

    async def _event(self, data: str) -> None:
        await self._write(f"data: {data}\n\n".encode())

    async def _write(self, data: bytes) -> None:
        step = self._script["chunk_bytes"] or len(data)
        for at in range(0, len(data), step or 1):
            piece = data[at : at + step]
            self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._writer.drain()
            await asyncio.sleep(0)
