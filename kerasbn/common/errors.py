"""Every error a user can cause, in one line: what was received, what was expected, what to do."""

import difflib
import re
from collections.abc import Iterable

from kerasbn.common.wording import escaped, shorten

LONGEST = 1000  # characters of a message


class KerasbnError(Exception):
    """Base class of all errors that kerasbn raises on purpose; the message becomes one line."""

    exit_code = 1  # of the command line

    def __init__(self, message: str = "") -> None:
        # It may quote names from damaged files, of any length and with any characters.
        super().__init__(shorten(escaped(message), LONGEST))

    def for_command_line(self) -> str:
        """Return the line as the command line prints it."""
        return str(self)


class InputError(KerasbnError):
    """An option, a file, a model or a folder cannot be used (exit code 2)."""

    exit_code = 2


class ArgumentError(InputError):
    """The value of an argument cannot be used; `received` replaces the value in the message.

    From Python the line names the argument, ``batch_size=0: received ...``; on the command line it
    names the option, ``--batch-size 0: received ...`` or ``--no-bn: received ...``. If another
    value is expected, it is `instead`, and goes before the words of `expected`.
    """

    def __init__(
        self,
        name: str,
        value: object,
        expected: str,
        advice: str = "",
        received: str = "",
        instead: object = None,
    ) -> None:
        self.name, self.value, self.instead = name, value, instead
        self._problem = received, expected, advice
        text = repr(value)
        is_short = len(text) <= 80 and "\n" not in text  # unlike that of an array or a dataset
        subject = f"{name}={text}" if is_short else name
        wanted = expected if instead is None else f"{instead!r}{expected}"
        super().__init__(f"{subject}: {_problem(received or text, wanted, advice)}")

    def for_command_line(self) -> str:
        """Return the line with the option in place of the argument, as a user types it."""
        received, wanted, advice = self._problem
        option, text = self._typed(self.value)
        if self.instead is not None:
            wanted = f"{self._typed(self.instead)[1]}{wanted}"
        subject = option if option == text else f"{option} {text}"
        problem = _problem(received or f"'{text}'", wanted, advice)
        return shorten(escaped(f"{subject}: {problem}"), LONGEST)

    def _typed(self, value: object) -> tuple[str, str]:
        """Return the option and the text of a value; those of a flag are the same."""
        name = self.name.replace("_", "-")
        if isinstance(value, bool):
            return (f"--{name}",) * 2 if value else (f"--no-{name}",) * 2
        if isinstance(value, tuple | list):
            return f"--{name}", ",".join(map(str, value))
        return f"--{name}", str(value)


class CheckFailedError(KerasbnError):
    """The input is fine, but a check failed or a training diverged (exit code 1)."""


class StoppedError(KerasbnError):
    """Ctrl-C ended the command early; what was finished by then is kept (exit code 130)."""

    exit_code = 130


def expected(subject: object, received: object, expected: str, advice: str = "") -> InputError:
    """Return the `InputError` ``subject: received X, expected Y; advice``."""
    return InputError(f"{subject}: {_problem(received, expected, advice)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the advice ``did you mean 'x'?`` for the known name closest to `name`, or ""."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else ""


def quoted(error: BaseException | str, longest: int | None = 200) -> str:
    """Return what another library says in one line of at most `longest` characters, uncolored."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:longest]


def _problem(received: object, expected: str, advice: str) -> str:
    line = f"received {received}, expected {expected}"
    return f"{line}; {advice}" if advice else line
