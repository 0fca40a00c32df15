"""Every error a user can cause, as one line: what was received, what was expected, what to do.

The command line prints the line and leaves with the error's ``exit_code``; in Python they are
ordinary exceptions.
"""

import re


class KerasbnError(Exception):
    """Base of all errors kerasbn raises on purpose."""

    exit_code = 1


class InputError(KerasbnError):
    """Something given cannot be used: an option, a file, a model, a folder (exit code 2)."""

    exit_code = 2


class CheckFailedError(KerasbnError):
    """The input was fine, the answer is no: a check failed, a training diverged (exit code 1)."""


class StoppedError(KerasbnError):
    """Ctrl-C ended it early, and what there was until then is kept (exit code 130)."""

    exit_code = 130


def quoted(error: BaseException, longest: int | None = 200) -> str:
    """What another library says, in one line without the colours that it gives a terminal.

    Args:
        error: what it raised.
        longest: how many characters of it; None for all.
    """
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:longest]


def expected(subject: object, received: object, expected: str, advice: str = "") -> InputError:
    """The `InputError` ``subject: received X, expected Y; advice``.

    Args:
        subject: what the line is about, such as an option with its value or a file's path.
        received: what was found, said as the user would know it.
        expected: what would have been right.
        advice: what to do about it, as a clause without a full stop.
    """
    line = f"{subject}: received {received}, expected {expected}"
    return InputError(f"{line}; {advice}" if advice else line)
