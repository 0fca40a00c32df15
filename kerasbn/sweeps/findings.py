"""What a study shows, in sentences computed from its figures."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

from kerasbn.common.files import atomic_write
from kerasbn.common.wording import (
    escaped,
    listed,
    markdown,
    percent,
    plural,
    points,
    sentence,
)
from kerasbn.experiments.comparison import difference_text
from kerasbn.experiments.curves import data_title
from kerasbn.experiments.statistics import METHOD, MIN_PAIRS
from kerasbn.sweeps import summaries as summing
from kerasbn.sweeps.grid import Range
from kerasbn.sweeps.study_data import StudyData
from kerasbn.sweeps.summaries import KIND_NAMES, LEARNED, Summary, best, describe
from kerasbn.training.settings import SETTINGS, SettingValue, option_text, short_text

FINDINGS = "findings.md"
NEAR = 0.01  # one point of accuracy: as good as the best
MAX_LINES = 6  # about what is near the best: one for each value of the other axes
MAX_ANSWER_LINES = 3  # of these in the answer
CHOSEN = " (without an interval, since these results also chose the best)"
FAILS = f"test accuracy below {LEARNED:.0%}, or most seeds diverged"


def findings(study: StudyData) -> list[str]:
    """Return what the study shows, as sentences, the answer first."""
    return [line for part in answer_and_details(study) for line in part]


def answer_and_details(study: StudyData) -> tuple[list[str], list[str]]:
    """Return the findings in two parts: those that answer the question, and the others."""
    summaries = summing.summarize(study)
    near = _near_best(study, summaries)
    differences = _differences(study, summaries)
    best_ones = _best(study, summaries)
    if not study.axes:
        answer = [*best_ones, *_speed(study)]
    elif study.grid.sample is not None:
        answer = best_ones
    elif len(near) > MAX_ANSWER_LINES:
        answer = _learning(summaries)
    else:
        answer = [*near, *differences[:1]]
    every = [*near, *differences, *best_ones, *_fails(study, summaries), *_absent(study)]
    return [*filter(None, answer)], [line for line in every if line and line not in answer]


def method(study: StudyData) -> list[str]:
    """Return what was trained, on which data, and how the figures were computed, as sentences."""
    grid, data = study.grid, study.record.data
    fixed = describe(grid.options, list(grid.options))
    lines = [
        f"{plural(len(study.trials), 'trial')}, {plural(grid.seeds, 'seed')} each, on "
        f"{data_title(data.name)} ({data.train:,} training and {data.test:,} test images)"
    ]
    if study.axes:
        axes = (f"{SETTINGS[axis].label} {_axis_text(study, axis)}" for axis in study.axes)
        lines.append(f"Varied: {'; '.join(axes)}")
    if fixed:
        lines.append(f"Fixed: {fixed}; otherwise defaults")
    lines.append(f"Figures are test accuracies after the last epoch; {METHOD}")
    compared = sum(each.difference.low is not None for each in summing.summarize(study))
    if compared > 1:
        lines.append(
            f"Each of the {compared} intervals is a 95% interval by itself: where BN makes no "
            "difference, about 1 in 20 still shows one"
        )
    return [sentence(line) for line in lines]


def write_findings(study: StudyData) -> None:
    """Write findings.md."""
    grid = study.grid
    parts = [f"# {markdown(grid.name)}", markdown(grid.question), markdown(grid.source)]
    parts += ["## Findings", "\n".join(f"- {markdown(line)}" for line in findings(study))]
    parts += ["## Method", "\n".join(f"- {markdown(line)}" for line in method(study))]
    if study.record.command:
        parts.append(f"Reproduce with:\n\n{_fenced(study.record.command)}")
    if "--data-dir" in study.record.command:
        parts.append("Replace the folder after `--data-dir` by yours with the four MNIST files.")
    with atomic_write(study.path / FINDINGS) as path:
        path.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")


def _fenced(command: str) -> str:
    """Return a command as a code block, whose fence is longer than any backticks in it."""
    longest = max(map(len, re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{escaped(command)}\n{fence}"


def _best(study: StudyData, summaries: Sequence[Summary]) -> list[str]:
    """Say the best accuracy of each kind, and their difference."""
    tops = {bn: top for bn in KIND_NAMES if (top := best(summaries, bn))}
    if not tops:
        return []
    parts = "; ".join(
        f"{KIND_NAMES[bn]} {summing.as_best(top, bn, study.axes)}" for bn, top in tops.items()
    )
    lines = [sentence(f"{'best test' if study.axes else 'test'} accuracy: {parts}")]
    if len(tops) == 2:
        found = summing.difference_of(tops[True].with_bn, tops[False].without_bn)
        line = f"difference: {difference_text(found, study.grid.seeds)}"
        if study.axes:
            # An interval would be too optimistic: a mean that was chosen as the highest is high by
            # chance too, and more so with more candidates.
            gain = points(found.mean)
            line = f"difference of the best, with BN minus without: {gain}{CHOSEN}"
        lines.append(sentence(line))
    return lines


def _near_best(study: StudyData, summaries: Sequence[Summary]) -> list[str]:
    """Say which values of the axis with the most values are nearly as good as the best."""
    if not study.axes:
        return []
    axis, by_others = summing.by_other_axes(summaries, study.axes)
    if len(by_others) > MAX_LINES or study.grid.sample is not None:
        total = plural(len(summaries), "combination")

        def counted(near: Sequence[bool], named: bool) -> str:
            return f"{sum(near)} of {total}" if named else str(sum(near))

        return [_near_text(summaries, counted)]
    lines = []
    for place, some in by_others.items():
        values = [each.configuration[axis] for each in some]
        text = _near_text(some, partial(values_text, axis, values))
        lines.append(f"{sentence(place)[:-1]}: {text[:1].lower()}{text[1:]}" if place else text)
    return [line for line in lines if line]


def _near_text(summaries: Sequence[Summary], words: Callable[[Sequence[bool], bool], str]) -> str:
    """Say which summaries come within `NEAR` of the best of their kind, in a sentence per kind.

    `words` names those that do, given whether each does and whether to say what they are.
    """
    lines: list[str] = []
    first = 0  # how many the first sentence names
    for bn, kind in KIND_NAMES.items():
        results = [each.of(bn) for each in summaries]
        trained = [each for each in results if each.trained]
        top = best(summaries, bn)
        if trained and all(each.fails for each in trained):
            lines.append(sentence(f"{kind}, all fail"))
        elif top:
            enough = top.of(bn).mean - NEAR
            near = [each.is_sound and each.mean >= enough for each in results]
            count = sum(near)
            only = "only " if count < max(first, 2) and count < len(near) else ""
            verbs = ("does", "do") if first else ("comes", "come")
            end = f"{verbs[count > 1]}{'' if first else ' within one point of the best'}"
            lines.append(sentence(f"{kind}, {only}{words(near, not first)} {end}"))
            first = first or count
    return " ".join(lines)


def values_text(
    axis: str, values: Sequence[SettingValue], chosen: Sequence[bool], named: bool = True
) -> str:
    """Name the chosen values of an axis: ``learning rates 0.001 to 0.1 and 1``.

    Neighbors form a range where the values are ordered; the values of a category are listed. The
    axis is named only if `named`.
    """
    label, count = SETTINGS[axis].label, sum(chosen)
    plural_label = label if label.endswith("s") else f"{label}s"
    if count == len(values) > 2:
        return f"all {plural_label}" if named else "all"
    ordered = SETTINGS[axis].is_number or SETTINGS[axis].kind is tuple
    parts: list[str] = []
    for is_chosen, pairs in groupby(zip(values, chosen, strict=True), lambda pair: pair[1]):
        run = [short_text(value) for value, _ in pairs] if is_chosen else []
        is_range = ordered and len(run) > 2  # two are no range
        parts += [f"{run[0]} to {run[-1]}"] if is_range else run
    if not parts:
        return f"no {label}" if named else "none"
    return f"{label if count == 1 else plural_label} {listed(parts)}" if named else listed(parts)


def _differences(study: StudyData, summaries: Sequence[Summary]) -> list[str]:
    """Say where BN is better or worse, beyond chance."""
    known = [each for each in summaries if each.difference.low is not None]
    if not study.axes or not any(each.difference.pairs for each in summaries):
        return []
    if not known:
        return [f"No combination has the {MIN_PAIRS} pairs that an interval needs."]
    better = [each for each in known if (each.difference.low or 0) > 0]
    worse = [each for each in known if (each.difference.high or 0) < 0]
    unclear = [each for each in known if each not in better and each not in worse]

    def place(some: Sequence[Summary]) -> str:
        if len(study.axes) > 1:
            return f"in {len(some)} of {plural(len(known), 'combination')}"
        return f"at {_values(study, summaries, [each in some for each in summaries])}"

    lines = []
    for some, verb in ((better, "helps"), (worse, "hurts")):
        if some:
            top = max(some, key=lambda each: abs(each.difference.mean or 0))
            where = f", most at {describe(top.configuration, study.axes)}" if len(some) > 1 else ""
            gain = difference_text(top.difference, study.grid.seeds)
            lines.append(sentence(f"BN {verb} {place(some)}{where}: {gain}"))
    if unclear:
        lines.append(sentence(f"No significant difference {place(unclear)}"))
    return lines


def _values(study: StudyData, summaries: Sequence[Summary], chosen: Sequence[bool]) -> str:
    """Name the chosen values of the only axis."""
    (axis,) = study.axes
    return values_text(axis, [each.configuration[axis] for each in summaries], chosen)


def _speed(study: StudyData) -> list[str]:
    """Say when BN reaches the best accuracy without it."""
    speed = summing.speed_of(study)
    if speed is None:
        return []
    accuracy, with_bn, without_bn = speed
    return [
        f"BN reaches {percent(accuracy)} after {with_bn:,} steps. Without it, that takes "
        f"{without_bn:,} steps and is the best it gets."
    ]


def _fails(study: StudyData, summaries: Sequence[Summary]) -> list[str]:
    """Say what diverged, and which configurations fail."""
    lines, note = [], f" ({FAILS})"
    for bn, words in KIND_NAMES.items():
        results = [each.of(bn) for each in summaries]
        diverged = sum(each.diverged for each in results)
        fails = [each.fails for each in results]
        if diverged:
            trained = plural(sum(each.trained for each in results), "trial")
            lines.append(sentence(f"{words}, {diverged} of {trained} diverged"))
        if any(fails) and study.axes:
            verb = "fails" if sum(fails) == 1 else "fail"
            what = f"{sum(fails)} of {plural(len(results), 'combination')}"
            if len(study.axes) == 1:
                what = _values(study, summaries, fails)
            lines.append(sentence(f"{words}, {what} {verb}{note}"))
            note = ""
    if not lines and study.with_status("finished"):
        return ["No trial diverged."]
    return lines


def _learning(summaries: Sequence[Summary]) -> list[str]:
    """Say how many configurations learn at all."""
    parts: list[str] = []
    for bn, words in KIND_NAMES.items():
        trained = [results for each in summaries if (results := each.of(bn)).trained]
        if trained:
            count = sum(not each.fails for each in trained)
            total = plural(len(trained), "combination")
            what = f"{count} do" if parts else f"{count} of {total} learn"
            parts.append(f"{words}, {what}")
    return [sentence(f"{'; '.join(parts)} (the others fail: {FAILS})")] if parts else []


def _absent(study: StudyData) -> list[str]:
    lines = []
    if failed := study.with_status("failed"):
        error = study.outcomes[failed[0].name].error
        lines.append(f"{plural(len(failed), 'trial')} could not be trained ({error}).")
    if missing := study.with_status("missing"):
        verb = "is" if len(missing) == 1 else "are"
        lines.append(f"{plural(len(missing), 'trial')} {verb} not trained yet.")
    return lines


def _axis_text(study: StudyData, axis: str) -> str:
    """Return the values of an axis, or the range they were drawn from."""
    given = study.grid.axes[axis]
    if isinstance(given, Range):
        scale = " on a logarithmic scale" if given.scale == "log" else ""
        return f"drawn from {option_text(given.low)} to {option_text(given.high)}{scale}"
    return ", ".join(short_text(value) for value in given)
