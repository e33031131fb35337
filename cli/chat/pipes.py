"""stdin and stdout as pipes: a question that comes by the one, an answer that goes by the other, byte by byte."""

import os
import sys

from cli.errors import NoAnswer


def asked_on_stdin() -> str:
    """All of stdin, as UTF-8. Raises :class:`NoAnswer` if there is no question in it."""
    try:
        asked = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise NoAnswer("What came by stdin is not UTF-8 text.") from None
    if not asked.strip():
        raise NoAnswer('There is no question. Ask one: headrace chat "Why is the sky blue?"')
    return asked


def checked(text: str) -> str:
    """The text, if it can be sent. Raises :class:`NoAnswer` for an argument that is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NoAnswer("The question is not UTF-8 text.") from None
    return text


def write_out(text: str) -> None:
    """Write a piece to stdout at once. Raises :class:`NoAnswer` when nobody reads there any more."""
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise NoAnswer("Nobody reads the output any more, so it was left.") from None
    except OSError as error:
        raise NoAnswer(f"The output can't be written: {error.strerror}.") from None
