"""One reader of errors: each shape of error that providers send has its sentence, its meaning and its code.

The bodies follow the error pages of each provider's API reference, or what its server's source writes.
"""

import json
from typing import Any

import pytest

from shared.config.providers import Provider
from worker.providers.errors import CODES, empty_answer, read_error, to_provider_error

GOOGLE_QUOTA = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}],
    }
}
GOOGLE_KEY = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "x"}
        ],
    }
}


def openai(message: str, kind: str | None = None, code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


MEANINGS: list[tuple[Any, int | None, str]] = [
    # OpenAI, Azure OpenAI
    (openai("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"), 429, "credit"),
    (openai("Incorrect API key provided: sk-x", "invalid_request_error", "invalid_api_key"), 401, "key"),
    (
        openai("Project p does not have access to model m", "invalid_request_error", "model_not_found"),
        403,
        "access",
    ),
    (
        openai("The model m does not exist or you do not have access to it.", None, "model_not_found"),
        404,
        "model",
    ),
    (openai("no", "invalid_request_error", "context_length_exceeded"), None, "length"),
    (openai("no", "invalid_request_error", "context_length_exceeded"), 500, "length"),
    (openai("Unsupported parameter: 'x'", "invalid_request_error", "unsupported_parameter"), 400, "request"),
    (openai("The server had an error", "server_error"), None, "server"),
    (openai("Rate limit reached", "tokens", "rate_limit_exceeded"), 429, "rate"),
    (openai("Country, region, or territory not supported", "request_forbidden", "x"), 403, "access"),
    (openai("Your input was flagged", "invalid_request_error", "content_policy_violation"), 400, "content"),
    (
        {
            "error": {
                "code": "content_filter",
                "message": "The response was filtered.",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        400,
        "content",
    ),
    ({"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}, 404, "model"),
    ({"statusCode": 401, "message": "Unauthorized. Access token is missing or invalid."}, 401, "key"),
    # Anthropic
    (anthropic("overloaded_error", "Overloaded"), None, "server"),
    (anthropic("rate_limit_error", "slow down"), 429, "rate"),
    (anthropic("authentication_error", "invalid x-api-key"), 401, "key"),
    (anthropic("permission_error", "Your API key does not have permission."), 403, "access"),
    (anthropic("invalid_request_error", "Your credit balance is too low to access the API."), 400, "credit"),
    (anthropic("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"), 400, "length"),
    (anthropic("request_too_large", "Request exceeds the maximum size"), 413, "length"),
    (anthropic("invalid_request_error", "messages: at least one message is required"), 400, "request"),
    (anthropic("not_found_error", "model: claude-x"), 404, "model"),
    # Gemini, Vertex
    (GOOGLE_QUOTA, 429, "rate"),
    ([GOOGLE_QUOTA], None, "rate"),
    (GOOGLE_KEY, 400, "key"),
    ([GOOGLE_KEY], None, "key"),
    ({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}, 503, "server"),
    ({"error": {"code": 404, "message": "models/x is not found", "status": "NOT_FOUND"}}, 404, "model"),
    (
        {"error": {"code": 403, "message": "Permission denied on resource", "status": "PERMISSION_DENIED"}},
        403,
        "access",
    ),
    (
        {"error": {"code": 400, "message": "The input token count (9) exceeds 8.", "status": "INVALID_ARGUMENT"}},
        400,
        "length",
    ),
    # DeepSeek: a general word beside a status that says more
    (openai("Insufficient Balance", "unknown_error", "invalid_request_error"), 402, "credit"),
    (openai("Authentication Fails (no such user)", "authentication_error", "invalid_request_error"), 401, "key"),
    # Mistral, FastAPI
    (
        {
            "object": "error",
            "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": "not permitted"}]},
        },
        422,
        "request",
    ),
    ({"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]}, 422, "request"),
    ({"detail": "Unauthorized"}, 401, "key"),
    # OpenRouter
    ({"error": {"code": 402, "message": "This request requires more credits"}}, None, "credit"),
    (
        {"error": {"code": 403, "message": "m requires moderation", "metadata": {"reasons": ["violence"]}}},
        403,
        "content",
    ),
    ({"error": {"code": 404, "message": "No endpoints found for m."}}, 404, "model"),
    (
        {
            "error": {
                "code": 400,
                "message": "Provider returned error",
                "metadata": {
                    "raw": '{"error":{"message":"no","code":"context_length_exceeded"}}',
                    "provider_name": "x",
                },
            }
        },
        400,
        "length",
    ),
    # vLLM, llama.cpp, Ollama, LM Studio
    (
        {"object": "error", "message": "maximum context length is 4096", "type": "BadRequestError", "code": 400},
        None,
        "length",
    ),
    ({"object": "error", "message": "no", "type": "BadRequestError", "param": None, "code": 400}, None, "request"),
    ({"error": {"code": 400, "message": "no", "type": "exceed_context_size_error"}}, None, "length"),
    ('error: {"code":400,"message":"no"}', None, "request"),
    ({"error": "model 'x' not found"}, 404, "model"),
    ({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503, "server"),
    # xAI, DashScope, MiniMax, Cloudflare, Bedrock
    (
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: sk***"},
        400,
        "key",
    ),
    ({"code": "DataInspectionFailed", "message": "no"}, 400, "content"),
    ({"code": "Arrearage", "message": "no"}, 400, "credit"),
    ({"code": "InvalidParameter", "message": "no"}, None, "request"),
    ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, None, "credit"),
    ({"success": False, "errors": [{"code": 7003, "message": "no route"}]}, 400, "request"),
    ({"__type": "com.amazon.coral.service#ThrottlingException", "message": "slow"}, 429, "rate"),
    ({"throttlingException": {"message": "slow"}}, None, "rate"),
    ({"__type": "ValidationException", "message": "Input is too long for requested model."}, 400, "length"),
    ({"message": "You don't have access to the model with the specified model ID."}, 403, "access"),
    # Sentences that say more than their words
    (
        openai("Invalid prompt: it was flagged by our usage policy.", "invalid_request_error", "invalid_prompt"),
        400,
        "content",
    ),
    (openai("Your organization must be verified to use the model `m`.", "invalid_request_error"), 403, "access"),
    (
        openai("You have insufficient permissions. Missing scopes: model.request.", "invalid_request_error"),
        401,
        "access",
    ),
    (openai("Your account is suspended.", "exceeded_current_quota_error"), 429, "credit"),
    (openai('litellm.BadRequestError: {"code": "context_length_exceeded"}', None, "400"), 400, "length"),
    (
        {"error": {"code": 403, "message": "Your API key was reported as leaked.", "status": "PERMISSION_DENIED"}},
        403,
        "key",
    ),
    (
        {"error": {"code": 400, "message": "User location is not supported.", "status": "FAILED_PRECONDITION"}},
        400,
        "access",
    ),
    # A body that is a stream of one event
    ('data: {"error": {"message": "no", "code": "invalid_api_key"}}\n\ndata: [DONE]\n\n', 400, "key"),
    ('event: error\ndata: {"error": {"message": "no", "type": "overloaded_error"}}\n\n', 400, "server"),
    # Others
    ({"error_type": "invalid_request_error", "error_message": "no"}, None, "request"),
    ({"msg": "no", "code": 401}, None, "key"),
    ({"error": "overloaded"}, None, "server"),
    ({"error": {"error": {"message": "no", "code": "invalid_api_key"}}}, None, "key"),
    ({"error": '{"message": "no", "type": "rate_limit_error"}'}, None, "rate"),
    ("<html>502</html>", 502, "server"),
    ("", 401, "key"),
    ("", 418, "request"),
    ({"detail": "odd"}, None, ""),
]


@pytest.mark.parametrize(("body", "status", "about"), MEANINGS)
def test_an_error_is_about_what_its_shape_says(body: Any, status: int | None, about: str) -> None:
    raw = body if isinstance(body, str) else json.dumps(body)
    for found in (raw, raw.encode(), *([] if isinstance(body, str) else [body])):
        reading = read_error(found, status=status)
        assert reading is not None
        assert reading.about == about
        assert reading.retryable == (about in ("rate", "server"))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (openai("no such model"), "no such model"),
        ({"error": "no such model"}, "no such model"),
        ({"detail": "no such model"}, "no such model"),
        ({"msg": "no such model"}, "no such model"),
        ({"error_message": "no such model", "error_type": "x"}, "no such model"),
        ({"errors": ["no such model"]}, "no such model"),
        ({"errors": [{"message": "no such model"}]}, "no such model"),
        ({"Message": "no such model", "__type": "x"}, "no such model"),
        ([openai("no such model")], "no such model"),
        ({"detail": [{"loc": ["body", "a", 0], "msg": "wrong"}]}, "body.a.0: wrong"),
        ("no such model\n", "no such model"),
        ("<html>502</html>", ""),
        ('{"error": {"mess', ""),
        ({"object": "chat.completion"}, ""),
        ("", ""),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "it is full"}}}, "it is full"),
        ('{"error": {"message": "\\ud83d half"}}', "? half"),
        ({"error": {"message": ["odd", {"message": "no"}]}}, "odd | no"),
    ],
)
def test_its_sentence_is_found(body: Any, sentence: str) -> None:
    raw = body if isinstance(body, str) else json.dumps(body)
    reading = read_error(raw.encode(), status=400)
    assert reading is not None
    assert reading.sentence == sentence or (sentence and reading.sentence.endswith(f" | {sentence}"))


@pytest.mark.parametrize(
    "value",
    [
        {"choices": []},
        {"choices": [{"delta": {"content": "a"}}], "error": None},
        {"choices": [], "usage": {"prompt_tokens": 1}, "message": "x"},
        {"type": "ping"},
        {"type": "message_start", "message": {"id": "a"}},
        {"candidates": [{"content": {}}]},
        {"role": "assistant", "message": "x"},
        {"id": "a"},
        {},
        [],
        [{}],
        None,
        1,
        "[DONE]",
        "ping",
    ],
)
def test_a_body_that_is_no_error_is_read_as_none(value: Any) -> None:
    assert read_error(value) is None
    assert read_error(json.dumps(value)) is None


@pytest.mark.parametrize(
    ("body", "wait_s"),
    [
        (GOOGLE_QUOTA, 37.0),
        (openai("Please try again in 1.2s. Visit the page."), 1.2),
        (openai("Please try again in 6m1.5s."), 361.5),
        (openai("Please try again in 20ms."), 0.02),
        (openai("Please retry after 20 seconds."), 20.0),
        ({"error": {"message": "no", "retry_after": 7}}, 7.0),
        ({"error": {"message": "no", "retry_after_ms": 1500}}, 1.5),
        ({"error": {"message": "no", "retryDelay": {"seconds": 3}}}, 3.0),
        ({"error": {"message": "no", "retry_after": "soon"}}, None),
        (openai("Please retry in 400d."), 86400.0),
        (openai("Try again later."), None),
    ],
)
def test_the_wait_that_the_body_names(body: Any, wait_s: float | None) -> None:
    reading = read_error(body)
    assert reading is not None
    assert reading.retry_after_s == (None if wait_s is None else pytest.approx(wait_s))


def test_the_error_of_ours_names_what_to_do() -> None:
    provider = Provider("acme", "openai", "http://x", "sk-1", key="ACME_KEY")
    said = {
        "key": "ACME_KEY",
        "credit": "credit",
        "access": "'m'",
        "model": "ACME_BASE_URL",
        "length": "shorten",
        "content": "content",
        "request": "refused",
        "rate": "later",
        "server": "later",
    }
    told: dict[str, str] = {}
    for body, status, about in MEANINGS:
        reading = read_error(body, status=status)
        assert reading is not None
        error = to_provider_error(reading, provider, "m", status=status)
        assert error.code == CODES[reading.about]
        assert error.refusal != error.retryable
        assert said.get(about, "") in str(error)
        assert reading.sentence in str(error)
        told[error.code] = str(error)
    assert len(told) == len(set(CODES.values()))


def test_an_error_in_the_stream_is_retryable_by_its_own_rule() -> None:
    for body, _, about in MEANINGS:
        reading = read_error(body, is_error=True)
        assert reading is not None
        error = to_provider_error(reading, in_stream=True)
        passes = reading.about in ("rate", "server", "")
        assert (error.code == "provider_error_event", error.retryable) == (passes, passes), about


def test_an_empty_answer_may_be_tried_again_by_its_caller_alone() -> None:
    error = empty_answer(Provider("acme", "openai", "http://x", ""))
    assert (error.code, error.retryable, error.refusal) == ("empty_answer", True, True)


@pytest.mark.parametrize(
    "raw", ["[" * 100_000, '{"error":' * 100_000, '{"error": ' + "9" * 5000 + "}", '"' + "a" * 10**6]
)
def test_a_deep_or_long_error_is_read_within_bounds(raw: str) -> None:
    reading = read_error(raw, status=500)
    assert reading is not None
    assert len(reading.sentence) <= 4000
