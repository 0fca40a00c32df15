"""Where a sweep stands, as people read it: a live table on a terminal, lines elsewhere."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

WORDS = {"with_bn": "best with BN", "without_bn": "best without"}
MOST = 6  # groups at work that are shown one by one


class View:
    """Shows on standard error where a sweep stands; it draws within its ``with`` block.

    On a terminal that is a table that is kept up to date; elsewhere a line for each group that
    ends. `quiet` shows nothing at all.
    """

    def __init__(self, *, quiet: bool) -> None:
        # soft_wrap: a line stays a line where the output is a file or a narrow pipe.
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._live = (
            Live(console=self._console, transient=True, refresh_per_second=4)
            if self._console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, status: dict[str, Any], *, ended: bool = False) -> None:
        """Show where it stands; `ended` tells that a group has just ended."""
        if self._live:
            self._live.update(table(status))
        elif ended:
            self._console.print(line(status), markup=False)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(text, markup=False)


def rows(status: dict[str, Any]) -> list[tuple[str, str]]:
    """What is to be known of a sweep, as pairs of a name and what there is to say."""
    found = [("done", f"{status['done']:,} of {status['networks']:,} networks")]
    if status["diverged"]:
        found.append(("diverged", f"{status['diverged']:,} of these"))
    found.append(("failed", _failed(status)))
    if status["state"] == "running":
        groups = [f"{each['group']} ({each['share']:.0%})" for each in status["running"]]
        more = [f"and {len(groups) - MOST} groups more"] if len(groups) > MOST else []
        found += [("running", text) for text in groups[:MOST] + more] or [("running", "starting")]
    found += [(WORDS[key], _best(each)) for key, each in status["best"].items()]
    if status["state"] == "running":
        found.append(("time left", duration(status["seconds_left"])))
    return found


def table(status: dict[str, Any]) -> Table:
    """The same as a table."""
    shown = Table(title=f"{status['study']}: {status['state']}", show_header=False, box=None)
    shown.add_column(style="bold")
    shown.add_column(overflow="fold")
    before = ""
    for name, text in rows(status):
        shown.add_row("" if name == before else name, text)
        before = name
    return shown


def lines(status: dict[str, Any]) -> str:
    """The same as lines of plain text."""
    head = f"{status['study']}: {status['state']}"
    return "\n".join([head, *(f"{name:12} {text}" for name, text in rows(status))])


def line(status: dict[str, Any]) -> str:
    """The same in one line."""
    parts = [f"{status['done']}/{status['networks']} networks"]
    if status["failed"]:
        parts.append(f"{status['failed']} failed")
    parts += [f"{WORDS[key]} {_best(each)}" for key, each in status["best"].items()]
    if status["seconds_left"] and status["done"] + status["failed"] < status["networks"]:
        parts.append(f"{duration(status['seconds_left'])} left")
    return "; ".join(parts)


def duration(seconds: float | None) -> str:
    """A time to wait, roughly: ``about 3 min``."""
    if seconds is None:
        return "not known yet"
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _failed(status: dict[str, Any]) -> str:
    if not status["failed"]:
        return "0"
    more = f" and {len(status['errors']) - 1} other errors" if len(status["errors"]) > 1 else ""
    return f"{status['failed']:,} ({status['errors'][0]}{more})"


def _best(found: dict[str, Any]) -> str:
    deviation = "" if found["sd"] is None else f" ± {100 * found['sd']:.2f}"
    place = f" at {found['where']}" if found["where"] else ""
    return f"{100 * found['accuracy']:.2f}{deviation} %{place}"
