"""A console of rich for text from files, which may hold any character."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from kerasbn.common.wording import escaped


class Terminal(Console):
    """A console that shows all text as it is: escaped, without markup and highlighting."""

    def __init__(self, **how: Any) -> None:  # noqa: ANN401 - the keywords of Console
        super().__init__(highlight=False, markup=False, **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does, with escaped text between its own control sequences."""
        for segment in super().render(renderable, options):
            is_own = segment.control or segment.text == "\n"
            yield segment if is_own else segment._replace(text=escaped(segment.text, keep="\n"))


def progress_terminal(*, quiet: bool) -> Terminal:
    """Return a terminal on standard error; in a file or a pipe its lines do not break."""
    return Terminal(stderr=True, quiet=quiet, soft_wrap=True)
