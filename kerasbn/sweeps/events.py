"""What happens while the groups of a sweep are trained, whoever trains them."""

from dataclasses import dataclass

from kerasbn.errors import CheckFailedError, KerasbnError, quoted

Files = dict[str, dict[str, bytes]]


class LostError(CheckFailedError):
    """Whoever trained is gone for good."""


@dataclass(frozen=True)
class Began:
    """A worker has begun, or begun again, with a group."""

    group: int


@dataclass(frozen=True)
class Advanced:
    """A share, from 0 to 1, of a group is done."""

    group: int
    share: float


@dataclass(frozen=True)
class Trained:
    """A group is done; `files` are those of its runs, by run and name."""

    group: int
    files: Files


@dataclass(frozen=True)
class Failed:
    """A group could not be trained, and why, in one line."""

    group: int
    error: str


Event = Began | Advanced | Trained | Failed


def in_one_line(error: BaseException) -> str:
    """What an error says, in one line of bearable length, with its kind where it is not ours."""
    text = quoted(error, longest=None)
    short = text if len(text) <= 300 else f"{text[:297]}..."
    return short if isinstance(error, KerasbnError) else f"{type(error).__name__}: {short}"
