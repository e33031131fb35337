"""All settings, each with its unit, default and reason. Read once, by the composition roots only.

``HEADRACE_<FIELD>`` in the environment (or in ``.env``) sets the field of that name. A variable without a field is
an error, so that a typing mistake does not silently leave the default in force.
"""

import io
import ipaddress
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.config.api_keys import ApiKeys, parse_api_keys
from shared.config.network import Network, read_network
from shared.config.prices import Price, Prices
from shared.config.providers import BadProvider, Preset, Provider, listed, load_providers
from shared.config.tables import BadTable, load_table
from shared.redis import check_certificates, read_url, without_password

PREFIX = "HEADRACE_"

OF_CALLERS = frozenset({"HEADRACE_URL", "HEADRACE_KEY"})
"""Variables that `headrace chat` reads: a server's URL, and an API key for it. They are no settings of a server."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Limit = Annotated[int, Field(ge=0)]
"""A limit; 0 means no limit."""

_LINK_VALUES: Mapping[str, re.Pattern[str]] = {
    "address": re.compile(r"[0-9a-fA-F.:]*[.:][0-9a-fA-F.:]*"),
    "number": re.compile(r"\d{1,5}"),
    "protocol": re.compile(r"tcp|udp|sctp"),
    "url": re.compile(r"(tcp|udp|sctp)://\S+:\d{1,5}"),
}
_LINKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"HEADRACE_([A-Z0-9_]+_)?SERVICE_HOST"), "address"),
    (re.compile(r"HEADRACE_([A-Z0-9_]+_)?SERVICE_PORT(_[A-Z0-9_]+)?"), "number"),
    (re.compile(r"HEADRACE_([A-Z0-9_]+_)?PORT(_\d+_(TCP|UDP|SCTP))?"), "url"),
    (re.compile(r"HEADRACE_([A-Z0-9_]+_)?PORT_\d+_(TCP|UDP|SCTP)_PROTO"), "protocol"),
    (re.compile(r"HEADRACE_([A-Z0-9_]+_)?PORT_\d+_(TCP|UDP|SCTP)_PORT"), "number"),
    (re.compile(r"HEADRACE_([A-Z0-9_]+_)?PORT_\d+_(TCP|UDP|SCTP)_ADDR"), "address"),
)
"""Kubernetes sets these variables in each container, for each service of its namespace: ``HEADRACE_PORT`` for a
service that is named ``headrace``, ``HEADRACE_REDIS_PORT`` for ``headrace-redis``. A variable counts as such only
if both its name and its value fit."""

_ORIGIN = re.compile(r"https?://[^/\s,?#]+")


class BadSettings(ValueError):
    """The environment can't be used; the text names each wrong variable and its fault."""


class Settings(BaseModel):
    """All settings. Sizes are in bytes; the end of a name tells the unit of a time (``_s``, ``_ms``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", repr=False, description="Redis 7+ or Valkey that holds the logs"
    )
    queue_url: str = Field(
        "", repr=False, description="Redis of the queue and wake-ups; empty: the same as redis_url"
    )
    key_prefix: str = Field("headrace", pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="front of every key")

    default_model: str = Field("local/smollm2", description="model of a request that names none")
    providers_file: str = Field("", description="TOML file of more providers, or of other values for known ones")
    prices_file: str = Field("", description="TOML file of more prices, or of other values for known ones")
    log_cap: int = Field(4096, ge=50, description="entries a log keeps at least (MAXLEN ~)")
    retention_s: Positive = Field(86_400, description="life of a finished stream")
    rewrite_s: Limit = Field(
        600, description="seconds between two rewrites of the server's file, which remove erased text; 0: none"
    )
    keep_prompt: bool = Field(False, description="keep the request in the record when the stream has ended")

    lease_ms: int = Field(3000, ge=500, description="a worker silent for this long has lost its streams")
    max_attempts: Count = Field(3, description="tries at one generation before it is failed")
    max_streams: Count = Field(200, description="streams that one worker process reads at once")
    max_stream_s: Positive = Field(3600, description="longest life of one generation")
    drain_s: NotNegative = Field(0, description="how long streams may run on after SIGTERM")
    flush_ms: NotNegative = Field(9, description="a worker's flushes are at least this far apart")

    connect_timeout_s: Positive = Field(5, description="time to connect to a provider")
    first_token_timeout_s: Positive = Field(60, description="time to a provider's first token")
    idle_timeout_s: Positive = Field(30, description="longest silence of a provider between tokens")
    liveness_timeout_s: Positive = Field(300, description="longest time without a token while it shows life")
    max_answer_bytes: Count = Field(4 * 1024 * 1024, description="largest answer; a longer one ends with `length`")
    provider_tries: Count = Field(4, description="requests to a provider that refuses before its first token")
    provider_retry_s: Positive = Field(20, description="time within which those tries must fall")

    max_body_bytes: Count = Field(1024 * 1024, description="largest request body")
    max_prompt_bytes: Count = Field(256 * 1024, description="largest prompt, all messages together")
    viewers: Count = Field(10_000, description="viewers at once in one API process")
    send_timeout_s: Positive = Field(30, description="a viewer that accepts nothing for this long is closed")
    keepalive_s: Positive = Field(15, description="time between comments that keep proxies awake")
    grace_s: float = Field(
        30,
        ge=2,
        le=3600,
        description="seconds that an answer goes on after its OpenAI caller has left; then it is cancelled",
    )
    linger_s: NotNegative = Field(5, description="life of a shared buffer after its last viewer")

    appendfsync: str = Field(
        "always",
        pattern="^(always|everysec)$",
        description="how the server of headrace up and of compose syncs its file: always, or everysec",
    )
    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(8000, ge=0, le=65535, description="port the API listens on")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path under which a proxy shows this server, like /ai; empty: none",
    )
    secret: str = Field(
        "", repr=False, description="secret behind Idempotency-Key and read tokens; empty: made once, kept in Redis"
    )

    api_keys: str = Field(
        "", repr=False, description="NAME:hash entries, comma-separated; empty: nobody needs a key"
    )
    allow_open: bool = Field(False, description="listen on other addresses than loopback without any key")
    token_life_s: Positive = Field(900, description="life of the read token in events_url")
    creations_per_minute: Limit = Field(6000, description="streams that a key may create in a minute")
    streams_per_key: Limit = Field(2000, description="streams that a key may have at once")
    viewers_per_stream: Limit = Field(5000, description="viewers that a stream may have, on all API processes")
    max_queue: Limit = Field(10_000, description="streams that may wait for a worker")
    running_per_key: Limit = Field(
        0,
        description="streams of one key that a worker runs at once; 0: a fair share, where there are several keys",
    )
    viewers_per_key: Limit = Field(
        0, description="viewers that a key's streams may have in one API process; 0: its share"
    )
    bytes_per_key: Limit = Field(0, description="bytes that a key may store in Redis; 0: its share")
    max_answer_tokens: Limit = Field(0, description="largest max_tokens, and its value if a request has none")
    cors_origins: str = Field("", description="origins whose pages may call, comma-separated, or *; empty: none")

    allowed_hosts: str = Field("", description="names by which it is called without keys, comma-separated, or *")
    trusted_proxies: str = Field(
        "", description="addresses and networks of proxies whose X-Forwarded-* is believed, comma-separated"
    )
    waiting_per_address: Limit = Field(256, description="connections of one address without a whole request")
    opens_per_stream: Limit = Field(6000, description="event streams opened in a minute, of one stream")
    opens_per_key: Limit = Field(60_000, description="event streams opened in a minute, of one key's streams")

    metrics_host: str = Field("127.0.0.1", description="address where a process serves its own metrics")
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port of these metrics; where it is taken, a process takes the next free one; 0: none",
    )
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error"
    )
    log_format: str = Field("text", pattern="^(text|json)$", description="text, or json (a line an object)")

    def told(self) -> dict[str, Any]:
        """The settings that differ from their defaults, for the log, without secrets and passwords in URLs."""
        fields, urls = type(self).model_fields, ("redis_url", "queue_url")
        return {
            name: without_password(value) if name in urls else value
            for name, value in self
            if (fields[name].repr or name in urls) and name != "api_keys" and value != fields[name].default
        }

    @property
    def queue_redis_url(self) -> str:
        return self.queue_url or self.redis_url

    @property
    def keys(self) -> ApiKeys:
        """The API keys."""
        return parse_api_keys(self.api_keys)

    @property
    def origins(self) -> list[str]:
        """The origins of other sites whose pages may call."""
        return list(listed(self.cors_origins))

    @property
    def hosts(self) -> list[str]:
        """The allowed names of this server, besides the address that it listens on."""
        return list(listed(self.allowed_hosts))

    @property
    def proxies(self) -> list[IPv4Network | IPv6Network]:
        """The networks of the trusted proxies in front of this server."""
        return _networks(self.trusted_proxies)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        _networks(text)
        return text

    @field_validator("redis_url", "queue_url")
    @classmethod
    def _names_redis(cls, text: str) -> str:
        if text:
            read_url(text)
            check_certificates(text)
        return text

    @field_validator("api_keys")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse_api_keys(text)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        for origin in listed(text):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin like https://example.com (no path, no slash at the end)")
        return text


def _networks(text: str) -> list[IPv4Network | IPv6Network]:
    found = []
    for part in listed(text):
        try:
            found.append(ip_network(part, strict=False))
        except ValueError:
            raise ValueError(f"{part!r} is no address or network like 10.0.0.7 or 10.0.0.0/8") from None
    return found


class Configuration(BaseModel):
    """The settings, providers, prices and proxies that the environment configures."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    settings: Settings
    providers: dict[str, Provider]
    prices: Prices
    network: Network = Network()
    service_links: tuple[str, ...] = ()
    """The variables that were ignored because Kubernetes made them."""


def environment(directory: Path | None = None) -> dict[str, str]:
    """The variables of ``.env`` in the directory (default: the current one), with those of the process's
    environment over them. Raises :class:`BadSettings` where that file can't be read."""
    file = (directory or Path.cwd()) / ".env"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return dict(os.environ)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise BadSettings(f"The settings in {file} can't be read: {why}.") from None
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            # The text leaves out the line itself, which may hold a key.
            raise BadSettings(
                f"The settings in {file} can't be read: line {binding.original.line} is no NAME=value, or lacks a "
                "quotation mark."
            )
    from_file = dotenv_values(stream=io.StringIO(text))
    return {**{k: v for k, v in from_file.items() if v is not None}, **os.environ}


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made this variable for a service: then it is no setting."""
    return any(
        shape.fullmatch(name) is not None and _LINK_VALUES[kind].fullmatch(value.strip()) is not None
        for shape, kind in _LINKS
    )


def load(env: Mapping[str, str]) -> Configuration:
    """Read the settings. In: an environment. Raises :class:`BadSettings` with a text for people."""
    links = tuple(sorted(name for name, value in env.items() if is_service_link(name, value)))
    values: dict[str, Any] = {
        name.removeprefix(PREFIX).lower(): value.strip()
        for name, value in env.items()
        if name.startswith(PREFIX) and name not in OF_CALLERS and name not in links and value.strip()
    }
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{PREFIX}{str(e['loc'][0]).upper() if e['loc'] else ''}: "
            + ("no such setting" if e["type"] == "extra_forbidden" else e["msg"].removeprefix("Value error, "))
            for e in error.errors()
        ]
        raise BadSettings("Settings that can't be used: " + "; ".join(lines)) from None
    if read_url(settings.queue_redis_url).kind == "cluster":
        raise BadSettings(
            f"The queue can't be on a cluster, which can only hold the logs: set {PREFIX}QUEUE_URL to a server of "
            "its own."
        )
    try:
        providers = load_providers(env, load_presets(settings.providers_file))
        prices = load_prices(settings.prices_file)
    except BadProvider as error:
        raise BadSettings(str(error)) from None
    except BadTable as error:
        raise BadSettings(f"Settings that can't be used: {error}") from None
    if settings.default_model.partition("/")[0] not in providers or "/" not in settings.default_model:
        known = ", ".join(sorted(providers))
        raise BadSettings(f"{PREFIX}DEFAULT_MODEL must be provider/name, with a provider of these: {known}")
    return Configuration(
        settings=settings, providers=providers, prices=prices, network=read_network(env), service_links=links
    )


def load_presets(user_file: str = "") -> dict[str, Preset]:
    """The table of providers, with the user's file ('': none) over it. Raises
    :class:`shared.config.tables.BadTable`."""
    return {name: preset for (name,), preset in load_table("providers.toml", user_file, Preset, 1).items()}


def load_prices(user_file: str = "") -> Prices:
    """The catalogue of prices, with the user's file ('': none) over it. Raises
    :class:`shared.config.tables.BadTable`."""
    table = load_table("prices.toml", user_file, Price, 2)
    return {(provider, model): price for (provider, model), price in table.items()}


def check_open(settings: Settings, host: str) -> None:
    """Check that the API may listen on this address: without keys only on loopback, unless ``allow_open`` is set.

    Raises :class:`BadSettings`.
    """
    if settings.keys or settings.allow_open or is_loopback(host):
        return
    raise BadSettings(
        f"Without keys everybody who reaches {host or 'this machine'} could use the API, so it does not listen "
        f"there. Make a key (`headrace key new NAME`) and put its entry into {PREFIX}API_KEYS, or listen on "
        f"127.0.0.1, or, if a firewall or proxy in front keeps others out, set {PREFIX}ALLOW_OPEN=true."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on this address. (Of names: localhost.)"""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
