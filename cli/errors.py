"""Errors that end a command with a sentence instead of a stack trace."""


class CannotStart(Exception):
    """A command can't start. Only the text is shown; it says what happened and what to do."""


class ChildFailed(CannotStart):
    """A child process did not become ready, or died too often. The text carries its last log lines."""


class NoAnswer(Exception):
    """No answer can be got: the server refuses or can't be reached, or stdin or stdout can't be used. Only the text
    is shown; it says what happened and what to do."""
