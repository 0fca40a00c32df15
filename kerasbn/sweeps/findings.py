"""What a study found, in sentences computed from its figures."""

from collections.abc import Callable, Sequence
from functools import partial

from kerasbn.experiments.curves import DATA_NAMES
from kerasbn.experiments.statistics import CONFIDENCE, METHOD, MIN_PAIRS, Difference, Spread
from kerasbn.files import atomic_write
from kerasbn.sweeps.curves import steps_to_reach
from kerasbn.sweeps.grid import Range
from kerasbn.sweeps.study import FINDINGS, Study
from kerasbn.sweeps.summaries import (
    CHANCE,
    NAMES,
    Side,
    Summary,
    best,
    difference,
    short,
    summaries,
    where,
)
from kerasbn.sweeps.trials import Point, text_of

NEAR = 0.01  # a point of accuracy: what counts as nearly the best
MOST_RANGES = 6  # lines about what is near the best, for as many values of the other axes
MOST_ANSWERS = 3  # lines about what is near the best that still are an answer
KINDS = ((True, "with BN"), (False, "without"))


def findings(study: Study) -> list[str]:
    """Sentences on what the study found, the answer first; what it cannot say is left out.

    How much of each axis is within a point of the best; where a difference is certain; the best
    with and without normalization and their difference; where networks learned nothing or diverged;
    what failed or is missing.
    """
    return [line for part in parted(study) for line in part]


def parted(study: Study) -> tuple[list[str], list[str]]:
    """The `findings` in two parts: the few that answer what a sweep asks, and the others.

    They answer at which values who is good; without axes, who is better and faster; of a random
    sample, what is best.
    """
    listed = summaries(study)
    every = [
        *_near(study, listed),
        *_differences(study, listed),
        *_best(study, listed),
        *_speed(study),
        *_fails(study, listed),
        *_absent(study),
    ]
    first = _answer(study, listed)
    return first, [line for line in every if line not in first]


def _answer(study: Study, listed: Sequence[Summary]) -> list[str]:
    if not study.axes or study.grid.sample is not None:
        return [*_best(study, listed), *_speed(study)]
    near = _near(study, listed)
    if len(near) > MOST_ANSWERS:
        return _learning(listed)
    return [*near, *_differences(study, listed)[:1]]


def about(study: Study) -> list[str]:
    """What was asked, of which networks and digits, and how the figures were made."""
    grid, data = study.grid, study.record["data"]
    fixed = ", ".join(
        f"{NAMES.get(key, key)} {short(value)}" for key, value in grid.options.items()
    )
    axes = "; ".join(f"{NAMES[axis]} {_values(study, axis)}" for axis in study.axes)
    name = DATA_NAMES.get(data["name"], data["name"])
    lines = [
        f"{len(study.configurations):,} networks, {_count(grid.seeds, 'seed')} each, on {name} "
        f"({data['train']:,} digits to train on, {data['test']:,} to test on)"
    ]
    if axes:
        lines.append(f"What differs: {axes}")
    if fixed:
        lines.append(f"What is the same: {fixed}; all else by default")
    lines.append(
        "Accuracy is the share of the test digits answered rightly after the last epoch, "
        f"in percent; {METHOD}"
    )
    return [f"{line}." for line in lines]


def write_findings(study: Study) -> None:
    """Write findings.md."""
    parts = [f"# {study.grid.name}"]
    for text in (study.grid.question, study.grid.source):
        if text:
            parts.append(text)
    parts += ["## What was found", "\n".join(f"- {line}" for line in findings(study))]
    parts += ["## How", "\n".join(f"- {line}" for line in about(study))]
    if study.record.get("command"):
        parts.append(f"Again:\n\n```sh\n{study.record['command']}\n```")
    with atomic_write(study.path / FINDINGS) as path:
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _best(study: Study, listed: Sequence[Summary]) -> list[str]:
    tops = {bn: best(listed, bn) for bn, _ in KINDS}
    lines = []
    for bn, words in KINDS:
        top = tops[bn]
        side = top.side(bn) if top else None
        if top and side:
            place = where(top.point, study.axes)
            kind = words if not study.axes else f"Best {words}"
            lines.append(
                _sentence(
                    f"{kind}: {percent(side.spread)} % of the test digits right",
                    f", at {place}" if place else "",
                    f" ({_count(side.spread.count, 'seed')})",
                )
            )
    with_bn, without = tops[True], tops[False]
    if with_bn and without:
        found = difference(with_bn.with_bn, without.without_bn)
        words = (
            "From the best without to the best with BN" if study.axes else "With BN less without"
        )
        lines.append(_sentence(f"{words}: {points(found)}"))
    return lines


def _near(study: Study, listed: Sequence[Summary]) -> list[str]:
    """How much of the axis with most values is nearly as good as the best on it."""
    if not study.axes:
        return []
    axis = max(study.axes, key=lambda each: len({_key(s.point, [each]) for s in listed}))
    others = [each for each in study.axes if each != axis]
    rest: dict[str, list[Summary]] = {}
    for each in listed:
        rest.setdefault(_key(each.point, others), []).append(each)
    if len(rest) > MOST_RANGES or study.grid.sample is not None:
        return _near_in_all(listed)
    lines = []
    for some in rest.values():
        values = [each.point[axis] for each in some]
        told = _near_told(some, partial(_stretch, values), NAMES[axis])
        place = f"at {where(some[0].point, others)}, " if others else ""
        lines += [_sentence(place, told)] if told else []
    return lines


def _near_in_all(listed: Sequence[Summary]) -> list[str]:
    whole = _count(len(listed), "combination")
    told = _near_told(listed, lambda near: f"{sum(near)} of {whole}")
    return [_sentence(told)] if told else []


def _near_told(
    some: Sequence[Summary], stretch: Callable[[list[bool]], str], axis: str = ""
) -> str:
    """Which of these are within a point of the best of their kind, as a part of a sentence.

    Args:
        some: points of the grid.
        stretch: words for those that are near, given whether each is.
        axis: what these words are values of.
    """
    parts, is_said = [], False
    near_best = "are within a point of their best at" + (f" {axis}" if axis else "")
    for bn, words in KINDS:
        sides = [side for each in some if (side := each.side(bn)) and _size(side)]
        top = best(some, bn)
        if sides and all(side.fails for side in sides):
            parts.append(f"networks {words} learn nowhere")
        elif top:
            near = stretch([_near_top(each, top, bn) for each in some])
            parts.append(
                f"those {words} at {near}" if is_said else f"networks {words} {near_best} {near}"
            )
            is_said = True
    return ", ".join(parts)


def _near_top(each: Summary, top: Summary, bn: bool) -> bool:
    """Whether all networks there came through, with a mean within `NEAR` of the top's."""
    side, highest = each.side(bn), top.side(bn)
    assert highest is not None
    assert highest.spread.mean is not None
    if side is None or not side.sound or side.spread.mean is None:
        return False
    return side.spread.mean >= highest.spread.mean - NEAR


def _stretch(values: Sequence[object], near: Sequence[bool]) -> str:
    """The values that are near, neighbours as a stretch: ``0.001 to 0.1, 1``."""
    parts, start = [], None
    for i, is_near in enumerate([*near, False]):
        if is_near and start is None:
            start = i
        elif not is_near and start is not None:
            first, last = short(values[start]), short(values[i - 1])
            parts.append(first if first == last else f"{first} to {last}")
            start = None
    return ", ".join(parts)


def _differences(study: Study, listed: Sequence[Summary]) -> list[str]:
    """At how many points which of the two is better beyond doubt."""
    sure = [each for each in listed if each.difference.low is not None]
    if not study.axes or not sure:
        return []
    better = [each for each in sure if (each.difference.low or 0) > 0]
    worse = [each for each in sure if (each.difference.high or 0) < 0]
    unsure = [each for each in sure if each not in better and each not in worse]
    whole = _count(len(sure), "combination")
    if len(study.axes) == 1:
        (axis,) = study.axes
        values = [each.point[axis] for each in listed]
        many, few, open_ = (
            _stretch(values, [each in some for each in listed]) or "none"
            for some in (better, worse, unsure)
        )
        many = f"{NAMES[axis]} {many}"
    else:
        many, few, open_ = f"{len(better)} of {whole}", str(len(worse)), str(len(unsure))
    is_part = len(sure) < len(listed)
    lines = [
        _sentence(
            f"where there are {MIN_PAIRS} pairs or more to compare, " if is_part else "",
            f"networks with BN are better at {many} and worse at {few}; at {open_} the "
            f"{CONFIDENCE:.0%} interval includes 0".replace("%", " %"),
        )
    ]
    for found, words in ((better, "The largest gain"), (worse, "The largest loss")):
        if found:
            top = max(found, key=lambda each: abs(each.difference.mean or 0))
            lines.append(
                _sentence(f"{words}: {points(top.difference)}, at {where(top.point, study.axes)}")
            )
    return lines


def _speed(study: Study) -> list[str]:
    """Without axes: when the network with normalization is as good as the other ever gets."""
    reached = steps_to_reach(study) if not study.axes else None
    if reached is None:
        return []
    return [
        _sentence(
            f"With BN {100 * reached.accuracy:.2f} % are right after {reached.steps_with:,} steps; "
            f"without, where it is the most there ever is, after {reached.steps_without:,}"
        )
    ]


def _fails(study: Study, listed: Sequence[Summary]) -> list[str]:
    lines = []
    for bn, words in KINDS:
        sides = [(each, side) for each in listed if (side := each.side(bn))]
        diverged = sum(len(side.diverged) for _, side in sides)
        bad = [each for each, side in sides if side.fails]
        total = sum(_size(side) for _, side in sides)
        if total:
            text = f"{words}, {diverged} of {_count(total, 'network')} diverged"
            if study.axes:
                text += (
                    f"; under {CHANCE:.0%} right, or most diverged, at {len(bad)} of "
                    f"{_count(len(sides), 'combination')}"
                ).replace("%", " %")
                if bad and len(bad) <= MOST_RANGES:
                    text += ": " + "; ".join(where(each.point, study.axes) for each in bad)
            lines.append(_sentence(text))
    return lines


def _learning(listed: Sequence[Summary]) -> list[str]:
    """At how many points they learn at all."""
    parts = []
    for bn, words in KINDS:
        sides = [side for each in listed if (side := each.side(bn)) and _size(side)]
        if sides:
            count = sum(not side.fails for side in sides)
            whole = _count(len(sides), "combination")
            parts.append(f"networks {words} learn at {count} of {whole}")
    others = f"the others are under {CHANCE:.0%} right, or diverge".replace("%", " %")
    return [_sentence(", ".join(parts), f" ({others})")] if parts else []


def _absent(study: Study) -> list[str]:
    lines = []
    failed, missing = study.with_status("failed"), study.with_status("missing")
    if failed:
        error = study.results[failed[0].name].error
        lines.append(_sentence(f"{_count(len(failed), 'network')} could not be trained ({error})"))
    if missing:
        lines.append(_sentence(f"{_count(len(missing), 'network')} not trained yet"))
    return lines


def percent(found: Spread) -> str:
    """Mean and deviation in percent: ``97.26 ± 0.16``."""
    if found.mean is None:
        return "no figures"
    return f"{100 * found.mean:.2f}" + ("" if found.sd is None else f" ± {100 * found.sd:.2f}")


def points(found: Difference) -> str:
    """A difference in percentage points with its interval, or why it has none."""
    if found.mean is None:
        return "no pairs to compare"
    pairs = _count(found.pairs, "pair")
    if found.low is None or found.high is None:
        return f"{100 * found.mean:+.2f} points ({pairs}: too few for an interval)"
    low, high = 100 * found.low, 100 * found.high
    interval = f"{CONFIDENCE:.0%} interval {low:.2f} to {high:.2f}".replace("%", " %")
    return f"{100 * found.mean:+.2f} points ({interval}, {pairs})"


def _values(study: Study, axis: str) -> str:
    """The values on an axis, or the range they were drawn from."""
    given = study.grid.axes[axis]
    if isinstance(given, Range):
        scale = ", evenly on a logarithmic scale" if given.log else ""
        return f"drawn from {short(given.low)} to {short(given.high)}{scale}"
    return ", ".join(short(value) for value in given)


def _key(point: Point, axes: Sequence[str]) -> str:
    return "|".join(text_of(point[axis]) for axis in axes)


def _size(side: Side) -> int:
    return len(side.accuracies) + len(side.diverged)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _sentence(*parts: str) -> str:
    text = "".join(parts)
    return f"{text[0].upper()}{text[1:]}."
