"""Log lines: structlog to standard error, as text for people or JSON for machines."""

import contextlib
import io
import logging
import sys
from typing import TextIO, cast

import stamina
import structlog


class _Lossy(io.TextIOBase):
    """Standard error. A line that can't be written, because the disk that takes it is full, is dropped or comes
    late: no process may end by what it has to say."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def configure_logs(level: str, form: str) -> None:
    """Set up logging for this process. In: ``debug|info|warning|error`` and ``text|json``."""
    renderer = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default shows local variables: keys, prompts, URLs with passwords.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Lossy())),
        cache_logger_on_first_use=True,
    )
    # Each caller tells of a lost server itself, once, and not once a try.
    stamina.instrumentation.set_on_retry_hooks([])
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
