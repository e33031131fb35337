"""The capabilities of each wire format and model: which fields of a request they support. Pure, no I/O.

Theory of operation. A request has one form for all providers; an adapter translates each field into its own wire
format. A field that the format can't express is refused when the stream is created, with the field's name, for the
model and for each fallback. Otherwise the provider would refuse it later, or ignore it in silence.
The same holds for a feature that a provider lacks (``lacks`` in its row of the table), and for combinations that a
format refuses (Claude's thinking with a temperature). Differences between models are told by the model's name, and
only where the list of models that differ is closed: the older ones. An unknown name counts as a new model.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from shared.config.providers import Feature, Provider, WireFormat

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

WORDS: Final[dict[Feature, dict[WireFormat, str]]] = {
    "tool_choice": {
        "openai": "tool_choice",
        "anthropic": "tool_choice.type",
        "google": "toolConfig.functionCallingConfig.mode",
    },
    "tool_choice.name": {
        "openai": "tool_choice.function.name",
        "anthropic": "tool_choice.name",
        "google": "toolConfig.functionCallingConfig.allowedFunctionNames",
    },
    "parallel_tool_calls": {
        "openai": "parallel_tool_calls",
        "anthropic": "tool_choice.disable_parallel_tool_use",
        "google": "",
    },
    "response_format.json_object": {
        "openai": "response_format.type",
        "anthropic": "",
        "google": "generationConfig.responseMimeType",
    },
    "response_format.json_schema": {
        "openai": "response_format.json_schema",
        "anthropic": "output_config.format",
        "google": "generationConfig.responseJsonSchema",
    },
    "reasoning": {
        "openai": "reasoning_effort",
        "anthropic": "output_config.effort",
        "google": "generationConfig.thinkingConfig.thinkingLevel",
    },
    "reasoning.budget_tokens": {
        "openai": "reasoning.max_tokens",
        "anthropic": "thinking.budget_tokens",
        "google": "generationConfig.thinkingConfig.thinkingBudget",
    },
    "seed": {"openai": "seed", "anthropic": "", "google": "generationConfig.seed"},
    "user": {"openai": "user", "anthropic": "metadata.user_id", "google": ""},
    "tools.strict": {"openai": "tools.0.function.strict", "anthropic": "tools.0.strict", "google": ""},
}
"""Feature → wire format → the field's place in the body of a call; '' where the format has no such field, so that
the request is refused. (In the OpenAI format only providers whose ``reasoning`` is an object take a budget.)"""

MIN_BUDGET: Final = 1024
"""Tokens: Anthropic's smallest thinking budget."""

OPTIONS: Final[dict[str, str]] = {
    "openai": "chat_template_kwargs frequency_penalty guided_choice guided_grammar guided_json guided_regex "
    "logit_bias logprobs min_p min_tokens parallel_tool_calls presence_penalty reasoning reasoning_effort "
    "repeat_penalty repetition_penalty response_format seed stop stop_token_ids structured_outputs temperature "
    "thinking tool_choice top_a top_k top_logprobs top_p typical_p verbosity",
    "anthropic": "output_config stop_sequences temperature thinking tool_choice top_k top_p",
    "google": "generationConfig safetySettings toolConfig",
}
"""The names that ``provider_options`` may hold where no API keys are set, by wire format: all of them steer how the
model chooses its words."""

RESERVED: Final = frozenset(
    {
        *("model", "models", "messages", "contents", "stream"),
        *("streamoptions", "usage", "n", "bestof", "candidatecount", "servicetier"),
        *("maxtokens", "maxcompletiontokens", "maxoutputtokens", "maxnewtokens", "maxtokenstosample"),
        *("numpredict", "npredict"),
        *("apibase", "baseurl", "apikey", "apiversion", "apitype", "endpoint"),
        *("headers", "extraheaders", "extrabody", "extraquery", "authorization"),
    }
)
"""The names that ``provider_options`` may never hold, in lower case and without ``_`` and ``-``. Such an option
would change the request from what the record says, send it to another server, or change the basis of limits and
costs."""
_WITHIN: Final = frozenset({"generationconfig", "options"})
"""The objects in which Google and Ollama put their limits."""
CALLERS_TOOLS: Final = frozenset({"custom", "function"})
"""Types of tools that the caller runs itself; the provider charges nothing for them."""

GOOGLE_TOOLS: Final = frozenset(
    {
        "google_search",
        "google_search_retrieval",
        "google_maps",
        "url_context",
        "code_execution",
        "file_search",
        "computer_use",
        "enterprise_web_search",
        "retrieval",
    }
)
"""Gemini's own tools, by their names there: fields of its object ``Tool``."""
_DATED: Final = re.compile(r"_\d{8}$")
"""The date at the end of the types of Anthropic's tools."""


class Refusal(NamedTuple):
    """A field that can't be asked for (its path, with dots), and the reason, for people."""

    field: str
    reason: str


class Claude(NamedTuple):
    """A version of Claude."""

    major: int
    minor: int

    @property
    def thinks_by_budget(self) -> bool:
        """Whether it takes a thinking budget: the newer versions take only an effort."""
        return (3, 7) <= self < (4, 7)

    @property
    def thinks_by_effort(self) -> bool:
        return self >= (4, 6)


_CLAUDE: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[.-](\d{1,2}))?(?!\d)")
_OLD_GEMINI: Final = re.compile(r"gemini-[12]\b")


def claude(model: str) -> Claude | None:
    """The version in a model's name (``claude-sonnet-4-5-20250929`` is 4.5); None where the model is no Claude."""
    found = _CLAUDE.search(model)
    return Claude(int(found[1]), int(found[2] or 0)) if found else None


def is_old_gemini(model: str) -> bool:
    """Whether the model is a Gemini before 3: these take a thinking budget, and need no signatures back."""
    return _OLD_GEMINI.search(model) is not None


def needs_signatures(model: str) -> bool:
    """Whether the model refuses tool calls without a signature, as Gemini does from 3 on."""
    return "gemini-" in model and not is_old_gemini(model)


def asked_for(request: Mapping[str, Any]) -> Iterator[tuple[Feature, str]]:
    """The features that a request asks for, each with the field that asks for it."""
    if (choice := request.get("tool_choice")) is not None:
        yield ("tool_choice.name" if isinstance(choice, dict) else "tool_choice"), "tool_choice"
    if request.get("parallel_tool_calls") is False:
        yield "parallel_tool_calls", "parallel_tool_calls"
    match (request.get("response_format") or {}).get("type"):
        case "json_object":
            yield "response_format.json_object", "response_format.type"
        case "json_schema":
            yield "response_format.json_schema", "response_format.type"
    if reasoning := request.get("reasoning"):
        yield "reasoning", "reasoning"
        if "budget_tokens" in reasoning:
            yield "reasoning.budget_tokens", "reasoning.budget_tokens"
    if request.get("seed") is not None:
        yield "seed", "seed"
    if request.get("user") is not None:
        yield "user", "user"
    for n, tool in enumerate(request.get("tools") or ()):
        if tool.get("strict") and "type" not in tool:
            yield "tools.strict", f"tools.{n}.strict"


def refusal(
    provider: Provider, model: str, request: Mapping[str, Any], max_tokens: int | None = None
) -> Refusal | None:
    """The first field of a request that this provider, with this model, would refuse or ignore; None: no field.

    ``request``: in the record's form. ``max_tokens``: the limit that will be sent; None: no limit.
    """
    return next(_refusals(provider, model, request, max_tokens), None)


def _refusals(
    provider: Provider, model: str, request: Mapping[str, Any], max_tokens: int | None
) -> Iterator[Refusal]:
    for feature, field in asked_for(request):
        words: dict[Any, str] = WORDS[feature]
        lacks = feature in provider.quirks.lacks
        if feature == "reasoning.budget_tokens" and provider.wire_format == "openai":
            lacks = lacks or provider.quirks.reasoning != "object"
        if lacks or not words.get(provider.wire_format):
            yield Refusal(field, "it does not support this")
    yield from _tools(provider.wire_format, request)
    match provider.wire_format:
        case "anthropic":
            yield from _anthropic(model, request, max_tokens)
        case "google":
            yield from _google(model, request)
        case _:
            yield from _openai(request)


def disallowed(provider: Provider, request: Mapping[str, Any], owner: str, *, keyed: bool) -> Refusal | None:
    """The first option, or tool of the provider's own, in a request that the operator has not allowed for this
    provider; None: there is none. ``owner``: the name of the caller's key. ``keyed``: API keys are set, so only
    listed names (``Provider.options``) are allowed."""
    listed = (entry.rpartition(":") for entry in provider.options)
    allowed = {_plain(name) for key, _, name in listed if key in ("", owner)}
    variable = f"{provider.name.upper()}_OPTIONS"
    options = request.get("provider_options") or {}
    for path, name in _names(options, "provider_options"):
        if _plain(name) in RESERVED:
            return Refusal(path, "it is reserved, because the call, its limits and its costs depend on it")
    usual = set() if keyed else {_plain(name) for name in OPTIONS[provider.wire_format].split()}
    for name in options:
        if _plain(name) not in allowed | usual:
            return Refusal(f"provider_options.{name}", f"the operator can allow it with {variable}={name}")
    for n, tool in enumerate(request.get("tools") or () if keyed else ()):
        kind = tool.get("type")
        if kind is not None and kind not in CALLERS_TOOLS and not {"tools", _plain(f"tools.{kind}")} & allowed:
            return Refusal(f"tools.{n}.type", f"the operator can allow it with {variable}=tools.{kind}")
    return None


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _names(options: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        yield f"{path}.{name}", name
        if _plain(name) in _WITHIN and isinstance(value, dict):
            yield from _names(value, f"{path}.{name}")


def _tools(wire_format: str, request: Mapping[str, Any]) -> Iterator[Refusal]:
    for n, tool in enumerate(request.get("tools") or ()):
        kind = tool.get("type")
        if kind is None:
            continue
        match wire_format:
            case "google":
                fits = kind in GOOGLE_TOOLS
            case "anthropic":
                fits = kind not in GOOGLE_TOOLS and not (kind == "custom" and "custom" in tool)
            case _:
                fits = kind not in GOOGLE_TOOLS and not _DATED.search(kind)
                fits = fits and not (kind == "custom" and "custom" not in tool)
        if not fits:
            yield Refusal(f"tools.{n}.type", f"it has no tool {kind!r} of its own")


def _openai(request: Mapping[str, Any]) -> Iterator[Refusal]:
    for n, turn in enumerate(request["messages"]):
        parts = turn["content"] if turn["role"] == "tool" and isinstance(turn["content"], list) else []
        if any(part["type"] != "text" for part in parts):
            yield Refusal(f"messages.{n}.content", "a tool's result must be text there")


def _anthropic(model: str, request: Mapping[str, Any], max_tokens: int | None) -> Iterator[Refusal]:
    """Source: Anthropic's documentation, "Extended thinking" and "Adaptive thinking" (feature compatibility)."""
    options = request.get("provider_options") or {}
    version = claude(model)
    budget, budget_field = _budget(request, options)
    thinking = budget is not None or (request.get("reasoning") or {}).get("effort", "none") != "none"
    if (given := options.get("thinking")) and isinstance(given, dict):
        thinking = given.get("type") in ("enabled", "adaptive")
    if budget is not None:
        if version is not None and not version.thinks_by_budget:
            why = "takes no budget" if version.thinks_by_effort else "does not think"
            yield Refusal(budget_field, f"this model {why}: leave it out, or use reasoning.effort")
        if budget < MIN_BUDGET:
            yield Refusal(budget_field, f"a budget has at least {MIN_BUDGET} tokens")
        if max_tokens is not None and budget >= max_tokens:
            yield Refusal(
                budget_field,
                f"a budget of {budget} tokens must be smaller than max_tokens, which is {max_tokens} here",
            )
    elif thinking and version is not None and not version.thinks_by_effort:
        if not version.thinks_by_budget:
            yield Refusal("reasoning", "this model does not think")
        if max_tokens is not None and max_tokens <= MIN_BUDGET:
            yield Refusal("max_tokens", f"thinking takes {MIN_BUDGET} tokens at least, so more must be allowed")
    temperature, top_p = (options.get(name, request.get(name)) for name in ("temperature", "top_p"))
    where = {name: f"provider_options.{name}" if name in options else name for name in ("temperature", "top_p")}
    if isinstance(temperature, int | float) and temperature > 1:
        yield Refusal(where["temperature"], "a temperature is at most 1")
    if thinking:
        if temperature not in (None, 1):
            yield Refusal(where["temperature"], "with thinking it must be 1, or left out")
        if isinstance(top_p, int | float) and top_p < 0.95:
            yield Refusal(where["top_p"], "with thinking it must be 0.95 or more, or left out")
        if options.get("top_k") is not None:
            yield Refusal("provider_options.top_k", "with thinking it must be left out")
        choice = request.get("tool_choice")
        if choice == "required" or isinstance(choice, dict):
            yield Refusal("tool_choice", "with thinking no tool can be forced: only auto and none")
    if version is not None and version >= (4, 7):
        for name, value in (("temperature", temperature), ("top_p", top_p)):
            if value not in (None, 1):
                yield Refusal(where[name], "this model does not take it")
    elif version is not None and version >= (4, 1) and temperature is not None and top_p is not None:
        yield Refusal(where["top_p"], "this model takes either temperature or top_p")


def _budget(request: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[int | None, str]:
    """The thinking budget that is asked for (tokens), and the field that asks for it. Options win, as in calls."""
    given = options.get("thinking")
    if given is not None:
        found = given.get("budget_tokens") if isinstance(given, dict) else None
        return (found if isinstance(found, int) else None), "provider_options.thinking.budget_tokens"
    return (request.get("reasoning") or {}).get("budget_tokens"), "reasoning.budget_tokens"


def _google(model: str, request: Mapping[str, Any]) -> Iterator[Refusal]:
    seed = request.get("seed")
    if isinstance(seed, int) and not -(2**31) <= seed < 2**31:
        yield Refusal("seed", "it must be a number of 32 bits there")
    if (request.get("reasoning") or {}).get("effort") == "none" and not is_old_gemini(model):
        yield Refusal("reasoning.effort", "this model always thinks: minimal is the least")
