"""Log lines: structlog and Python's logging to standard error, as text for people or JSON for machines.

Theory of operation. No process may end, and no request fail, because a log line can't be written (the disk is full,
or standard error is closed). So both loggers write to one :class:`LogOutput`, which writes to the descriptor
itself. Python's own ``sys.stderr`` does not fit: it keeps text that it can't write, raises at each later line, and
is None where the descriptor was closed. A line that can't be written is dropped and counted. A line with the number
of dropped lines is written before the next line that succeeds.
"""

import contextlib
import io
import json
import logging
import os
import sys
from typing import Final, TextIO, cast

import stamina
import structlog

STDERR: Final = 2


class LogOutput(io.TextIOBase):
    """Standard error as a stream that never raises. ``dropped`` counts the lines that could not be written."""

    def __init__(self, form: str, descriptor: int = STDERR) -> None:
        """``form``: ``text`` or ``json``."""
        self._form = form
        self._descriptor = descriptor
        self._untold = 0
        self._cut = False
        """Whether the last line was written only in part (the disk became full)."""
        self.dropped = 0

    def write(self, text: str) -> int:
        """Write whole lines, or drop them."""
        lines = text
        if self._untold:
            lines = self._told(self._untold) + lines
        if self._write(lines):
            self._untold = 0
        else:
            count = text.count("\n") or 1
            self.dropped += count
            self._untold += count
        return len(text)

    def _write(self, text: str) -> bool:
        left = (("\n" if self._cut else "") + text).encode("utf-8", "backslashreplace")
        try:
            while left:
                written = os.write(self._descriptor, left)
                self._cut = 0 < written < len(left)
                left = left[written:]
        except OSError:
            return False
        return True

    def _told(self, count: int) -> str:
        if self._form == "json":
            return json.dumps({"level": "warning", "event": "log_lines_dropped", "count": count}) + "\n"
        return f"{count} log lines could not be written, and were dropped.\n"


def configure_logs(level: str, form: str) -> LogOutput:
    """Set up logging for this process. In: ``debug|info|warning|error``, and ``text|json``. Out: its output."""
    _keep_standard_descriptors()
    output = LogOutput(form)
    stream = cast(TextIO, output)
    renderer = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=os.isatty(STDERR),
            # The default formatter shows local variables: keys, prompts, URLs with passwords.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _printable,
    ]
    if form == "json":
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    # Each caller logs a lost server itself, once, and not once for each try.
    stamina.instrumentation.set_on_retry_hooks([])
    # The log lines of libraries get the same form.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *processors],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    return output


def _printable(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape each unprintable character in any value: a path or a provider's text may hold control codes that a
    terminal obeys, or a line break and a forged log line."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
            event[name] = "".join(escaped)
    return event


def _keep_standard_descriptors() -> None:
    """Open each closed standard descriptor on ``/dev/null``: otherwise the next socket would get the number of
    standard error, and the output of C code would go into that socket."""
    for descriptor in (0, 1, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # The system gives the lowest free number, which is this one.
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    # Code that prints there must not raise: its text is dropped.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
