"""Every error code that a caller can meet: one table, for ``/docs`` and for docs/errors.md (a test compares them).

``where`` is the HTTP status of a problem document (before the first byte), or the event with the code (after it).
"""

from typing import Final, NamedTuple


class Row(NamedTuple):
    """One code: where it appears, whether the same request may succeed later, what happened and what to do."""

    code: str
    where: str
    retryable: str
    text: str


HEAD: Final = Row("code", "status or event", "retryable", "what happened, and what to do")

ERRORS: Final = (
    # The key.
    Row("key_missing", "401", "no", "No key came along. Send `Authorization: Bearer <key>`."),
    Row("key_unknown", "401", "no", "The key is not known here. Check it, or get another."),
    Row(
        "token_invalid", "401", "no", "No read token of this stream. Take `events_url` as the create call gave it."
    ),
    Row("token_expired", "401", "no", "The read token is too old. `POST /v1/streams/{id}/token` gives a new one."),
    # The connection.
    Row("bad_http", "400", "no", "What came is no HTTP request. Send one request after another."),
    Row("url_too_long", "414", "no", "More than 16 KiB. Send a long prompt in the body of a POST."),
    Row("head_too_large", "431", "no", "More than 100 headers, or 64 KiB of head or trailers. Send less."),
    Row(
        "request_timeout", "408", "yes", "The head took more than 10 s, or the body came too slowly. Send it again."
    ),
    Row("too_many_connections", "503", "yes", "The process has no file left. Raise its limit of open files."),
    Row(
        "host_not_allowed",
        "403",
        "no",
        "Without keys: the name that was called is not this server's. List it in `HEADRACE_ALLOWED_HOSTS`.",
    ),
    Row(
        "foreign_page",
        "403",
        "no",
        "Without keys: another site's page asked for a change. List its origin in `HEADRACE_CORS_ORIGINS`.",
    ),
    # The request.
    Row("bad_json", "400", "no", "The body is not JSON. Send a JSON object, in UTF-8."),
    Row("invalid_request", "422", "no", "A field is wrong or missing: `errors` names each. Change it."),
    Row("unknown_field", "422", "no", "A field that does not exist, usually a typing mistake. Leave it out."),
    Row(
        "unsupported_by_provider",
        "422",
        "no",
        "The model, or a fallback, would refuse a field or pass it over: `errors` names it. Leave it out.",
    ),
    Row(
        "option_not_allowed",
        "422",
        "no",
        "The operator has not allowed an option, or a tool of the provider's own: `errors` names it, and the "
        "variable that would allow it. Leave it out.",
    ),
    Row("body_too_large", "413", "no", "More than `HEADRACE_MAX_BODY_BYTES`, or 20,000 values. Send less."),
    Row("prompt_too_large", "413", "no", "More than `HEADRACE_MAX_PROMPT_BYTES` for the model. Send less."),
    Row("answer_too_long", "422", "no", "More asked for than `HEADRACE_MAX_ANSWER_TOKENS`. Ask for less."),
    Row("bad_idempotency_key", "422", "no", "An `Idempotency-Key` has 1 to 255 characters. Use another."),
    Row("idempotency_conflict", "422", "no", "That `Idempotency-Key` made another request. Use a new one."),
    Row("unknown_dialect", "400", "no", "There is no such dialect. Name one of `/docs`, or leave `dialect` out."),
    Row("viewers_full", "503", "yes", "Too many viewers are here, or of this stream. Try again in a moment."),
    Row(
        "bad_cursor",
        "400",
        "no",
        "`Last-Event-ID` or `starting_after` names no event. Send one that you received, or none.",
    ),
    # The model.
    Row("unknown_provider", "422", "no", "No provider has this name. The message lists those that there are."),
    Row("unknown_model", "422", "no", "The provider offers other models only. The message lists them."),
    Row(
        "provider_not_configured",
        "422, `failed`",
        "no",
        "The message names the variable to set, for the API and the workers. As an event: the worker lacks what "
        "the API has.",
    ),
    Row("duplicate_fallback", "422", "no", "A model stands twice among `model` and `fallbacks`. Name it once."),
    # What is not there.
    Row("stream_not_found", "404", "no", "Unknown, expired, erased, or another key's. Create a new stream."),
    Row(
        "previous_response_not_found",
        "404",
        "no",
        "`previous_response_id` names no response that is kept here. Send the earlier items yourself.",
    ),
    Row("chat_not_found", "404", "no", "Nothing was asked in this chat, or by another key. Send a message first."),
    Row("not_found", "404", "no", "Nothing is at this address. `/docs` lists what there is."),
    Row("method_not_allowed", "405", "no", "The address knows other methods. `/docs` lists them."),
    Row("http_error", "any other", "no", "The message says it."),
    # Limits and outages.
    Row(
        "rate_limited",
        "429",
        "yes",
        "`HEADRACE_CREATIONS_PER_MINUTE` of this key, 4 KiB of refused bodies as one; or 32 MiB of records that "
        "nobody takes. Wait for `Retry-After`.",
    ),
    Row("too_many_streams", "429", "yes", "`HEADRACE_STREAMS_PER_KEY` at once. Wait for `Retry-After`."),
    Row(
        "queue_full",
        "429",
        "yes",
        "`HEADRACE_MAX_QUEUE` streams wait already, or this key's share of them. Wait, or add workers.",
    ),
    Row(
        "too_many_bytes",
        "429",
        "yes",
        "The key stores its share of Redis's memory, or `HEADRACE_BYTES_PER_KEY`. Wait, or erase some.",
    ),
    Row(
        "redis_unavailable",
        "503",
        "yes",
        "Redis is away. Try again, with the same `Idempotency-Key`.",
    ),
    Row(
        "redis_full",
        "503",
        "yes",
        "Redis is at 85 % of its memory or above. Raise `maxmemory`, or keep streams shorter.",
    ),
    Row("no_workers", "503", "yes", "`/readyz` sees no worker. Start one: `headrace worker`."),
    Row(
        "redis_rights_missing",
        "503",
        "yes",
        "`/readyz`: the user of the Redis URL lacks the rights that are named. Give them "
        "(docs/deployment.md, section Rights).",
    ),
    Row("internal_error", "500, `failed`", "yes", "An error of Headrace's own; its log has it. Try again."),
    # The provider refuses; a fallback is asked where one is named.
    Row(
        "provider_auth", "`failed`", "no", "The provider does not accept the key. Check the variable that is named."
    ),
    Row("provider_unknown_model", "`failed`", "no", "The provider does not know the model. Check its name."),
    Row(
        "provider_no_credit",
        "`failed`",
        "no",
        "The account at the provider is empty, or its budget is used up. Add credit there.",
    ),
    Row(
        "provider_no_access",
        "`failed`",
        "no",
        "The provider does not let this key use the model. Ask for access there, or choose another.",
    ),
    Row(
        "context_too_long",
        "`failed`",
        "no",
        "The request is longer than the model takes. Shorten it, or choose a model with a longer context.",
    ),
    Row("provider_refused", "`failed`", "no", "The provider refused the request, and says why. Change it."),
    Row("content_filtered", "`failed`", "no", "The provider refuses this content. Change the request."),
    # The provider fails.
    Row("provider_rate_limited", "`failed`", "yes", "429, again and again. Try later, or set its limits here."),
    Row("provider_unavailable", "`failed`", "yes", "5xx, again and again. Try later."),
    Row(
        "provider_unreachable",
        "`failed`",
        "as it says",
        "No connection, again and again. Try later; not where the address itself can't be used: correct it.",
    ),
    Row(
        "provider_tls",
        "`failed`",
        "no",
        "The provider's certificate is refused. Name its authority in `SSL_CERT_FILE`, or correct the address.",
    ),
    Row("provider_connect_timeout", "`failed`", "yes", "Slower than `HEADRACE_CONNECT_TIMEOUT_S`. Try later."),
    Row("first_token_timeout", "`failed`", "yes", "No word within `HEADRACE_FIRST_TOKEN_TIMEOUT_S`. Try later."),
    Row(
        "upstream_silent",
        "`failed`",
        "yes",
        "Silent for `HEADRACE_IDLE_TIMEOUT_S` in mid-answer, or for "
        "`HEADRACE_LIVENESS_TIMEOUT_S` without a token though it shows life. Try again.",
    ),
    Row("upstream_cut", "`failed`", "yes", "The provider broke off before its finish reason. Try again."),
    Row("provider_error_event", "`failed`", "yes", "The provider sent an error in mid-answer. Try again."),
    Row("empty_answer", "`failed`", "yes", "The provider ended its answer and said nothing at all. Try again."),
    Row("provider_garbage", "`failed`", "as it says", "No answer that can be read came. Check `<NAME>_BASE_URL`."),
    Row(
        "provider_too_large",
        "`failed`",
        "yes",
        "More than 16 MiB of events were too large to be read. Try again.",
    ),
    Row("connect_failed", "`headrace doctor`", "yes", "The provider does not answer. Check its address."),
    # The stream.
    Row("worker_lost", "`failed`", "yes", "A worker died, and `on_failure` allows no new beginning. Try again."),
    Row("attempts_exhausted", "`failed`", "yes", "`HEADRACE_MAX_ATTEMPTS` workers died over it. See their logs."),
    Row("stream_too_long", "`failed`", "no", "Longer than `HEADRACE_MAX_STREAM_S`. Ask for less."),
    Row("log_full", "`failed`", "yes", "Redis is at its memory limit. Raise `maxmemory`, then try again."),
    Row("stream_gone", "`failed`, `error`", "no", "Erased or expired while it was read. Create a new one."),
    Row("abandoned", "`cancelled` (`reason`)", "yes", "Nobody watched for `abandon_after` s. Ask again."),
    # Only where a dialect has no other word for it (`/chat/stream`, `/stream/aware`).
    Row("cancelled", "`error`, 409", "yes", "Somebody stopped it. Ask again."),
    Row("restarted", "`error`", "yes", "It started over, and shown text can't be taken back here. Ask again."),
    Row(
        "connection_ended", "`error`, 503", "yes", "The connection ends before the answer. Come back, or ask again."
    ),
    Row("text_lost", "`error`, 400", "yes", "What was shown can't be joined to what the log has. Ask again."),
)


def table() -> str:
    """The table as Markdown."""
    rows = [HEAD, ("---",) * 4, *((f"`{row.code}`", *row[1:]) for row in ERRORS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
