"""What probes found, a sentence for each subject, every figure and every verdict from the data."""

from collections.abc import Callable, Sequence

import numpy as np

from kerasbn.runs import Run
from kerasbn.study.probes import NETWORK, Probes, Series, has_probes, read_probes

VANISHED, EXPLODED = 1e-2, 1e2  # the first layer's gradient over the last layer's


def findings(found: Sequence[Probes]) -> dict[str, str]:
    """A sentence for each subject that the probes of one or two runs have something to say of."""
    sentences = {name: tell(found) for name, tell in _TELLERS.items()}
    return {name: sentence for name, sentence in sentences.items() if sentence}


def findings_of(runs: Sequence[Run]) -> list[str]:
    """The sentences on one run or two, in the order of reading; none if one was not probed.

    Raises:
        InputError: if what was recorded is damaged.
    """
    if not all(map(has_probes, runs)):
        return []
    return list(findings([read_probes(run) for run in runs]).values())


def names_of(found: Sequence[Probes]) -> list[str]:
    """What to call the networks: by their normalization, or, if that is alike, by their runs."""
    if len({each.bn for each in found}) == len(found):
        return ["with BN" if each.bn else "without BN" for each in found]
    return [each.run.name for each in found]


def _gradients(found: Sequence[Probes]) -> str:
    told, ills = [], []
    for each, name in zip(found, names_of(found), strict=True):
        first, last = (each.series(each.layers[i], "kernel_gradient") for i in (0, -1))
        with np.errstate(all="ignore"):
            ratio = Series(first.steps, first.values / last.values)
        start, usual = _first(ratio), ratio.median()
        if np.isfinite(start):
            told.append(
                f"{_figure(start)} times {name} (median over the training {_figure(usual)})"
            )
            worst = min(start, usual)
            if worst < VANISHED:
                ills.append(f"{name} it vanishes on its way back")
            elif max(start, usual) > EXPLODED:
                ills.append(f"{name} it explodes on its way back")
    if not told:
        return ""
    sentence = (
        "Before the first step the gradient of the first layer's kernel is as large as the last "
        f"layer's {_listed(told)}"
    )
    return f"{sentence}; {_listed(ills)}." if ills else f"{sentence}."


def _drift(found: Sequence[Probes]) -> str:
    measures = {
        "shift": [each.over(each.layers[1:], "shift_relative").median() for each in found],
        "inputs": [each.over(each.layers[1:], "input_mean_drift").median() for each in found],
    }
    names = names_of(found)
    if not np.isfinite(measures["shift"]).any():
        return ""
    shifts, inputs = (
        _listed([f"{_figure(100 * v)} % {name}" for v, name in zip(values, names, strict=True)])
        for values in measures.values()
    )
    sentence = (
        "Internal covariate shift: a step of the layers before it changes a layer's gradient by "
        f"{shifts} of its length (median; as Santurkar and others define it), and from probe to "
        f"probe the mean of its inputs moves by {inputs} of their standard deviation"
    )
    verdict = _verdict(found, list(measures.values()))
    return f"{sentence}: {verdict}." if verdict else f"{sentence}."


def _verdict(found: Sequence[Probes], measures: Sequence[Sequence[float]]) -> str:
    """Whether the network with normalization has the smaller figures; empty if there is no pair."""
    if sorted(each.bn for each in found) != [False, True] or not np.isfinite(measures).all():
        return ""
    bn = [each.bn for each in found].index(True)
    smaller = [values[bn] < values[1 - bn] for values in measures]
    if all(smaller):
        return "by both measures batch normalization reduced it here"
    if not any(smaller):
        return "by neither measure did batch normalization reduce it here"
    by = ("the first", "the second") if smaller[0] else ("the second", "the first")
    return f"by {by[0]} measure batch normalization reduced it here, by {by[1]} it did not"


def _landscape(found: Sequence[Probes]) -> str:
    names = names_of(found)
    smooth = [each.series(NETWORK, "smoothness").median() for each in found]
    turns = []
    for each in found:
        far = each.series(NETWORK, "change", each.step_sizes[-1])
        with np.errstate(all="ignore"):
            relative = far.values / each.series(NETWORK, "gradient").values
        turns.append(Series(far.steps, relative).median())
    if not np.isfinite(smooth).all():
        return ""
    told = _listed([f"{_figure(100 * v)} % {name}" for v, name in zip(turns, names, strict=True)])
    betas = _listed([f"{_figure(v)} {name}" for v, name in zip(smooth, names, strict=True)])
    sentence = (
        f"A step of {found[0].step_sizes[-1]:g} times the gradient changes the gradient by {told} "
        f"of its length, and the effective beta-smoothness (the smaller, the smoother) is {betas} "
        "(medians over the probes)"
    )
    if sorted(each.bn for each in found) != [False, True]:
        return f"{sentence}."
    bn = [each.bn for each in found].index(True)
    if smooth[bn] < smooth[1 - bn]:
        return f"{sentence}: the landscape is smoother with BN."
    flat = found[1 - bn].series(NETWORK, "gradient").median()
    steep = found[bn].series(NETWORK, "gradient").median()
    why = f", where the gradient is {_figure(flat / steep)} times that with BN" * (flat < steep / 2)
    return f"{sentence}: the landscape is smoother without BN{why}."


def _activations(found: Sequence[Probes]) -> str:
    for quantity, words in (
        ("dead", "of the ReLUs are 0 for every probing digit"),
        ("saturated", "of the activations are within 5 % of an end of their range"),
    ):
        told = []
        for each, name in zip(found, names_of(found), strict=True):
            lasts = [each.series(layer, quantity).last() for layer in each.layers[:-1]]
            if np.isfinite(lasts).any():
                told.append(f"{_figure(100 * float(np.nanmean(lasts)))} % {name}")
        if told:
            return f"At the end {_listed(told)} {words} (mean over the layers)."
    return ""


def _statistics(found: Sequence[Probes]) -> str:
    told = []
    for each, name in zip(found, names_of(found), strict=True):
        if each.bn:
            outside = each.over(each.normalizations, "outside").median()
            distance = [each.series(norm, "moving_mean_distance") for norm in each.normalizations]
            start, end = (
                float(np.nanmax([_first(s) if i else s.last() for s in distance])) for i in (1, 0)
            )
            told.append(
                f"{_figure(100 * outside)} % of the normalized values are outside -1..1 (a "
                "variance of 1 is no range of 1); the moving means are up to "
                f"{_figure(start)} standard deviations from the batch's own at first and "
                f"{_figure(end)} at the end"
                + (f", {name}" if len(found) > 1 and all(other.bn for other in found) else "")
            )
    return f"{'; '.join(told)}." if told else "Nothing is normalized here, and nothing moves."


def _gamma_and_beta(found: Sequence[Probes]) -> str:
    told = []
    for each in found:
        if not each.bn:
            continue
        parts = []
        for part in ("gamma", "beta"):
            low, middle, high = (
                [each.series(norm, part, index).last() for norm in each.normalizations]
                for index in (0, 50, 100)
            )
            parts.append(
                f"{part} is {_figure(float(np.nanmedian(middle)))} at the end (median; "
                f"{_figure(float(np.nanmin(low)))} to {_figure(float(np.nanmax(high)))} over all "
                "units)"
            )
        told.append(_listed(parts))
    return f"{'; '.join(told)}: they began at 1 and 0." if told else ""


def _percentiles(found: Sequence[Probes]) -> str:
    told = []
    for each, name in zip(found, names_of(found), strict=True):
        if len(each.layers) > 1:
            values = each.series(each.layers[-2], "percentile", 50).values
            values = values[np.isfinite(values)]
            if len(values):
                told.append(f"{_figure(values.min())} and {_figure(values.max())} {name}")
    if not told:
        return ""
    return (
        "The median of what enters the activation of a typical unit in the last hidden layer stays "
        f"between {_listed(told)}."
    )


def _batch_mates(found: Sequence[Probes]) -> str:
    told = []
    for each, name in zip(found, names_of(found), strict=True):
        rows = list(each.about.get("batch_mates", []))
        if not rows:
            continue
        moving = [row for row in rows if row["statistics"] == "moving"]
        largest = max(row["largest"] or 0 for row in moving)
        none = (
            "no answer depends on its batch-mates at all"
            if largest == 0
            else f"its batch-mates move no logit by more than {_figure(largest)} (rounding)"
        )
        if not each.bn:
            told.append(f"{name} {none}")
            continue
        sizes = sorted({row["batch_size"] for row in rows})
        by_size = {size: each.answered("batch", size, "shuffled") or {} for size in sizes}
        parts = [f"{100 * row['accuracy']:.1f} % at {size}" for size, row in by_size.items()]
        largest_size = sizes[-1]
        by_class = each.answered("batch", largest_size, "sorted") or {}
        told.append(
            f"{name} and with moving statistics {100 * moving[0]['accuracy']:.2f} % of the test "
            f"digits are right and {none}; with the statistics of the batch it is "
            f"{_listed(parts)} digits a batch, other batch-mates change "
            f"{100 * by_size[largest_size]['changed']:.1f} % of the answers even at "
            f"{largest_size}, and sorted by class {100 * by_class['accuracy']:.1f} % are right"
        )
    return f"{_capital('; '.join(told))}." if told else ""


_TELLERS: dict[str, Callable[[Sequence[Probes]], str]] = {
    "gradients": _gradients,
    "drift": _drift,
    "landscape": _landscape,
    "percentiles": _percentiles,
    "activations": _activations,
    "statistics": _statistics,
    "gamma-beta": _gamma_and_beta,
    "batch-mates": _batch_mates,
}


def _first(series: Series) -> float:
    finite = series.values[np.isfinite(series.values)]
    return float(finite[0]) if len(finite) else float("nan")


def _figure(value: float) -> str:
    """Two digits that count."""
    if not np.isfinite(value):
        return "not measurable"
    return (
        f"{value:.2g}" if abs(value) < 0.001 or abs(value) >= 1e5 else f"{float(f'{value:.2g}'):g}"
    )


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
