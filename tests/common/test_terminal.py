"""A console that shows text from files as it is."""

import io

import pytest
from rich.table import Table
from rich.text import Text

from kerasbn.common.terminal import Terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_text_cannot_act_on_the_terminal(is_terminal: bool) -> None:
    hostile = "a\x1b[2Jb\u202ec\x9bd[bold]e"
    shown = r"a\x1b[2Jb\u202ec\x9bd[bold]e"
    out = io.StringIO()
    console = Terminal(file=out, width=60, force_terminal=is_terminal)
    table = Table("name")
    table.add_row(hostile)
    for each in (hostile, Text(hostile, "bold"), table):
        console.print(each)
    assert out.getvalue().count(shown) == 2
    assert f" {shown[:12]}" in out.getvalue()  # the cell has the width of the unescaped text
    assert ("\x1b[1m" in out.getvalue()) == is_terminal  # its own style
    for own in ("\x1b[1m", "\x1b[0m"):
        out = io.StringIO(out.getvalue().replace(own, ""))
    assert out.getvalue().replace("\n", "").isprintable()
