"""What probes found, a sentence for each subject, every figure and every verdict from the data."""

from collections.abc import Callable, Sequence

import numpy as np

from kerasbn.probes.readings import NETWORK, Probes, Series, has_probes, read_probes
from kerasbn.runs import Run

VANISHED, EXPLODED = 1e-2, 1e2  # the first layer's gradient over the last layer's
MANY = 10  # from here on "times" is easier to read than "%"
FLAT = 0.5  # so much of the other network's gradient is worth a word


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
        start, usual = ratio.first(), ratio.median()
        if not np.isfinite(start):
            continue
        told.append(f"{_figure(start)} times {name} (over the training {_figure(usual)}, median)")
        if start < VANISHED:
            ills.append(f"{name} it vanishes on its way back")
        elif start > EXPLODED:
            ills.append(f"{name} it explodes on its way back")
    if not told:
        return ""
    sentence = (
        "Gradients: before the first step the loss pulls at the first layer's kernel, against the "
        f"last layer's, {_listed(told)}"
    )
    return f"{sentence}; {_listed(ills)}." if ills else f"{sentence}."


def _drift(found: Sequence[Probes]) -> str:
    shifts, inputs = (
        [each.over(each.layers[1:], quantity).median() for each in found]
        for quantity in ("shift_relative", "input_mean_drift")
    )
    if not np.isfinite(shifts).any():
        return ""
    sentence = (
        "Internal covariate shift: when only the layers before it take a step, a layer's gradient "
        f"changes by {_shares(found, shifts, 'its length')} (the measure of Santurkar and others; "
        "medians); from probe to probe the mean of its inputs moves by "
        f"{_shares(found, inputs, 'their standard deviation')}"
    )
    verdict = _verdict(found, [shifts, inputs])
    return f"{sentence}: {verdict}." if verdict else f"{sentence}."


def _verdict(found: Sequence[Probes], measures: Sequence[Sequence[float]]) -> str:
    """Whether the network with normalization has the smaller figures; empty if there is no pair."""
    if not _is_pair(found) or not np.isfinite(measures).all():
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
    smooth = [each.series(NETWORK, "smoothness").median() for each in found]
    if not np.isfinite(smooth).all():
        return ""
    turns = []
    for each in found:
        changed = each.series(NETWORK, "change", each.step_sizes[-1])
        with np.errstate(all="ignore"):
            relative = changed.values / each.series(NETWORK, "gradient").values
        turns.append(Series(changed.steps, relative).median())
    betas = [f"{_figure(v)} {name}" for v, name in zip(smooth, names_of(found), strict=True)]
    sentence = (
        f"Landscape: a step of {found[0].step_sizes[-1]:g} times the gradient changes the gradient "
        f"by {_shares(found, turns, 'its length')}; the effective beta-smoothness, of which less "
        f"is smoother, is {_listed(betas)} (medians)"
    )
    if not _is_pair(found):
        return f"{sentence}."
    bn = [each.bn for each in found].index(True)
    if smooth[bn] < smooth[1 - bn]:
        return f"{sentence}: along its gradient the loss is smoother with BN."
    steepness = [each.series(NETWORK, "gradient").median() for each in found]
    flat = steepness[1 - bn] / steepness[bn]
    why = f", where it is also flat: {_figure(flat)} times the gradient" if flat < FLAT else ""
    return f"{sentence}: along its gradient the loss is smoother without BN{why}."


def _preactivations(found: Sequence[Probes]) -> str:
    told = []
    for each, name in zip(found, names_of(found), strict=True):
        last = [each.series(layer, "preactivation_sd").last() for layer in each.layers[:-1]]
        if np.isfinite(last).any():
            low, high = _figure(float(np.nanmin(last))), _figure(float(np.nanmax(last)))
            told.append(f"{low} {name}" if low == high else f"{low} to {high} {name}")
    if not told:
        return ""
    return (
        f"Pre-activations: at the end their standard deviation within a layer is {_listed(told)}."
    )


def _activations(found: Sequence[Probes]) -> str:
    for quantity, what, words in (
        ("dead", "the ReLUs", "dead: 0 for every probing digit"),
        ("saturated", "the activations", "saturated: within 5 % of an end of their range"),
    ):
        lasts = [[e.series(layer, quantity).last() for layer in e.layers[:-1]] for e in found]
        shown = [i for i, values in enumerate(lasts) if np.isfinite(values).any()]
        if shown:
            means = [float(np.nanmean(lasts[i])) for i in shown]
            told = _shares([found[i] for i in shown], means, what)
            return f"Activations: at the end {told} are {words}."
    return ""


def _statistics(found: Sequence[Probes]) -> str:
    each = next((each for each in found if each.bn), None)
    if each is None:
        return (
            "Statistics: there is no normalization, so there are no moving statistics, no gamma "
            "and no beta to look at."
        )
    outside = each.over(each.normalizations, "outside").median()
    distances = [each.series(norm, "moving_mean_distance") for norm in each.normalizations]
    start = max(distance.first() for distance in distances)
    end = max(distance.last() for distance in distances)
    return (
        f"Statistics: {_figure(100 * outside)} % of the normalized values are outside -1..1 (a "
        "variance of 1 is no range of 1); the moving means are up to "
        f"{_figure(start)} standard deviations from the batch's own at first, {_figure(end)} "
        "at the end."
    )


def _gamma_and_beta(found: Sequence[Probes]) -> str:
    each = next((each for each in found if each.bn), None)
    if each is None:
        return ""
    told = []
    for part, start in (("gamma", 1), ("beta", 0)):
        low, middle, high = (
            np.array([each.series(norm, part, which).last() for norm in each.normalizations])
            for which in (0, 50, 100)
        )
        told.append(
            f"{part} from {start} to {_figure(float(np.median(middle)))} in the middle, "
            f"{_figure(low.min())} to {_figure(high.max())} over all units"
        )
    return f"Learned: {'; '.join(told)}."


def _percentiles(found: Sequence[Probes]) -> str:
    told = []
    for each, name in zip(found, names_of(found), strict=True):
        if len(each.layers) > 1:
            _, values = each.series(each.layers[-2], "percentile", 50).finite()
            if len(values):
                told.append(f"from {_figure(values.min())} to {_figure(values.max())} {name}")
    if not told:
        return ""
    return (
        "A typical unit: the median of what enters its activation, in the last hidden layer, "
        f"ranges over the training {_listed(told)}."
    )


def _batch_mates(found: Sequence[Probes]) -> str:
    told = [
        _company(each, name) for each, name in zip(found, names_of(found), strict=True)
        if each.about.get("batch_mates")
    ]  # fmt: skip
    return f"Batch-mates: {'; '.join(told)}." if told else ""


def _company(each: Probes, name: str) -> str:
    """How the answers of one network depend on the company of the digits."""
    rows = each.about["batch_mates"]
    moving = [row for row in rows if row["statistics"] == "moving"]
    largest = max(row["largest"] for row in moving)
    still = (
        "no answer depends on them at all"
        if largest == 0
        else f"they move no logit by more than {_figure(largest)}, which is rounding"
    )
    if not each.bn:
        return f"{name} {still}"
    shuffled, by_class = (
        [row for row in rows if (row["statistics"], row["order"]) == ("batch", order)]
        for order in ("shuffled", "sorted")
    )
    right = [f"{100 * row['accuracy']:.1f} % at {row['batch_size']}" for row in shuffled]
    most = shuffled[-1]
    return (
        f"{name} and moving statistics {still}, and {100 * moving[0]['accuracy']:.2f} % of the "
        "test digits are right; normalized by the statistics of their batch, right are "
        f"{_listed(right)} digits a batch, other company changes {100 * most['changed']:.1f} % of "
        f"the answers even at {most['batch_size']}, and sorted by class only "
        f"{100 * by_class[-1]['accuracy']:.1f} % are right"
    )


def _is_pair(found: Sequence[Probes]) -> bool:
    """Whether these are a network with normalization and one without."""
    return sorted(each.bn for each in found) == [False, True]


def _shares(found: Sequence[Probes], shares: Sequence[float], of: str) -> str:
    """Such as "20 % of its length with BN and 30 % without BN"."""
    (first, *others), names = shares, names_of(found)
    times = first >= MANY
    told = [f"{_share(first)} {of}" if times else f"{_share(first)} of {of}", *map(_share, others)]
    return _listed([f"{words} {name}" for words, name in zip(told, names, strict=True)])


def _share(value: float) -> str:
    return f"{_figure(value)} times" if value >= MANY else f"{_figure(100 * value)} %"


_TELLERS: dict[str, Callable[[Sequence[Probes]], str]] = {
    "gradients": _gradients,
    "drift": _drift,
    "landscape": _landscape,
    "preactivations": _preactivations,
    "percentiles": _percentiles,
    "activations": _activations,
    "statistics": _statistics,
    "gamma-beta": _gamma_and_beta,
    "batch-mates": _batch_mates,
}


def _figure(value: float) -> str:
    """Two digits that count."""
    if not np.isfinite(value):
        return "not measurable"
    return (
        f"{value:.2g}" if abs(value) < 0.001 or abs(value) >= 1e5 else f"{float(f'{value:.2g}'):g}"
    )


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
