"""The providers, and how a caller's ``model`` names one. Pure: tables and environment are handed in.

The facts about a provider stand in a table (``shared/config/providers.toml``, and the user's file over it). The
environment wins over the table: ``<NAME>_BASE_URL``, ``<NAME>_API_KEY``, ``<NAME>_MODELS`` (a comma-separated list;
without it any model name is passed on), ``<NAME>_OPTIONS`` (also a list, which is added to that of the row) and the
fields of VARIABLES. Callers name models, never addresses.

A row holds more than an address: :class:`Quirks` tell what the provider accepts and refuses. They were compared
with its documentation (``checked``, ``source``; docs/providers.md shows them as a table).

``continues`` tells how the provider goes on from given assistant text, for ``on_failure=continue``: ``no`` (it
can't); ``prefill`` (it continues a last assistant message, as llama.cpp does); or ``vllm`` (it needs two flags with
that message).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Continues = Literal["no", "prefill", "vllm"]
MaxTokensName = Literal["max_tokens", "max_completion_tokens"]
WireFormat = Literal["openai", "anthropic", "google"]
"""The names of the adapters in ``worker/providers/formats``."""
CallIds = Literal["any", "short", "plain", "nine", "none"]
"""The ids of tool calls that a provider takes: any; at most 40 characters (OpenAI); ``[A-Za-z0-9_-]``, at most 64
(Claude); exactly nine of ``[A-Za-z0-9]`` (Mistral); no id at all (Vertex)."""
Feature = Literal[
    "tool_choice",
    "tool_choice.name",
    "parallel_tool_calls",
    "response_format.json_object",
    "response_format.json_schema",
    "reasoning",
    "reasoning.budget_tokens",
    "seed",
    "user",
    "tools.strict",
]
"""The features that a request may ask for and a provider may lack (see :mod:`shared.config.capabilities`)."""

Limit = Annotated[int, Field(ge=0)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
"""A provider's name. In capitals it is the prefix of the provider's variables."""
VARIABLES: Final = (
    "continues",
    "max_tokens_name",
    "stream_usage",
    "auth",
    "api_version",
    "max_concurrent",
    "requests_per_minute",
    "tokens_per_minute",
    "rate_per_second",
)
"""The fields of a row that the variable ``<NAME>_<FIELD>`` replaces."""


class Quirks(BaseModel):
    """The differences between a provider and the original API of its wire format. A field that is about one wire
    format is ignored by the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens_name: MaxTokensName = "max_tokens"
    """The name of an answer's limit (OpenAI format). OpenAI's reasoning models refuse the older name; other servers
    may know only that one."""
    stream_usage: bool = True
    """Whether it takes ``stream_options`` (OpenAI format). A provider that refuses it sends its usage unasked."""
    call_ids: CallIds = "any"
    developer: bool = False
    """Whether it knows the role ``developer`` (OpenAI format); other providers get ``system``."""
    reasoning: Literal["effort", "thinking", "object"] = "effort"
    """How it is asked for reasoning (OpenAI format): by ``reasoning_effort``; by that, and ``thinking`` to turn it
    on or off (DeepSeek); or by an object ``reasoning`` (OpenRouter)."""
    reasoning_back: Literal["", "reasoning", "reasoning_content"] = ""
    """The field in which it takes its own reasoning back (OpenAI format)."""
    reasoning_details: bool = False
    """Whether it takes ``reasoning_details`` back (OpenAI format)."""
    cache_control: bool = False
    """Whether it knows cache hints on parts (OpenAI format)."""
    strict: bool = False
    """Whether it refuses unknown fields of a message (OpenAI format)."""
    seed_name: Literal["seed", "random_seed"] = "seed"
    """The name of the seed (OpenAI format)."""
    lacks: tuple[Feature, ...] = ()
    """The features that it refuses or ignores, although its wire format has a field for them."""
    auth: Literal["", "bearer", "api-key", "x-api-key", "x-goog-api-key"] = ""
    """How the key is sent; empty: as the wire format usually does."""
    api_version: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,40}$")] = ""
    """``api-version`` in the query of each call (Azure); empty: no such parameter."""

    def key_header(self, usual: str, api_key: str) -> dict[str, str]:
        """The header that carries the key; no header without a key. ``usual``: the wire format's own way."""
        way = self.auth or usual
        if not api_key:
            return {}
        return {"Authorization": f"Bearer {api_key}"} if way == "bearer" else {way: api_key}

    @property
    def query(self) -> str:
        """The query behind a path: ``?api-version=…``, or ''."""
        return f"?api-version={self.api_version}" if self.api_version else ""


class Preset(Quirks):
    """A row of the table: what is known about a provider before the environment is read."""

    wire_format: WireFormat
    base_url: Url | None = None
    usual_url: Url | None = None
    """The usual value of ``<NAME>_BASE_URL``, where that must be set."""
    key: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = None
    """The variable that holds the key; None: the provider needs no key."""
    models: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """The names that callers may use in ``provider_options``, and ``tools.<type>`` for the provider's own tools
    (see :func:`shared.config.capabilities.disallowed`)."""
    continues: Continues = "no"
    checked: str = ""
    """The date on which the row was compared with the provider's documentation (``source``: the page)."""
    source: str = ""
    max_concurrent: Limit = 0
    requests_per_minute: Limit = 0
    tokens_per_minute: Limit = 0
    rate_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _no_secret(cls, fields: object) -> object:
        if isinstance(fields, dict) and "api_key" in fields:
            raise ValueError(
                "api_key: a key does not belong into this file: put it into a variable, and name that in "
                '`key = "MY_KEY"`'
            )
        return fields


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider, ready to be called (or ``missing`` names the variable that must be set first).

    Its limits hold for all workers together; 0 means no limit.
    """

    name: str
    wire_format: str
    base_url: str
    api_key: str = field(repr=False)
    models: tuple[str, ...] = ()
    missing: str | None = None
    continues: Continues = "no"
    max_concurrent: int = 0
    """Generations at once."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    rate_per_second: float = 0.0
    """Tokens a second of one stream."""
    key: str = ""
    """The variable that holds the key, for error texts."""
    options: tuple[str, ...] = ()
    """The names that callers may use in ``provider_options``, ``KEY:option`` for one API key alone; without API
    keys also the usual ones."""
    quirks: Quirks = field(default_factory=Quirks)

    @property
    def key_variable(self) -> str:
        return self.key or f"{self.name.upper()}_API_KEY"


class BadProvider(ValueError):
    """A provider can't be used as it is configured; the text names the provider or the variable."""


class UnknownModel(LookupError):
    """The model's name leads to no provider. ``code`` is stable, the text is for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """Where a generation goes: a provider, and the model's name as that provider knows it."""

    provider: Provider
    model: str

    @property
    def full_name(self) -> str:
        return f"{self.provider.name}/{self.model}"


def load_providers(env: Mapping[str, str], presets: Mapping[str, Preset]) -> dict[str, Provider]:
    """All providers of the table, configured by this environment. Raises :class:`BadProvider`."""
    return {name: _load(name, preset, env) for name, preset in presets.items()}


def _load(name: str, preset: Preset, env: Mapping[str, str]) -> Provider:
    if not NAME.fullmatch(name) or name == "headrace":
        raise BadProvider(
            f"A provider can't be called {name!r}. A name begins with a small letter; small letters, digits and _ "
            "follow, at most 40 in all. The name headrace is taken: its variables are the settings."
        )
    prefix = name.upper()
    row = _overridden(prefix, preset, env)
    base_url = env.get(f"{prefix}_BASE_URL", "").strip() or preset.base_url or ""
    usual_key = f"{prefix}_API_KEY"
    key = usual_key if env.get(usual_key, "").strip() or not preset.key else preset.key
    api_key = env.get(key, "").strip()
    missing = None
    if not base_url:
        missing = f"{prefix}_BASE_URL" + (f" (usually {preset.usual_url})" if preset.usual_url else "")
    elif preset.key and not api_key:
        missing = preset.key
    models, options = (listed(env.get(f"{prefix}_{what}", "")) for what in ("MODELS", "OPTIONS"))
    return Provider(
        name,
        row.wire_format,
        base_url.rstrip("/"),
        api_key,
        models or row.models,
        missing,
        row.continues,
        row.max_concurrent,
        row.requests_per_minute,
        row.tokens_per_minute,
        row.rate_per_second,
        key,
        tuple(dict.fromkeys((*row.options, *options))),
        Quirks(**{name: getattr(row, name) for name in Quirks.model_fields}),
    )


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list, without empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _overridden(prefix: str, preset: Preset, env: Mapping[str, str]) -> Preset:
    """The row, with the values of its variables put in."""
    given = {field: env.get(f"{prefix}_{field.upper()}", "").strip() for field in VARIABLES}
    given = {field: value for field, value in given.items() if value}
    if not given:
        return preset
    try:
        return Preset.model_validate({**preset.model_dump(), **given})
    except ValidationError as error:
        faults = [f"{prefix}_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
        raise BadProvider("; ".join(faults)) from None


def resolve_model(model: str, providers: Mapping[str, Provider], default_model: str) -> Target:
    """Find the provider of ``model``: ``provider/name``, or a bare name, of the default model's provider.

    A name whose first part is no provider is a bare name (``meta-llama/Llama-3``), if the default model's provider
    lists it. Raises :class:`UnknownModel` with a code of ``unknown_provider``, ``unknown_model`` or
    ``provider_not_configured``.
    """
    wanted = model or default_model
    head, slash, rest = wanted.partition("/")
    default = default_model.partition("/")[0]
    if slash and head in providers:
        provider, name = providers[head], rest
    elif slash and wanted not in providers[default].models:
        known = ", ".join(sorted(providers))
        raise UnknownModel("unknown_provider", f"There is no provider {head!r}. Known providers: {known}.")
    else:
        provider, name = providers[default], wanted
    if provider.missing:
        raise UnknownModel(
            "provider_not_configured",
            f"The provider {provider.name!r} is not configured: set {provider.missing} for the API and the "
            "workers, and start them again.",
        )
    if not name or (provider.models and name not in provider.models):
        offered = ", ".join(provider.models) or "any non-empty name"
        raise UnknownModel("unknown_model", f"{provider.name!r} has no model {name!r}. It offers: {offered}.")
    return Target(provider, name)
