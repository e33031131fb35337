"""Creating a stream: the request is checked, the id is chosen, and the steps are run (:mod:`shared.store.create`).

With an ``Idempotency-Key`` the id is HMAC(secret, owner, key), so every create with that key finds the same record,
and repeating a create is harmless. A keyed hash (HMAC, too) in the record tells whether the request is the same:
the hash stays when the prompt is deleted, and without the secret nobody can try out prompts against it. A create
without a reply from Redis in time is a 503, and deletes nothing.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from api.http.problems import Problem, redis_away, unusable
from api.metrics import ApiMetrics
from api.schemas.requests import CreateStream
from api.streams.admission import Admission
from api.viewing.presence import Presence
from shared.config.capabilities import Refusal, disallowed, refusal
from shared.config.providers import Provider, Target, UnknownModel, resolve_model
from shared.config.settings import Settings
from shared.protocol.cursor import idempotent_stream_id, new_stream_id
from shared.protocol.fallbacks import speaker
from shared.store.create import CreateResult, Creator
from shared.store.new_stream import NewStream

CREATE_TIMEOUT_S: Final = 1.8
"""A caller learns within two seconds that Redis is away."""

MAX_KEY: Final = 255
KEPT_BESIDES: Final = 256 * 1024
"""A record may keep twice ``HEADRACE_MAX_PROMPT_BYTES`` of its request, and this many bytes more for names, ids and
metadata. An OpenAI response keeps its whole conversation; ids do not count as prompt."""


class Made(NamedTuple):
    """The result of a create. ``created_ms``: by the server's clock. ``met``: an earlier create made the stream."""

    stream_id: str
    status: str
    model: str
    created_ms: int
    met: bool

    @property
    def headers(self) -> dict[str, str]:
        """What the response to the create tells in its head."""
        return {"Idempotency-Replayed": "true"} if self.met else {}


class Creation:
    """Creates streams."""

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, Provider],
        creator: Creator,
        admission: Admission,
        presence: Presence,
        secret: Callable[[], Awaitable[bytes]],
        metrics: ApiMetrics,
    ) -> None:
        self._settings = settings
        self._providers = providers
        self._creator = creator
        self._admission = admission
        self._presence = presence
        self._secret = secret
        self._metrics = metrics

    async def create(
        self,
        asked: CreateStream,
        owner: str,
        key: str | None,
        *,
        shows_all: bool = False,
        keeps: Mapping[str, Any] | None = None,
        stream_id: str = "",
    ) -> Made:
        """Create a stream, or find the one that this ``Idempotency-Key`` made. ``shows_all``: reasoning and tool
        calls are shown in a dialect that can't take them back; ``keeps``: more fields of the record (``asked``,
        ``input``), as JSON; ``stream_id``: its id, from :func:`new_stream_id`, where a caller without such a key
        had to know it before.

        Raises :class:`Problem`: an unknown model, a prompt that is too long, a limit that is reached, a key that
        was used for another request, Redis away.
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
        request = {
            "provider": target.provider.name,
            "model": target.model,
            "messages": asked.turns(),
            **asked.asked(),
            **({"shows": "all"} if shows_all else {}),
        }
        for to in (target, *fallbacks):
            if refused := disallowed(to.provider, request, owner, keyed=bool(self._settings.keys)):
                raise unusable("option_not_allowed", [_fault(refused, f"not allowed at {to.provider.name}")])
            if refused := refusal(to.provider, to.model, request, asked.max_tokens or most):
                raise unusable("unsupported_by_provider", [_fault(refused, f"not for {to.full_name}")])
        if fallbacks:
            request["fallbacks"] = [{"provider": to.provider.name, "model": to.model} for to in fallbacks]
        try:
            kept = {name: msgspec.json.encode(value) for name, value in (keeps or {}).items()}
            hashed = msgspec.json.encode(request) + b"".join(kept.values())
            # The limit is not part of the hash: after a change of the setting, a repeated request is still the
            # same.
            body = msgspec.json.encode({**request, "max_tokens": asked.max_tokens or most} if most else request)
        except UnicodeEncodeError:
            raise _half_character() from None
        kept_bytes = sum(map(len, kept.values()))
        if kept_bytes > (most_kept := 2 * self._settings.max_prompt_bytes + KEPT_BESIDES):
            raise Problem(
                413,
                "prompt_too_large",
                f"What is kept of this request, with its ids and metadata, has {kept_bytes} bytes, and {most_kept} "
                "are allowed (by HEADRACE_MAX_PROMPT_BYTES). Send less.",
            )
        try:
            until = asyncio.get_running_loop().time() + CREATE_TIMEOUT_S
            async with asyncio.timeout_at(until):
                fields: dict[str, str | bytes] = {"request": body, **speaker(request), **kept}
                if kept:
                    fields["kept_bytes"] = str(kept_bytes)
                own_id = stream_id or new_stream_id()
                return await self._run_steps(own_id, fields, hashed, asked, owner, key, until)
        except TimeoutError:
            raise redis_away() from None

    async def stream_id(self, owner: str, key: str) -> str:
        """The id of the stream that this key of this owner makes, or made. Raises :class:`Problem` (422)."""
        if not 0 < len(key) <= MAX_KEY:
            raise Problem(422, "bad_idempotency_key", f"An Idempotency-Key has 1 to {MAX_KEY} characters.")
        return idempotent_stream_id(await self._secret(), owner, key)

    def _targets(self, asked: CreateStream) -> list[Target]:
        """The targets of the request: its model, then its fallbacks."""
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
        stream_id: str,
        told: Mapping[str, str | bytes],
        hashed: bytes,
        asked: CreateStream,
        owner: str,
        key: str | None,
        until: float,
    ) -> Made:
        secret = await self._secret()
        if key is not None:
            stream_id = await self.stream_id(owner, key)
        fields = {**told, "on_failure": asked.on_failure}
        pause_after_ms = str(int(asked.pause_after * 1000)) if asked.flow == "client" else None
        if pause_after_ms is not None:
            fields["pause_after_ms"] = pause_after_ms

        # The first word keeps these MACs apart from others that are made with the same secret.
        request_hash = hmac.new(secret, b"request:" + hashed, hashlib.sha256).hexdigest()
        new = NewStream(stream_id, request_hash, owner, str(told["about"]).encode(), fields)
        made = await self._make(new, until, may_exist=key is not None)
        if made.outcome == "conflict":
            raise Problem(
                422,
                "idempotency_conflict",
                "This Idempotency-Key was used for another request. Use a new key for a new request.",
            )
        met = made.outcome == "exists"
        self._metrics.created(made.outcome)
        if not met:
            # The creator is about to open the events.
            await self._presence.beat(stream_id, pause_after_ms)
        return Made(stream_id, made.status, str(told["model"]), made.created_ms, met)

    async def _make(self, new: NewStream, until: float, *, may_exist: bool) -> CreateResult:
        """Run the steps, and again if ended streams gave their places back. Raises :class:`Problem` (429)."""
        made = await self._creator.create(new, until, may_exist=may_exist)
        if made.outcome == "too_many_streams" and await self._admission.make_room(new.owner):
            made = await self._creator.create(new, until, may_exist=may_exist)
        if made.outcome not in ("created", "exists", "conflict"):
            raise self._admission.refusal(made.outcome, made.number)
        return made


def _fault(refused: Refusal, why: str) -> dict[str, str]:
    return {"field": refused.field, "message": f"{why}: {refused.reason}"}


def _half_character() -> Problem:
    return Problem(422, "invalid_request", "The prompt holds half a surrogate pair, which is no character.")
