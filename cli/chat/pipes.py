"""stdin and stdout as pipes: the question from the one, and the answer to the other."""

import os
import sys

from cli.errors import NoAnswer


def asked_on_stdin() -> str:
    """All of stdin, as UTF-8. Raises :class:`NoAnswer` if there is no question in it."""
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise NoAnswer("What came by stdin is not UTF-8 text.") from None
    if not text.strip():
        raise NoAnswer('There is no question. Ask one: headrace chat "Why is the sky blue?"')
    return text


def checked(text: str) -> str:
    """The text, if it can be sent. Raises :class:`NoAnswer` for an argument that is not valid text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NoAnswer("The question is not UTF-8 text.") from None
    return text


def write_out(text: str) -> None:
    """Write a piece to stdout at once. Raises :class:`NoAnswer` if stdout was closed or can't be written."""
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Point stdout to /dev/null, because the interpreter flushes it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise NoAnswer("Nobody reads the output any more, so writing has stopped.") from None
    except OSError as error:
        raise NoAnswer(f"The output can't be written: {error.strerror}.") from None
