"""Numbers in words."""

import html
import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from kerasbn.common import wording


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (wording.percent(0.97248), "97.25%"),
        (wording.percent(1.0), "100.00%"),
        (wording.percent(None), "-"),
        (wording.percent(math.nan), "NaN"),
        (wording.percent_sd(0.9725, 0.0015), "97.25 ± 0.15%"),
        (wording.percent_sd(0.9725, None), "97.25%"),
        (wording.percent_sd(None, None), "-"),
        (wording.points(0.0166), "+1.66 points"),
        (wording.points(-0.00001), "+0.00 points"),
        (wording.interval(-0.0002, 0.0182), "95% interval -0.02 to 1.82"),
        (wording.loss(0.09442), "0.094"),
        (wording.loss(941469.082), "941,000"),
        (wording.loss(math.inf), "infinite"),
        (wording.loss_sd(0.0944, 0.0031), "0.094 ± 0.003"),
        (wording.loss_difference(-0.0123), "-0.012"),
        (wording.number(0.01234), "0.0123"),
        (wording.number(36012), "36,000"),
        (wording.number(0), "0"),
        (wording.number(2.5), "2.50"),
        (wording.number(1.14e27, 2), "1.1·10²⁷"),
        (wording.number(3.2e-9, 2), "3.2·10⁻⁹"),
        (wording.times(2.41), "2.4 times"),
        (wording.times(35700), "36,000 times"),
        (wording.times(1.1e27), "10²⁷ times"),
        (wording.plural(1, "epoch"), "1 epoch"),
        (wording.plural(2000, "epoch"), "2,000 epochs"),
        (wording.listed(["a"]), "a"),
        (wording.listed(["a", "b", "c"]), "a, b and c"),
        (wording.seed_range(0, 7), "seeds 0 to 7"),
        (wording.seed_range(3, 3), "seed 3"),
        (wording.seeds([3, 5]), "seeds 3 and 5"),
        (wording.sentence("one pair is not enough"), "One pair is not enough."),
    ],
)
def test_figures_read_as_documentation_has_them(said: str, expected: str) -> None:
    assert said == expected


@given(st.floats(1e-300, 1e300), st.integers(2, 6))
def test_a_number_keeps_its_significant_digits(value: float, digits: int) -> None:
    text = wording.number(value, digits).replace(",", "")
    mantissa, _, exponent = text.partition("·10")
    power = int(exponent.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
    assert float(f"{mantissa}e{power}") == pytest.approx(value, rel=0.5 * 10 ** (1 - digits))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe 50\u2009%", "Größe 50\\u2009%"),
        ("\x1b[31mred\a", r"\x1b[31mred\x07"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\u202egnp.exe\u2066\u200f", r"\u202egnp.exe\u2066\u200f"),
        ("\x9b31m\x85\u2028", r"\x9b31m\x85\u2028"),
        ("\udcff", r"\udcff"),
        ("数字 ±0.1·10²⁷", "数字 ±0.1·10²⁷"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    assert wording.escaped(text) == shown


def as_shown(markdown: str) -> str:
    """The text of the only paragraph that a Markdown document may have."""
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
    found = re.fullmatch(r"(?:<p>([^<]*)</p>)?\n?", page)
    assert found, page
    return html.unescape(found[1] or "")


@example("1. # a")
@example("-- a_b _c_ `d` ***")
@given(st.text(st.sampled_from("*_`[]()<>|#-+=~&;!\\.:/1a \n") | st.characters(codec="utf-8")))
def test_text_looks_in_markdown_as_it_is(text: str) -> None:
    assert as_shown(wording.markdown(text)) == wording.escaped(" ".join(text.split()))
