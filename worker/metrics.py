"""The worker's metrics: streams, attempts, tokens, waits, and the results of requests to providers."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, Metric

from shared.process.metrics import SLOW_S, Names, Read, Timings
from shared.store.claims import Claim


class WorkerMetrics:
    """One worker's counters. Its parts report events by the methods below. No method is called for each token."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """``registry``: where the metrics are registered. None: they are not shown."""
        registry = registry or CollectorRegistry()
        self._models = Names()
        self._ended = Counter(
            "headrace_streams_ended",
            "Streams that ended here, by status and code",
            ["status", "code", "provider", "model"],
            registry=registry,
        )
        self._attempts = Counter(
            "headrace_attempts", "Attempts that began, by their opening event", ["opening"], registry=registry
        )
        self._taken_over = Counter(
            "headrace_takeovers", "Streams without a living worker that the sweep found", registry=registry
        )
        self._handed_over = Counter(
            "headrace_handovers", "Streams that a stopping worker gave back", registry=registry
        )
        self._tokens = Counter(
            "headrace_tokens", "Tokens, as providers told them", ["provider", "model", "kind"], registry=registry
        )
        self._queue_wait = Histogram(
            "headrace_queue_wait_seconds",
            "From a stream's creation to its first attempt",
            buckets=SLOW_S,
            registry=registry,
        )
        self._first_token = Histogram(
            "headrace_first_token_seconds",
            "From a stream's creation to its first token",
            ["provider"],
            buckets=SLOW_S,
            registry=registry,
        )
        self._provider_first_token = Histogram(
            "headrace_provider_first_token_seconds",
            "From an attempt's begin to its first token: the provider's part of the time",
            ["provider"],
            buckets=SLOW_S,
            registry=registry,
        )
        self._flush = Timings()
        self._events = 0
        registry.register(Read(self._read))
        self._requests = Counter(
            "headrace_provider_requests", "Requests to providers", ["provider"], registry=registry
        )
        self._retries = Counter(
            "headrace_provider_retries",
            "Requests that were sent again, by what the last one failed with",
            ["provider", "code"],
            registry=registry,
        )
        self._errors = Counter(
            "headrace_provider_errors",
            "Requests that failed, before or in the answer",
            ["provider", "code"],
            registry=registry,
        )

    def _read(self) -> Iterable[Metric]:
        yield self._flush.told(
            "headrace_flush_seconds",
            "From the first token that waits for a flush to Redis's answer: what the worker adds to a token",
        )
        yield CounterMetricFamily("headrace_events_written", "Events that were written to logs", self._events)

    def flushed(self, events: int, seconds: float) -> None:
        """A flush wrote this many events; ``seconds`` is the time since the first of them began to wait."""
        self._events += events
        self._flush.observe(seconds)

    def claimed(self, claim: Claim) -> None:
        """An attempt begins in this worker."""
        self._attempts.labels(claim.opening).inc()
        if claim.attempt == 1:
            self._queue_wait.observe(claim.queued_ms / 1000)

    def began_to_answer(self, claim: Claim, provider: str, took_s: float) -> None:
        """A finished attempt had its first token ``took_s`` after its start."""
        self._provider_first_token.labels(provider).observe(took_s)
        if claim.attempt == 1:
            self._first_token.labels(provider).observe(claim.queued_ms / 1000 + took_s)

    def used(self, provider: str, model: str, input_tokens: int | None, output_tokens: int | None) -> None:
        """A finished attempt used this many tokens (None: the provider did not say)."""
        name = self._models.told(model)
        for kind, count in (("input", input_tokens), ("output", output_tokens)):
            self._tokens.labels(provider, name, kind).inc(count or 0)

    def ended(self, status: str, code: str, provider: str, model: str) -> None:
        """A stream ended in this worker. ``code``: the failure's code, or ''."""
        self._ended.labels(status, code, provider, self._models.told(model)).inc()

    def taken_over(self, streams: int) -> None:
        """The sweep gave new jobs to this many streams that had lost their workers."""
        self._taken_over.inc(streams)

    def handed_over(self) -> None:
        """A stream was handed over because this worker stops."""
        self._handed_over.inc()

    def asked(self, provider: str) -> None:
        """A request goes to this provider."""
        self._requests.labels(provider).inc()

    def refused(self, provider: str, code: str) -> None:
        """A request failed, before its answer or during it."""
        self._errors.labels(provider, code).inc()

    def asks_again(self, provider: str, code: str) -> None:
        """A request is sent again, after an error with this code."""
        self._retries.labels(provider, code).inc()
