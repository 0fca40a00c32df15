"""Numbers in words: terminal, pictures and page format the same figure with the same function."""

import math
import re
from collections.abc import Sequence

MISSING = "-"  # stands for a figure that does not exist
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(share: float | None) -> str:
    """Return a share as a percentage: ``97.25%``."""
    if share is None or not math.isfinite(share):
        return number(share)
    return f"{100 * share:.2f}%"


def percent_sd(mean: float | None, sd: float | None) -> str:
    """Return a mean share with its standard deviation: ``97.25 ± 0.15%``."""
    if mean is None or sd is None or not math.isfinite(mean):
        return percent(mean)
    return f"{100 * mean:.2f} ± {100 * sd:.2f}%"


def points(difference: float | None) -> str:
    """Return a difference of two shares in percentage points: ``+1.66 points``."""
    return MISSING if difference is None else f"{100 * difference:+z.2f} points"


def interval(low: float, high: float) -> str:
    """Return the interval of a difference of shares, in points: ``95% interval 1.51 to 1.82``."""
    return f"95% interval {100 * low:z.2f} to {100 * high:z.2f}"  # z: never -0.00


def loss(value: float | None) -> str:
    """Return a loss with three decimals, a large one with three significant digits."""
    if value is None or not math.isfinite(value) or abs(value) >= 100:
        return number(value)
    return f"{value:.3f}"


def loss_sd(mean: float | None, sd: float | None) -> str:
    """Return a mean loss with its standard deviation: ``0.094 ± 0.003``."""
    return loss(mean) if mean is None or sd is None else f"{loss(mean)} ± {loss(sd)}"


def loss_difference(difference: float | None) -> str:
    """Return a difference of two losses with its sign: ``+0.012``."""
    return MISSING if difference is None else f"{difference:+z.3f}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits: ``0.0123``, ``36,000``, ``1.1·10²⁷``."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' * (value < 0)}infinite"
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        rounded = float(f"{value:.{digits}g}")
        if rounded == int(rounded):
            return f"{int(rounded):,}"
        return f"{rounded:,.{max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)}f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def times(ratio: float) -> str:
    """Return a ratio as ``2.4 times`` or ``36,000 times``; only its magnitude if it is huge."""
    if math.isfinite(ratio) and ratio >= 1e7:
        return f"10{str(round(math.log10(ratio))).translate(_SUPERSCRIPT)} times"
    return f"{number(ratio, 2)} times"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 epoch``, ``2,000 epochs``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(items: Sequence[str], conjunction: str = "and") -> str:
    """Return items as a list within a sentence: ``a, b and c``."""
    *first, last = items or [""]
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def seed_range(first: int, last: int) -> str:
    """Return consecutive seeds: ``seed 3`` or ``seeds 0 to 7``."""
    return f"seed {first}" if first == last else f"seeds {first} to {last}"


def seeds(values: Sequence[int]) -> str:
    """Return seeds one by one: ``seed 3`` or ``seeds 3 and 5``."""
    return f"seed{'s' * (len(values) != 1)} {listed([str(value) for value in values])}"


def capitalized(text: str) -> str:
    """Return text with a capital first, the rest unchanged."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Return a clause as a sentence of its own: a capital first and a full stop last."""
    return f"{capitalized(text)}{'' if text.endswith(('.', '!', '?')) else '.'}"


def escaped(text: str, keep: str = "") -> str:
    r"""Return text that shows what it holds: unprintable characters become escape sequences.

    A control character could move the cursor, a bidirectional mark turn a line around: ``\x1b``,
    ``\u202e``. Those of `keep` stay, so does what can be printed in any language.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else repr(each)[1:-1] for each in text
    )


def shorten(text: str, longest: int) -> str:
    """Return a text without its middle part if it is too long."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


def markdown(text: str) -> str:
    r"""Return text for a paragraph or an item in Markdown, where it looks as it is here."""
    active = r"[\\`*\[\]<>|&~]|(?<![^\W_])_|_(?![^\W_])"  # an underscore within a word is not
    text = re.sub(active, r"\\\g<0>", escaped(" ".join(text.split())))
    return re.sub(r"^(\d*)([#+=.)-])", r"\1\\\2", text)  # headings, rules and lists
