"""What ends a command with a sentence instead of a trace."""


class CannotStart(Exception):
    """Something is missing or in the way. The text, all that is shown, says what happened and what to do."""


class ChildFailed(CannotStart):
    """A child process did not become ready, or died too often. The text carries its last log lines."""


class NoAnswer(Exception):
    """A server refuses, or can't be reached. The text, all that is shown, says what happened and what to do."""
