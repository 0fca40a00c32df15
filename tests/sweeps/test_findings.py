"""Every figure in a sentence is computed from the study, and diverged networks are in no mean."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from scipy.stats import ttest_1samp

from kerasbn.sweeps.findings import about, findings, parted, write_findings
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.trials import Configuration

MadeUp = Callable[[Mapping[str, Any], Callable[[Configuration, int], float | str | None]], Study]

RATES = [0.001, 0.01, 0.1, 1.0]
GRID = {"seeds": 3, "options": {"epochs": 3}, "axes": {"lr": RATES}}
WITH = dict(zip(RATES, (0.95, 0.97, 0.965, 0.7), strict=True))
WITHOUT = dict(zip(RATES, (0.96, 0.93, 0.1, 0.9), strict=True))


def one_axis(each: Configuration, _: int) -> float | None:
    """At 1 without normalization two of three diverge, the third does well."""
    training = each.training
    if training.lr == 1.0 and not each.bn and training.seed > 0:
        return None
    mean = (WITH if each.bn else WITHOUT)[training.lr]
    return mean + (training.seed - 1) * (0.003 if each.bn else 0.001)


def test_one_axis(made_up: MadeUp) -> None:
    study = made_up(GRID, one_axis)
    told = findings(study)
    assert told[0] == (
        "Networks with BN are within a point of their best at learning rate 0.01 to 0.1, "
        "those without at 0.001."
    )
    # At 1 only one pair is left, too few to count.
    assert told[1] == (
        "Where there are 3 pairs or more to compare, networks with BN are better at learning rate "
        "0.01 to 0.1 and worse at 0.001; at none the 95 % interval includes 0."
    )
    best = next(i for i, line in enumerate(told) if line.startswith("Best"))
    assert told[best : best + 2] == [
        "Best with BN: 97.00 ± 0.30 % of the test digits right, at learning rate 0.01 (3 seeds).",
        "Best without: 96.00 ± 0.10 % of the test digits right, at learning rate 0.001 (3 seeds).",
    ]
    # From best to best, seed by seed: 0.8, 1.0 and 1.2 points.
    interval = ttest_1samp([0.8, 1.0, 1.2], 0).confidence_interval(0.95)
    assert told[best + 2] == (
        "From the best without to the best with BN: +1.00 points "
        f"(95 % interval {interval.low:.2f} to {interval.high:.2f}, 3 pairs)."
    )
    gain = next(line for line in told if line.startswith("The largest gain"))
    assert gain.startswith("The largest gain: +86.50 points")
    assert gain.endswith("at learning rate 0.1.")
    assert (
        "With BN, 0 of 12 networks diverged; under 20 % right, or most diverged, at 0 of 4 "
        "combinations."
    ) in told
    assert (
        "Without, 2 of 12 networks diverged; under 20 % right, or most diverged, at 2 of 4 "
        "combinations: learning rate 0.1; learning rate 1."
    ) in told


def test_a_point_where_one_diverged_is_never_the_best(made_up: MadeUp) -> None:
    def lucky(each: Configuration, epoch: int) -> float | None:
        """Two of three diverge at 1; the third is better than all others."""
        if each.training.lr == 1.0 and each.training.seed == 2:
            return 0.999
        return None if each.training.lr == 1.0 else one_axis(each, epoch)

    told = findings(made_up(GRID, lucky))
    assert any(line.startswith("Best with BN: 97.00") for line in told)
    assert not any("99.90" in line for line in told)


def test_without_axes_the_steps_are_told(made_up: MadeUp) -> None:
    def over_steps(each: Configuration, epoch: int) -> float:
        return {True: (0.8, 0.93, 0.97), False: (0.5, 0.92, 0.91)}[each.bn][epoch - 1]

    told = findings(made_up({"seeds": 2, "options": {"hidden": "8"}}, over_steps))
    assert told == [
        "With BN: 97.00 ± 0.00 % of the test digits right (2 seeds).",
        "Without: 91.00 ± 0.00 % of the test digits right (2 seeds).",
        "With BN less without: +6.00 points (2 pairs: too few for an interval).",
        "With BN 92.00 % are right after 200 steps; without, where it is the most there ever is, "
        "after 200.",
        "With BN, 0 of 2 networks diverged.",
        "Without, 0 of 2 networks diverged.",
    ]


def test_two_axes_are_told_value_by_value(made_up: MadeUp) -> None:
    grid = GRID | {"axes": {"activation": ["relu", "tanh"], "lr": RATES}}
    told = findings(made_up(grid, one_axis))
    assert told[:3] == [
        *(
            f"At activation {name}, networks with BN are within a point of their best at learning "
            "rate 0.01 to 0.1, those without at 0.001."
            for name in ("relu", "tanh")
        ),
        "Where there are 3 pairs or more to compare, networks with BN are better at 4 of 6 "
        "combinations and worse at 2; at 0 the 95 % interval includes 0.",
    ]


def test_the_answer_is_short_and_comes_first(made_up: MadeUp) -> None:
    grid = GRID | {"axes": {"activation": ["relu", "tanh", "elu", "silu"], "lr": RATES}}
    study = made_up(grid, one_axis)
    told = findings(study)
    assert told[:1] == parted(study)[0]
    assert told[0] == (
        "Networks with BN learn at 16 of 16 combinations, networks without learn at 8 of 16 "
        "combinations (the others are under 20 % right, or diverge)."
    )
    assert sum("within a point" in line for line in told) == 4
    assert len(set(told)) == len(told)


def test_of_a_sample_the_best_is_the_answer(made_up: MadeUp) -> None:
    grid = {"sample": 9, "axes": {"lr": {"log": [0.001, 1]}, "batch_size": [8, 16]}}
    study = made_up(grid, lambda each, _: 0.9 - abs(each.training.lr - 0.1) + 0.05 * each.bn)
    told = findings(study)
    assert [line.split(":")[0] for line in parted(study)[0]] == [
        "Best with BN", "Best without", "From the best without to the best with BN",
    ]  # fmt: skip
    (near,) = [line for line in told if "within a point" in line]
    assert near.startswith("Networks with BN are within a point of their best at ")
    assert " of 9 combinations, those without at " in near


@pytest.mark.parametrize("chance", [0.1, None])
def test_what_learns_nowhere_has_no_best(chance: float | None, made_up: MadeUp) -> None:
    def hopeless(each: Configuration, epoch: int) -> float | None:
        """Without normalization and with tanh, networks guess, or diverge."""
        lost = not each.bn and each.network.activation == "tanh"
        return chance if lost else one_axis(each, epoch)

    grid = GRID | {"axes": {"activation": ["relu", "tanh"], "lr": RATES}}
    told = findings(made_up(grid, hopeless))
    assert told[1] == (
        "At activation tanh, networks with BN are within a point of their best at learning rate "
        "0.01 to 0.1, networks without learn nowhere."
    )


def test_gaps_in_what_is_near_the_best_are_told(made_up: MadeUp) -> None:
    def gap(each: Configuration, _: int) -> float:
        return 0.5 if each.training.lr == 0.01 else 0.9

    told = findings(made_up(GRID, gap))
    assert told[0] == (
        "Networks with BN are within a point of their best at learning rate 0.001, 0.1 to 1, "
        "those without at 0.001, 0.1 to 1."
    )


def test_what_failed_and_what_is_missing_is_told(made_up: MadeUp) -> None:
    def failing(each: Configuration, epoch: int) -> float | str | None:
        return "MemoryError: too large" if each.training.lr == 0.1 else one_axis(each, epoch)

    study = made_up(GRID, failing)
    assert "6 networks could not be trained (MemoryError: too large)." in findings(study)
    assert not any("rate 0.1 " in line and "Best" in line for line in findings(study))
    missing = {name: each for name, each in study.results.items() if not name.startswith("lr-1.0")}
    partly = Study(study.path, study.record, study.grid, study.configurations, missing)
    assert "6 networks not trained yet." in findings(partly)
    assert findings(Study(study.path, study.record, study.grid, study.configurations, {})) == [
        "24 networks not trained yet."
    ]


def test_only_one_kind(made_up: MadeUp) -> None:
    told = findings(made_up(GRID | {"options": {"bn": False}}, one_axis))
    assert told[:2] == [
        "Networks without are within a point of their best at learning rate 0.001.",
        "Best without: 96.00 ± 0.10 % of the test digits right, at learning rate 0.001 (3 seeds).",
    ]
    assert not any("BN" in line for line in told)


def test_the_file_has_question_sentences_and_how(made_up: MadeUp) -> None:
    asked = GRID | {"question": "Which rates work?", "source": "Somebody (2015)."}
    study = made_up(asked, one_axis)
    write_findings(study)
    text = (study.path / "findings.md").read_text()
    for part in ("# made-up", "Which rates work?", "Somebody (2015).", *findings(study)):
        assert part in text
    for line in about(study):
        assert line in text
    assert "24 networks, 3 seeds each" in text
    assert "learning rate 0.001, 0.01, 0.1, 1." in text
    assert "paired t" in text


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_pairs_for_an_interval_are_said_to_be(made_up: MadeUp, seeds: int) -> None:
    told = findings(made_up(GRID | {"seeds": seeds}, one_axis))
    pairs = "1 pair" if seeds == 1 else "2 pairs"
    assert any(f"({pairs}: too few for an interval)" in line for line in told)
    assert not any("interval includes" in line for line in told)
