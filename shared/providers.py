"""Which providers there are, and how a caller's ``model`` names one. Pure: the environment is handed in.

A provider is configured by ``<NAME>_BASE_URL``, ``<NAME>_API_KEY`` and, optionally, ``<NAME>_MODELS`` (a
comma-separated list; without it any model name is passed on). Callers name models, never addresses.

``<NAME>_CONTINUES`` says how the provider carries on from given assistant text, for ``on_failure=continue``:
``no``; ``prefill``, where a last message of the assistant is simply continued (llama.cpp); or ``vllm``, which
wants two flags beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Continues = Literal["no", "prefill", "vllm"]


@dataclass(frozen=True, slots=True)
class Preset:
    """What is known of a provider before anything is configured."""

    wire_format: str
    """The name of an adapter in ``worker/providers``."""
    base_url: str | None
    needs_key: bool = True
    continues: Continues = "no"


PRESETS: Final[dict[str, Preset]] = {
    "openai": Preset("openai", "https://api.openai.com/v1"),
    "holysheep": Preset("openai", "https://api.holysheep.ai/v1"),
    "deepseek": Preset("openai", "https://api.deepseek.com/v1"),
    "local": Preset("openai", None, needs_key=False, continues="prefill"),
}


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider, ready to be called (or ``missing`` names the variable that must be set first)."""

    name: str
    wire_format: str
    base_url: str
    api_key: str = field(repr=False)
    models: tuple[str, ...] = ()
    missing: str | None = None
    continues: Continues = "no"
    max_concurrent: int = 0
    """Generations at once, on all workers; 0 is no limit, here and below."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    rate_per_second: float = 0.0
    """Tokens a second of one stream."""


class BadProvider(ValueError):
    """A provider's variable can't be used; the text names it."""


class UnknownModel(LookupError):
    """The model's name leads nowhere. ``code`` is stable, the text is for people."""

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


def load_providers(env: Mapping[str, str]) -> dict[str, Provider]:
    """All providers of the presets, as this environment configures them. Raises :class:`BadProvider`."""
    providers = {}
    for name, preset in PRESETS.items():
        prefix = name.upper()
        base_url = env.get(f"{prefix}_BASE_URL", "").strip() or preset.base_url or ""
        api_key = env.get(f"{prefix}_API_KEY", "").strip()
        missing = None
        if not base_url:
            missing = f"{prefix}_BASE_URL"
        elif preset.needs_key and not api_key:
            missing = f"{prefix}_API_KEY"
        models = tuple(m.strip() for m in env.get(f"{prefix}_MODELS", "").split(",") if m.strip())
        continues = env.get(f"{prefix}_CONTINUES", "").strip() or preset.continues
        if continues not in get_args(Continues):
            raise BadProvider(f"{prefix}_CONTINUES must be one of {', '.join(get_args(Continues))}")
        providers[name] = Provider(
            name,
            preset.wire_format,
            base_url.rstrip("/"),
            api_key,
            models,
            missing,
            continues,  # type: ignore[arg-type]
        )
    return providers


def resolve_model(model: str, providers: Mapping[str, Provider], default_model: str) -> Target:
    """Find where ``model`` goes: ``provider/name``, or a bare name of the default model's provider.

    A name whose first part is no provider's is a bare one (``meta-llama/Llama-3`` at a provider that
    lists it). Raises :class:`UnknownModel` with a code of ``unknown_provider``, ``unknown_model`` or
    ``provider_not_configured``.
    """
    wanted = model or default_model
    head, slash, rest = wanted.partition("/")
    default = default_model.partition("/")[0]
    if slash and head in providers:
        provider, name = providers[head], rest
    elif slash and wanted not in providers[default].models:
        known = ", ".join(sorted(providers))
        raise UnknownModel("unknown_provider", f"There is no provider {head!r}. Known ones: {known}.")
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
