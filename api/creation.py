"""Creating a stream, safe against a crash at any point.

Theory of operation. First the limits (see :mod:`api.admission`). Then the steps are: a provisional record with
its ``queued`` event and a life of 60 s; the stream into ``unfinished``; then the record is confirmed, its job
goes into the queue, and only then 202 is answered. A crash before the confirmation leaves nothing behind (the
record expires, and no worker claims a provisional stream); one after it leaves a stream that runs, for the sweep
finds it in ``unfinished`` without a job. A 503 deletes nothing: what is not confirmed expires. Where log and
queue live on one server all steps go there at once (:mod:`shared.joined`).

With an ``Idempotency-Key`` the id is HMAC(secret, owner, key), so every caller with that key meets the same
record and runs all the steps itself, harmlessly: each of them is idempotent.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec
from redis.exceptions import RedisError

from api.admission import Admitting
from api.presence import Presence
from api.problems import Problem, redis_away
from api.repeats import Repeats
from api.requests import CreateStream
from shared.capabilities import Refusal, refusal
from shared.connections import AWAY
from shared.fallbacks import speaker
from shared.ids import idempotent_stream_id, new_stream_id
from shared.joined import JoinedCreate
from shared.new_stream import NewStream, new_nonce
from shared.providers import Provider, Target, UnknownModel, resolve_model
from shared.queue import Queue
from shared.settings import Settings
from shared.streams import Streams
from shared.transitions import TRANSITIONS

CREATE_TIMEOUT_S: Final = 1.8
"""A caller learns within two seconds that Redis is away."""

MAX_KEY: Final = 255


class Creation:
    """Creates streams."""

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, Provider],
        streams: Streams,
        queue: Queue,
        admitting: Admitting,
        repeats: Repeats,
        presence: Presence,
        secret: Callable[[], Awaitable[bytes]],
        joined: JoinedCreate | None,
    ) -> None:
        """``joined``: None where log and queue live on two servers."""
        self._settings = settings
        self._providers = providers
        self._streams = streams
        self._queue = queue
        self._admitting = admitting
        self._repeats = repeats
        self._presence = presence
        self._secret = secret
        self._joined = joined

    async def create(self, asked: CreateStream, owner: str, key: str | None) -> tuple[str, str, str, bool]:
        """Create a stream, or meet the one that this key made. Out: (id, status, model, whether it was met).

        Raises :class:`Problem`: unknown models, prompts that are too long, a limit that is reached, a key used
        for another request, Redis away.
        """
        target, *fallbacks = self._targets(asked)
        try:
            size = asked.size()
        except UnicodeEncodeError:
            raise _half_character() from None
        if size > self._settings.max_prompt_bytes:
            raise Problem(
                413,
                "prompt_too_large",
                f"The prompt has {size} bytes, and {self._settings.max_prompt_bytes} are allowed "
                "(HEADRACE_MAX_PROMPT_BYTES). Send less.",
            )
        most = self._settings.max_answer_tokens
        if most and (asked.max_tokens or 0) > most:
            raise Problem(
                422,
                "answer_too_long",
                f"An answer may have {most} tokens here (HEADRACE_MAX_ANSWER_TOKENS). Ask for at most as many.",
            )
        if most and (names := asked.limits_in_options()):
            raise Problem(
                422,
                "answer_too_long",
                f"An answer's length is limited here (HEADRACE_MAX_ANSWER_TOKENS): leave {', '.join(names)} out of "
                "provider_options, and ask by max_tokens.",
            )
        request = {
            "provider": target.provider.name,
            "model": target.model,
            "messages": asked.turns(),
            **asked.asked(),
        }
        for to in (target, *fallbacks):
            if refused := refusal(to.provider, to.model, request, asked.max_tokens or most):
                raise _unsupported(to, refused)
        if fallbacks:
            request["fallbacks"] = [{"provider": to.provider.name, "model": to.model} for to in fallbacks]
        try:
            hashed = hashlib.sha256(msgspec.json.encode(request)).hexdigest()
            # Behind the hash: a setting that changes makes no other request of a repeated one.
            body = msgspec.json.encode({**request, "max_tokens": asked.max_tokens or most} if most else request)
        except UnicodeEncodeError:
            raise _half_character() from None
        try:
            until = asyncio.get_running_loop().time() + CREATE_TIMEOUT_S
            async with asyncio.timeout_at(until):
                return await self._run_steps(body, hashed, speaker(request), asked, owner, key, until)
        except TimeoutError:
            raise redis_away() from None

    def _targets(self, asked: CreateStream) -> list[Target]:
        """Where the request goes: to its model, and to its fallbacks."""
        wanted = [asked.model, *(asked.fallbacks or [])]
        try:
            found = [resolve_model(model, self._providers, self._settings.default_model) for model in wanted]
        except UnknownModel as error:
            raise Problem(422, error.code, str(error)) from None
        names = [target.full_name for target in found]
        for name in names:
            if names.count(name) > 1:
                raise Problem(
                    422, "duplicate_fallback", f"{name} stands twice among model and fallbacks. Name it once."
                )
        return found

    async def _run_steps(
        self,
        body: bytes,
        hashed: str,
        speaks: dict[str, str],
        asked: CreateStream,
        owner: str,
        key: str | None,
        until: float,
    ) -> tuple[str, str, str, bool]:
        # Asked for even where there is no key: the links that are answered may be signed with it.
        secret = await self._secret()
        stream_id = new_stream_id()
        if key is not None:
            if not 0 < len(key) <= MAX_KEY:
                raise Problem(422, "bad_idempotency_key", f"An Idempotency-Key has 1 to {MAX_KEY} characters.")
            stream_id = idempotent_stream_id(secret, owner, key)
        fields: dict[str, str | bytes] = {"request": body, **speaks, "on_failure": asked.on_failure}
        pause_after_ms = str(int(asked.pause_after * 1000)) if asked.flow == "client" else None
        if pause_after_ms is not None:
            fields["pause_after_ms"] = pause_after_ms

        new = NewStream(stream_id, hashed, owner, speaks["about"].encode(), fields, known=key is not None)
        status, met, epoch = "queued", False, 0
        if self._joined is not None and not new.known:
            ask = partial(self._joined.create, new, new_nonce(), until)
            admitted = await self._admitting.admitted(owner, ask)
            now_ms, epoch = admitted.now_ms, admitted.epoch
        else:
            now_ms = await self._admitting.admit(owner, stream_id, repeatable=new.known)
            status, met, epoch = await self._write(replace(new, now_ms=now_ms))
        if not met:
            # Who creates it is about to watch.
            await self._presence.beat(stream_id, pause_after_ms)
        if TRANSITIONS[status]:  # type: ignore[index]
            # One that was met, too: who made it may have been told that it failed, and keeps nothing.
            self._repeats.remember(stream_id, lambda: self._write(replace(new, now_ms=now_ms), epoch))
        return stream_id, status, speaks["model"], met

    async def _write(self, new: NewStream, epoch: int = 0) -> tuple[str, bool, int]:
        """All steps, from the provisional record to the job. Out: (status, whether it was met, epoch)."""
        stream_id = new.stream_id
        answer = await self._streams.create(new, epoch)
        status, attempt = "queued", 0
        if answer[0] == "conflict":
            raise Problem(
                422,
                "idempotency_conflict",
                "This Idempotency-Key was used for another request. Use a new key for a new request.",
            )
        if answer[0] == "exists":
            status, attempt = answer[1], int(answer[3])
        if status == "queued":
            await self._queue.note(stream_id, new.now_ms)
        if TRANSITIONS[status]:  # type: ignore[index]
            confirmed = await self._streams.confirm(stream_id)
            if confirmed[0] == "gone":
                raise redis_away()
        if status == "queued":
            with contextlib.suppress(*AWAY, RedisError):  # the sweep sees to it, too
                await self._queue.put(stream_id, attempt + 1, new.now_ms)
        if answer[0] == "exists":
            return status, True, int(answer[4])
        return status, False, int(answer[1].partition("-")[0])


def _unsupported(target: Target, refused: Refusal) -> Problem:
    errors = [{"field": refused.field, "message": f"not for {target.full_name}: {refused.reason}"}]
    return Problem(
        422,
        "unsupported_by_provider",
        f"The request can't be used: {refused.field}: {errors[0]['message']}.",
        errors=errors,
    )


def _half_character() -> Problem:
    return Problem(422, "invalid_request", "The prompt holds half a surrogate pair, which is no character.")
