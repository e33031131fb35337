"""One reader of errors for all providers, wire formats and paths. Pure, no I/O.

Theory of operation. An error may be in the body of a response with any status, in an ``error`` event, in a bare
line between events, or inside a choice. It has many shapes: ``{"error": {…}}``, ``{"error": text}``, ``{"object":
"error"}``, ``{"error_message"}``, ``{"detail"}`` (text, or FastAPI's list), ``{"msg"}``, ``{"message", "code"}``,
``{"errors": […]}``, AWS's ``__type`` and ``{"…Exception": {…}}``, Google's list around an object, and an upstream's
error as text inside a gateway's. :func:`read_error` collects its sentences, its words (codes, types, reasons) and
its numbers. From these it decides what the error is about, in this order:

1. by a word that has one meaning (``context_length_exceeded``, ``insufficient_quota``);
2. by a phrase in a sentence that providers use for one thing (an empty account under a general word);
3. by a general word (``invalid_request_error``), a number in the body, and last the response's status.

The body comes before the status, because gateways pass a refusal on under a status of their own. A general word for
a bad request counts less than a status that says more (DeepSeek: ``invalid_request_error`` with 401 and 402).

Sources: the error pages of the API references of OpenAI, Azure OpenAI, Anthropic, Gemini, Amazon Bedrock, DeepSeek,
Mistral, Groq, OpenRouter, xAI, Alibaba's DashScope, vLLM and llama.cpp's server.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.config.providers import Provider
from worker.providers.base import ProviderError

About = Literal["key", "credit", "access", "model", "length", "content", "request", "rate", "server", ""]
"""What an error is about; '' if that is unknown."""

CODES: Final[dict[About, str]] = {
    "key": "provider_auth",
    "credit": "provider_no_credit",
    "access": "provider_no_access",
    "model": "provider_unknown_model",
    "length": "context_too_long",
    "content": "content_filtered",
    "request": "provider_refused",
    "rate": "provider_rate_limited",
    "server": "provider_unavailable",
    "": "provider_refused",
}
"""The project's own code for each."""

_PASSING: Final = frozenset({"rate", "server"})
"""Errors that pass: the same request may succeed later."""

MAX_DEPTH: Final = 8
"""Levels of an error that are read: a gateway's error around a provider's, around a list."""
MAX_SENTENCE: Final = 4000
MAX_SENTENCES: Final = 16
"""Sentences of one error that are kept: a person reads a few lines, and each is searched for phrases."""
MAX_LINES: Final = 8
"""Lines that are tried as JSON if the body as a whole is none."""
MAX_WAIT_S: Final = 24 * 3600.0
"""The longest wait that is believed: a provider that names a longer one means a day's quota."""


@dataclass(frozen=True, slots=True)
class ErrorReading:
    """An error as it was read: ``sentence`` for people ('' for none), the provider's own ``word`` (its code or
    type; '' for none), what the error is ``about``, and the seconds to wait, if its body names them."""

    sentence: str = ""
    word: str = ""
    about: About = ""
    retry_after_s: float | None = None

    @property
    def code(self) -> str:
        """The project's stable code."""
        return CODES[self.about]

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.about in _PASSING


# -- what is an error ---------------------------------------------------------------------------------


def read_error(found: Any, *, status: int | None = None, is_error: bool = False) -> ErrorReading | None:
    """Read an error. In: bytes or text (JSON, ``error: …``, words, a page of HTML) or decoded JSON; and the
    response's status, if it is a response's body. Out: None if it is not an error. With a status of 400 or more, or
    with ``is_error`` (the caller knows that it is one), it always is one.
    """
    is_error = is_error or (status is not None and status >= 400)
    value = found
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "replace")
    if isinstance(value, str):
        value, marked = _parsed(value)
        is_error = is_error or marked
    if not (is_error or is_error_object(value)):
        return None
    gathered = _Gathered()
    gathered.take(value)
    return gathered.reading(status)


_ANSWERS: Final = frozenset({"choices", "candidates", "delta", "content", "content_block", "usage"})
"""Fields that an answer has, and an error has not."""


def is_error_object(value: Any) -> bool:
    """Whether decoded JSON is an error, although an answer was expected."""
    if isinstance(value, list):
        return bool(value) and is_error_object(value[0])
    if not isinstance(value, dict):
        return False
    if value.get("error") or value.get("errors"):
        return True
    if not _ANSWERS.isdisjoint(value):
        return False
    if value.get("object") == "error" or value.get("type") == "error" or "__type" in value:
        return True
    if _aws_exception(value) or _failed_base(value):
        return True
    if any(value.get(name) for name in ("error_message", "errorMessage", "error_type", "error_code", "detail")):
        return True
    if "msg" in value and "type" not in value:
        return True
    said = isinstance(value.get("message") or value.get("Message"), str)
    return said and ("type" not in value or "code" in value or "status" in value) and "role" not in value


def _aws_exception(value: dict[str, Any]) -> str:
    """The name in ``{"throttlingException": {…}}``, or ''."""
    names = (name for name, inner in value.items() if name.endswith("Exception") and isinstance(inner, dict))
    return next(names, "")


def _failed_base(value: dict[str, Any]) -> dict[str, Any] | None:
    """MiniMax's ``base_resp``, if it reports a failure."""
    base = value.get("base_resp")
    return base if isinstance(base, dict) and base.get("status_code") else None


_MARK: Final = re.compile(r"\s*(?:data:\s*)?(?:error|\[error\])\s*:\s*", re.IGNORECASE)


def _parsed(text: str) -> tuple[Any, bool]:
    """A text's JSON, or the text itself ('' for HTML or incomplete JSON); and whether it begins with ``error:``."""
    mark = _MARK.match(text)
    rest = text[mark.end() :] if mark else text
    rest = rest.strip().removeprefix("data:").strip()
    # If the whole is no JSON, try each line: an error's body may be a stream of one event.
    for one in (rest, *rest.splitlines()[:MAX_LINES]):
        try:
            value = json.loads(one.removeprefix("data:"))
        except (ValueError, RecursionError):
            continue
        if one is rest or isinstance(value, dict):
            return value, mark is not None
    return ("" if rest.startswith(("<", "{", "[")) else rest), mark is not None


# -- what it says -------------------------------------------------------------------------------------

_SENTENCES: Final = (
    *("message", "Message", "msg", "detail", "error_message", "errorMessage", "error_msg", "status_msg"),
    *("reason", "title", "description", "error_description"),
)
"""Fields with sentences for people. A ``reason`` of one word is a code."""
_WORDS: Final = (
    "code",
    "type",
    "status",
    "error_type",
    "error_code",
    "errorCode",
    "reason",
    "__type",
    "Code",
    "kind",
)
_NUMBERS: Final = (
    *("code", "status", "status_code", "statusCode", "http_status", "error_code", "originalStatusCode"),
    "http_code",
)
_AROUND: Final = ("error", "errors", "innererror", "inner_error", "details", "metadata", "response", "body", "data")
"""Fields that hold more of the error."""
_WAITS: Final = {
    "retry_after": 1.0,
    "retryAfter": 1.0,
    "retryDelay": 1.0,
    "retry_after_seconds": 1.0,
    "retry_after_ms": 0.001,
}
"""Fields that name a wait, and their units in seconds."""
_ONE_WORD: Final = re.compile(r"[\w.:#/-]+", re.ASCII)


class _Gathered:
    """Everything that the levels of an error say, from the outermost to the innermost."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.words: list[str] = []
        self.numbers: list[int] = []
        self.wait_s: float | None = None

    def take(self, value: Any, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            return
        if isinstance(value, str):
            self._take_text(value, depth)
        elif isinstance(value, list):
            for one in value[:MAX_DEPTH]:
                self.take(one, depth + 1)
        elif isinstance(value, dict):
            self._take_object(value, depth)

    def _take_text(self, text: str, depth: int) -> None:
        stripped = text.strip()[:MAX_SENTENCE].encode("utf-8", "replace").decode()
        if len(self.sentences) >= MAX_SENTENCES:
            return
        if stripped.startswith(("{", "[")):  # an upstream's error, passed on as text
            try:
                self.take(json.loads(stripped), depth + 1)
                return
            except (ValueError, RecursionError):
                pass
        if stripped and stripped not in self.sentences:
            self.sentences.append(stripped)

    def _take_object(self, value: dict[str, Any], depth: int) -> None:
        if name := _aws_exception(value):
            self.words.append(name)
            self.take(value[name], depth + 1)
        if base := _failed_base(value):
            self.take(base, depth + 1)
        self._take_wait(value)
        for name in _NUMBERS:
            self._take_number(value.get(name))
        for name in _WORDS:
            word = value.get(name)
            if isinstance(word, str) and _ONE_WORD.fullmatch(word) and word not in ("error", "object"):
                self.words.append(word)
        place = _place(value.get("loc"))
        for name in _SENTENCES:
            said = value.get(name)
            if isinstance(said, str):
                if not (name == "reason" and _ONE_WORD.fullmatch(said.strip())):
                    self._take_text(f"{place}{said.strip()}", depth)
            elif said is not None:
                self.take(said, depth + 1)
        for name in _AROUND:
            inner = value.get(name)
            self.take(inner, depth + 1)
            if name == "metadata" and isinstance(inner, dict):
                # OpenRouter: the error of the provider behind it, or the reasons of its own moderation.
                self.take(inner.get("raw"), depth + 1)
                if (reasons := inner.get("reasons")) and isinstance(reasons, list):
                    self.words.append("moderation")

    def _take_number(self, value: Any) -> None:
        if isinstance(value, str) and re.fullmatch(r"[1-5]\d\d", value, re.ASCII):
            value = int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 400 <= value < 600:
            self.numbers.append(int(value))

    def _take_wait(self, value: dict[str, Any]) -> None:
        for name, unit in _WAITS.items():
            self._wait(value.get(name), unit)

    def _wait(self, value: Any, unit: float) -> None:
        if isinstance(value, dict):  # Google's duration, as an object
            value = value.get("seconds")
        if isinstance(value, str):
            match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*s?\s*", value, re.ASCII)
            value = float(match[1]) if match else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
            self._set_wait(value * unit)

    def _set_wait(self, wait_s: float) -> None:
        self.wait_s = min(MAX_WAIT_S, max(wait_s, self.wait_s or 0.0))

    def reading(self, status: int | None) -> ErrorReading:
        sentence = _joined(self.sentences)
        for said in self.sentences:
            if (wait_s := _wait_in(said)) is not None:
                self._set_wait(wait_s)
        about = _about(self.words, sentence, [*self.numbers, *([] if status is None else [status])])
        word = next(iter(self.words), "") or next(map(str, self.numbers), "")
        return ErrorReading(sentence, word, about, self.wait_s)


def _place(loc: Any) -> str:
    """FastAPI's location of a fault, as ``body.stream_options: ``."""
    if not isinstance(loc, list):
        return ""
    return ".".join(str(one) for one in loc if isinstance(one, str | int)) + ": "


def _joined(sentences: list[str]) -> str:
    """All sentences once, in their order, without those that are part of another one."""
    kept = [one for one in sentences if not any(one != other and one in other for other in sentences)]
    return " | ".join(dict.fromkeys(kept))


_WAIT: Final = re.compile(
    r"(?:try again|retry|wait)\s*(?:in|after|for)?\s*(?:about\s*)?((?:\d{1,6}(?:\.\d{1,9})?\s*"
    r"(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)(?![a-z])\s*)+|"
    r"(?:\d{1,6}(?:\.\d{1,9})?(?:ms|s|m|h|d))+)",
    re.IGNORECASE | re.ASCII,
)
"""OpenAI, Groq: "Please try again in 6m1.5s", "in 20ms"; Azure: "Please retry after 20 seconds"."""
_SPAN: Final = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)\s*(ms|milli|s|m|h|d)", re.IGNORECASE | re.ASCII)
_UNITS: Final = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _wait_in(sentence: str) -> float | None:
    found = _WAIT.search(sentence)
    if found is None:
        return None
    return sum(float(amount) * _UNITS[unit.lower()] for amount, unit in _SPAN.findall(found[1]))


# -- what it is about ---------------------------------------------------------------------------------

_MEANINGS: Final[dict[About, str]] = {
    "key": "invalid_api_key api_key_invalid api_key_expired api_key_service_blocked invalid_key "
    "missing_api_key no_api_key invalid_authentication unrecognized_client invalid_client_token_id "
    "invalid_signature missing_authentication_token expired_token incorrect_api_key "
    "account_deactivated invalid_subscription_key invalid_token token_expired",
    "credit": "insufficient_quota exceeded_current_quota insufficient_balance insufficient_credits "
    "insufficient_funds billing billing_not_active billing_hard_limit_reached billing_disabled "
    "payment_required arrearage credit_balance_too_low out_of_credits no_credit account_overdue "
    "exceeded_spend_limit",
    "access": "access_denied model_access_denied request_forbidden unsupported_country_region_territory "
    "model_not_allowed access_terminated missing_permission insufficient_permissions "
    "model_terms_required gated_repo organization_restricted not_authorized unauthorized_model service_disabled",
    "model": "model_not_found unknown_model invalid_model no_such_model model_not_exist model_not_available "
    "deployment_not_found model_not_supported unsupported_model model_decommissioned "
    "model_deprecated resource_not_found",
    "length": "context_length_exceeded exceed_context_size context_window_exceeded "
    "model_context_window_exceeded max_context_length_exceeded context_too_long prompt_too_long "
    "input_too_long tokens_limit_exceeded request_too_large string_above_max_length "
    "payload_too_large",
    "content": "content_filter content_policy_violation content_filtered responsible_ai_policy_violation "
    "data_inspection_failed moderation flagged_input prompt_blocked safety sensitive_content "
    "input_moderation content_moderation policy_violation guardrail_intervened "
    "content_filter_blocked",
    "rate": "service_quota_exceeded rate_limit rate_limit_exceeded rate_limit_reached too_many_requests "
    "throttling throttled requests_limit_exceeded throttling_rate_quota throttling_allocation_quota "
    "tokens requests user_rate_limit_exceeded concurrency_limit_exceeded",
    "server": "overloaded engine_overloaded model_overloaded server_overloaded service_unavailable "
    "no_capacity capacity model_not_ready model_timeout slow_down service_unavailable_exception "
    "model_stream bad_gateway gateway_timeout provider_unavailable",
}
"""Words with one meaning, in the form that :func:`_plain` gives."""

_GENERALLY: Final[dict[About, str]] = {
    "key": "authentication unauthenticated unauthorized auth",
    "access": "permission permission_denied forbidden",
    "rate": "resource_exhausted quota_exceeded limit_exceeded",
    "server": "unavailable api server internal internal_server timeout deadline_exceeded aborted",
    "model": "not_found",
    "request": "invalid_request invalid_argument bad_request invalid_parameter failed_precondition "
    "out_of_range validation extra_forbidden missing unprocessable_entity invalid_value "
    "unsupported_value unsupported_parameter unknown_parameter missing_required_parameter "
    "invalid_type json_validate_failed tool_use_failed method_not_allowed not_supported "
    "invalid_image invalid_prompt invalid_json",
}
"""Words whose meaning differs between providers, so a sentence or a status may say more."""

_PHRASES: Final[dict[About, str]] = {
    "length": r"(maximum|max|available|model'?s?) context (length|window|size)|"
    r"context (length|window|size)[^.]{0,40}exceed|exceeds?[^.]{0,60}context (length|window|size)|"
    r"prompt is too long|"
    r"(input|prompt|request)[^.]{0,40} (is )?(too long|exceeds the maximum (number of )?tokens)|"
    r"input token count[^.]{0,40}exceeds|too many (input )?tokens in|reduce the length of the|"
    r"maximum (prompt|input) length|longer than the model",
    "credit": r"credit balance|(insufficient|not enough|out of|no|more|requires? more) (credits?|balance|funds)\b|"
    r"insufficient (account )?balance|payment required|billing (hard )?limit|spend(ing)? limit|"
    r"account[^.]{0,30}(arrears|overdue)|billing[^.]{0,40}not (active|enabled)|"
    r"used all available credits|add (more )?credits|余额不足|欠费",
    "content": r"(content|safety|usage) (management )?polic(y|ies)|content filter|flagged (by|for|as|input)|"
    r"was flagged|requires moderation|prompt was blocked|inappropriate content|data inspection",
    "model": r"model[^\n]{0,120}(does ?n[o']t exist|not exist|not found|no longer|decommissioned|"
    r"has been deprecated|unknown|is not a valid)|"
    r"(unknown|no such|invalid|unsupported) model|not a valid model|"
    r"no (allowed|available) (providers|endpoints)|no endpoints found|model not found",
    "access": r"(not|n'?t) have (access|permission)|no (access|permission)|"
    r"access (to [^.]{0,80})?(is |was )?denied|"
    r"not (allowed|authorized|permitted|entitled) to (use|access|invoke|perform)|gated|country, region|"
    r"must be verified|insufficient permissions|missing scopes|location is not supported|"
    r"not available in your (country|region)|requires? (a )?(verified|subscription)",
    "key": r"(api.?key|x-api-key|(access|auth\w*|bearer|api) token|credentials?)[^.]{0,40}(invalid|not valid|"
    r"incorrect|expired|missing|revoked|not provided|wrong|leaked)|"
    r"(invalid|incorrect|expired|missing|no|wrong|valid) (api|x-api|auth\w*|bearer)[ -]?(key|token|credentials?)|"
    r"authentication fails",
    "rate": r"rate.?limit|too many requests|requests per (minute|day|second)|tokens per (minute|day)",
    "server": r"overloaded|at capacity|no capacity|temporarily unavailable|try again later|is loading",
}
"""Phrases in sentences, each of which providers use for one thing. The first match counts."""


def _by_word(abouts: Mapping[About, str]) -> dict[str, About]:
    return {word: about for about, words in abouts.items() for word in words.split()}


_MEANING: Final = _by_word(_MEANINGS)
_GENERAL: Final = _by_word(_GENERALLY)
_PHRASE: Final = {about: re.compile(phrase, re.IGNORECASE) for about, phrase in _PHRASES.items()}

_WORD_IN_SENTENCE: Final = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b", re.ASCII)

_BY_STATUS: Final[dict[int, About]] = {
    401: "key",
    402: "credit",
    403: "key",
    404: "model",
    408: "server",
    409: "server",
    413: "length",
    425: "server",
    429: "rate",
}
_TELLING: Final = frozenset({401, 402, 403, 404, 408, 413, 429})
"""Statuses that say more than a general word for a bad request."""


def _plain(word: str) -> str:
    """``com.amazon#ThrottlingException`` → ``throttling``; ``RateLimitError`` → ``rate_limit``."""
    word = word.rpartition("#")[2].split(":", 1)[0]
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", word)
    word = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
    while (shorter := re.sub(r"_(error|exception|err)$", "", word)) != word:
        word = shorter
    return word


def _about(words: list[str], sentence: str, numbers: list[int]) -> About:
    plain = [_plain(word) for word in words]
    phrases = [about for about, phrase in _PHRASE.items() if phrase.search(sentence)]
    # A gateway may write the provider's code into its own sentence.
    plain += [word for word in _WORD_IN_SENTENCE.findall(sentence) if word in _MEANING]
    meant = next((_MEANING[word] for word in plain if word in _MEANING), None)
    if meant == "model" and "access" in phrases and "model" not in phrases:
        return "access"  # OpenAI has the same code for a model that does not exist and one that is not allowed
    if meant is not None:
        return meant
    generally = next((_GENERAL[word] for word in plain if word in _GENERAL), None)
    by_number = [about for number in numbers if (about := _of_status(number))]
    if generally == "server" and by_number and by_number[0] not in _PASSING:
        generally = None  # Ollama: api_error, under 404
    # Most phrases say what is wrong with a request. They are ignored for an error that passes, because its sentence
    # may contain such a phrase by accident.
    passing = generally in _PASSING or (generally is None and by_number[:1] in (["server"], ["rate"]))
    for about in phrases:
        if about == "server" and generally == "request":
            continue
        if not passing or about in ("credit", "length", "content", "rate"):
            return about
    if generally == "request" and (telling := [_BY_STATUS[one] for one in numbers if one in _TELLING]):
        return telling[0]
    if generally is not None:
        return generally
    return by_number[0] if by_number else ""


def _of_status(status: int) -> About:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return "server"
    return "request" if 400 <= status < 500 else ""


# -- what we say --------------------------------------------------------------------------------------


def to_provider_error(
    reading: ErrorReading,
    provider: Provider | None = None,
    model: str = "",
    *,
    status: int | None = None,
    in_stream: bool = False,
) -> ProviderError:
    """The project's own error, with a text for people. ``provider`` and ``model`` name what was asked, if that is
    known; ``status`` is the response's, for an error before the stream.

    In the stream (``in_stream``) an error that passes, or whose subject is unknown, is a ``provider_error_event``:
    part of the answer may have been generated and paid for, so a retry is no longer free.
    """
    head = f"The provider {provider.name!r}" if provider else "The provider"
    told = f" (status {status})" if status not in (None, 200) else ""
    says = f" It says: {reading.sentence}" if reading.sentence else ""
    if in_stream and (reading.retryable or not reading.about):
        after = f": {reading.sentence}" if reading.sentence else "."
        return ProviderError(
            "provider_error_event",
            f"{head} broke off with an error{after}",
            retryable=True,
            retry_after_s=reading.retry_after_s,
        )
    key = f": check {provider.key_variable}." if provider else "."
    address = f", or {provider.name.upper()}_BASE_URL is wrong" if provider else ""
    named = f" {model!r}" if model else ""
    text = {
        "provider_auth": f"does not accept the key{told}{key}",
        "provider_no_credit": f"has no credit left on this account, or its budget is used up{told}: add credit.",
        "provider_no_access": f"does not let this key use the model{named}{told}: ask for access, or take another.",
        "provider_unknown_model": f"does not know the model{named}{address}.",
        "context_too_long": f"takes no request of this length{told}: shorten it, or take another model.",
        "content_filtered": f"refuses this content{told}: change the request.",
        "provider_refused": f"refused the request{told}.",
        "provider_rate_limited": f"limits the rate of requests{told}: try again later.",
        "provider_unavailable": f"is not available just now{told}: try again later.",
    }[reading.code]
    return ProviderError(
        reading.code,
        f"{head} {text}{says}",
        retryable=reading.retryable,
        refusal=not reading.retryable,
        retry_after_s=reading.retry_after_s,
    )


class ErrorInAnswer(ProviderError):
    """An error that a reader found in an answer. A reader does not know the provider; :meth:`by` adds its name."""

    def __init__(self, reading: ErrorReading) -> None:
        error = to_provider_error(reading, in_stream=True)
        super().__init__(
            error.code,
            str(error),
            retryable=error.retryable,
            refusal=error.refusal,
            retry_after_s=error.retry_after_s,
        )
        self._reading = reading

    def by(self, provider: Provider) -> ProviderError:
        """The same error with the provider's name, and the name of the setting to check."""
        return to_provider_error(self._reading, provider, in_stream=True)


def empty_answer(provider: Provider) -> ProviderError:
    """The provider ended its answer without any content, and its usage does not say that this was intended.
    Headrace does not retry it: an answer in a form that can't be read would be paid for each time."""
    text = f"The provider {provider.name!r} ended its answer and said nothing at all: try again."
    return ProviderError("empty_answer", text, retryable=True, refusal=True)
