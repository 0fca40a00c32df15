"""Every figure in a finding is computed from the study; diverged trials are in no mean."""

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from markdown_it import MarkdownIt
from scipy.stats import ttest_1samp
from simulated_studies import EQUAL, STUDIES, simulate

from kerasbn.sweeps.findings import (
    answer_and_details,
    findings,
    method,
    values_text,
    write_findings,
)
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.study_data import Outcome
from kerasbn.sweeps.summaries import summarize
from kerasbn.sweeps.trials import Trial

MadeUp = Callable[[Mapping[str, Any], Callable[[Trial, int], float | str | None]], Study]

RATES = [0.001, 0.01, 0.1, 1.0]
GRID = {"seeds": 3, "options": {"epochs": 3}, "axes": {"lr": RATES}}
WITH = dict(zip(RATES, (0.95, 0.97, 0.965, 0.7), strict=True))
WITHOUT = dict(zip(RATES, (0.96, 0.93, 0.1, 0.9), strict=True))


def one_axis(trial: Trial, _: int) -> float | None:
    """At 1 without BN two of three seeds diverge, the third does well."""
    lr = trial.training.lr
    if lr == 1.0 and not trial.bn and trial.seed > 0:
        return None
    mean = (WITH if trial.bn else WITHOUT)[lr]
    return mean + (trial.seed - 1) * (0.003 if trial.bn else 0.001)


def test_one_axis(made_up: MadeUp) -> None:
    found = findings(made_up(GRID, one_axis))
    assert found[0] == (
        "With BN, learning rates 0.01 and 0.1 come within one point of the best. Without BN, only "
        "0.001 does."
    )
    # At 1 only one pair is left, too few for an interval.
    gain = ttest_1samp([0.863, 0.865, 0.867], 0).confidence_interval(0.95)
    assert found[1] == (
        "BN helps at learning rates 0.01 and 0.1, most at learning rate 0.1: +86.50 points (95% "
        f"interval {100 * gain.low:.2f} to {100 * gain.high:.2f}, 3 pairs)."
    )
    assert found[2].startswith("BN hurts at learning rate 0.001: -1.00 points (95% interval ")
    assert found[3] == (
        "Best test accuracy: with BN 97.00 ± 0.30% at learning rate 0.01; without BN 96.00 ± 0.10% "
        "at learning rate 0.001."
    )
    assert found[4] == (
        "Difference of the best, with BN minus without: +1.00 points (without an interval, since "
        "these results also chose the best)."
    )
    assert found[5:] == [
        "Without BN, 2 of 12 trials diverged.",
        "Without BN, learning rates 0.1 and 1 fail (test accuracy below 20%, or most seeds "
        "diverged).",
    ]


def test_a_configuration_in_which_a_seed_diverged_is_never_the_best(made_up: MadeUp) -> None:
    def lucky(trial: Trial, epoch: int) -> float | None:
        """Two of three seeds diverge at 1; the third is better than all others."""
        if trial.training.lr == 1.0 and trial.seed == 2:
            return 0.999
        return None if trial.training.lr == 1.0 else one_axis(trial, epoch)

    found = findings(made_up(GRID, lucky))
    assert any(line.startswith("Best test accuracy: with BN 97.00") for line in found)
    assert not any("99.90" in line for line in found)


def test_without_axes_the_speed_is_reported(made_up: MadeUp) -> None:
    def over_steps(trial: Trial, epoch: int) -> float:
        return {True: (0.8, 0.93, 0.97), False: (0.5, 0.9, 0.92)}[trial.bn][epoch - 1]

    assert findings(made_up({"seeds": 2, "options": {"hidden": "8"}}, over_steps)) == [
        "Test accuracy: with BN 97.00 ± 0.00%; without BN 92.00 ± 0.00%.",
        "Difference: +5.00 points (2 pairs, an interval needs 3).",
        "BN reaches 92.00% after 200 steps. Without it, that takes 300 steps and is the best it "
        "gets.",
        "No trial diverged.",
    ]


def test_two_axes_have_a_finding_per_value(made_up: MadeUp) -> None:
    grid = GRID | {"axes": {"activation": ["relu", "tanh"], "lr": RATES}}
    found = findings(made_up(grid, one_axis))
    for line, name in zip(found, ("relu", "tanh"), strict=False):
        assert line == (
            f"Activation {name}: with BN, learning rates 0.01 and 0.1 come within one point of the "
            "best. Without BN, only 0.001 does."
        )
    assert found[2].startswith("BN helps in 4 of 6 combinations, most at ")
    assert found[3].startswith("BN hurts in 2 of 6 combinations, most at ")


def test_the_answer_is_short_and_comes_first(made_up: MadeUp) -> None:
    grid = GRID | {"axes": {"activation": ["relu", "tanh", "elu", "silu"], "lr": RATES}}
    study = made_up(grid, one_axis)
    found = findings(study)
    assert found[:1] == answer_and_details(study)[0]
    assert found[0] == (
        "With BN, 16 of 16 combinations learn; without BN, 8 do (the others fail: test accuracy "
        "below 20%, or most seeds diverged)."
    )
    assert sum("within one point" in line for line in found) == 4
    assert len(set(found)) == len(found)


def test_the_answer_of_a_sample_is_the_best(made_up: MadeUp) -> None:
    grid = {"sample": 9, "axes": {"lr": {"log": [0.001, 1]}, "batch_size": [8, 16]}}
    study = made_up(grid, lambda trial, _: 0.9 - abs(trial.training.lr - 0.1) + 0.05 * trial.bn)
    assert [line.split(":")[0] for line in answer_and_details(study)[0]] == [
        "Best test accuracy", "Difference of the best, with BN minus without",
    ]  # fmt: skip
    (near,) = [line for line in findings(study) if "within one point" in line]
    assert near.startswith("With BN, ")
    assert " of 9 combinations come" in near


@pytest.mark.parametrize("accuracy", [0.1, None])
def test_what_fails_everywhere_has_no_best(accuracy: float | None, made_up: MadeUp) -> None:
    def hopeless(trial: Trial, epoch: int) -> float | None:
        """Without BN and with tanh, models guess, or diverge."""
        fails = not trial.bn and trial.model.activation == "tanh"
        return accuracy if fails else one_axis(trial, epoch)

    grid = GRID | {"axes": {"activation": ["relu", "tanh"], "lr": RATES}}
    assert findings(made_up(grid, hopeless))[1] == (
        "Activation tanh: with BN, learning rates 0.01 and 0.1 come within one point of the best. "
        "Without BN, all fail."
    )


def test_gaps_between_values_are_reported(made_up: MadeUp) -> None:
    def gap(trial: Trial, _: int) -> float:
        return 0.5 if trial.training.lr == 0.01 else 0.9

    rates = [*RATES, 10.0]
    assert findings(made_up(GRID | {"axes": {"lr": rates}}, gap))[0] == (
        "With BN, learning rates 0.001 and 0.1 to 10 come within one point of the best. Without "
        "BN, 0.001 and 0.1 to 10 do."
    )


def test_categories_are_listed_and_not_given_as_ranges() -> None:
    names = ["relu", "tanh", "elu", "silu"]
    assert values_text("activation", names, [True, True, True, False]) == (
        "activations relu, tanh and elu"
    )
    assert values_text("bn_position", ["before", "after"], [True, True]) == (
        "BN positions before and after"
    )
    assert values_text("lr", RATES, [True, True, True, False], named=False) == "0.001 to 0.1"
    assert values_text("lr", RATES, [True] * 4) == "all learning rates"
    assert values_text("hidden", [(8,), (8, 8), (8, 8, 8)], [True, False, False]) == (
        "hidden layers 8"
    )
    assert values_text("lr", RATES, [False] * 4) == "no learning rate"


def test_failed_and_missing_trials_are_reported(made_up: MadeUp) -> None:
    def failing(trial: Trial, epoch: int) -> float | str | None:
        return "MemoryError: too large" if trial.training.lr == 0.1 else one_axis(trial, epoch)

    study = made_up(GRID, failing)
    assert "6 trials could not be trained (MemoryError: too large)." in findings(study)
    assert not any("rate 0.1 " in line and "Best" in line for line in findings(study))
    kept = {name: each for name, each in study.outcomes.items() if not name.startswith("lr-1_")}
    assert "6 trials are not trained yet." in findings(replace(study, outcomes=kept))
    assert findings(replace(study, outcomes={})) == ["24 trials are not trained yet."]


def test_a_study_of_one_kind_does_not_mention_the_other(made_up: MadeUp) -> None:
    found = findings(made_up(GRID | {"options": {"bn": False}}, one_axis))
    assert found[:2] == [
        "Without BN, only learning rate 0.001 comes within one point of the best.",
        "Best test accuracy: without BN 96.00 ± 0.10% at learning rate 0.001.",
    ]
    assert not any("with bn" in line.lower() for line in found)


def test_the_file_has_the_question_the_findings_and_the_method(made_up: MadeUp) -> None:
    about = GRID | {"question": "Which rates work?", "source": "An author (2015)."}
    study = made_up(about, one_axis)
    write_findings(study)
    text = (study.path / "findings.md").read_text()
    for part in ("# made-up", "Which rates work?", "An author (2015).", *findings(study)):
        assert part in text
    for line in method(study):
        assert line in text
    assert "24 trials, 3 seeds each" in text
    assert "learning rate 0.001, 0.01, 0.1, 1." in text
    assert "paired t" in text


def test_the_file_has_the_command_that_reproduces_it(made_up: MadeUp) -> None:
    study = made_up(GRID, one_axis)
    command = "kerasbn sweep x --dataset mnist --data-dir mnist"
    write_findings(replace(study, record=replace(study.record, command=command)))
    text = (study.path / "findings.md").read_text()
    assert f"```sh\n{command}\n```" in text
    command = "kerasbn sweep ```` --data-dir mnist"
    write_findings(replace(study, record=replace(study.record, command=command)))
    text = (study.path / "findings.md").read_text()
    assert f"\n`````sh\n{command}\n`````" in text  # which no backticks of the command close
    assert "Replace the folder after `--data-dir`" in text


def test_text_in_the_file_is_no_markdown(made_up: MadeUp) -> None:
    hostile = "# **x**|[a](b)\n\n<script>\x1b\u202e"
    study = made_up(GRID | {"question": hostile, "source": f"1. {hostile}"}, lambda *_: hostile)
    study = replace(study, grid=replace(study.grid, name=hostile))
    write_findings(replace(study, record=replace(study.record, command=hostile)))
    text = (study.path / "findings.md").read_text()
    shown = html.unescape(MarkdownIt("commonmark").render(text))
    line = r"# **x**|[a](b) <script>\x1b\u202e"
    for element in (f"<h1>{line}</h1>", f"<p>{line}</p>", f"<p>1. {line}</p>"):
        assert element in shown
    assert f"could not be trained ({line})." in shown
    assert "```sh\n# **x**|[a](b)\\n\\n<script>\\x1b\\u202e\n```" in text


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_pairs_for_an_interval(made_up: MadeUp, seeds: int) -> None:
    found = findings(made_up(GRID | {"seeds": seeds}, one_axis))
    assert "No combination has the 3 pairs that an interval needs." in found
    assert not any("95% interval" in line for line in found)


@pytest.mark.slow
def test_a_difference_that_is_none_is_found_in_5_of_100_comparisons(made_up: MadeUp) -> None:
    """Each of four combinations is a comparison; `method` says that the rate is that of one."""
    axes = {"activation": ["relu", "tanh"], "lr": [0.01, 0.1]}
    seeds = 3
    study = made_up(GRID | {"seeds": seeds, "axes": axes}, lambda trial, _: 0.9)
    configurations = [each.configuration for each in summarize(study)]
    calls = 0
    with_bn, without_bn = simulate(EQUAL["normal"], seeds)
    for start in range(0, STUDIES, 4):
        accuracies = {
            True: with_bn[start : start + 4].tolist(),
            False: without_bn[start : start + 4].tolist(),
        }
        outcomes = {
            trial.name: Outcome(
                "finished", 3, 300, None, 0.1, 0.1, 0.1,
                accuracies[trial.bn][configurations.index(trial.configuration)][trial.seed], "f",
            )
            for trial in study.trials
        }  # fmt: skip
        found = " ".join(findings(replace(study, outcomes=outcomes)))
        calls += sum(map(int, re.findall(r"BN (?:helps|hurts) in (\d) of", found)))
    assert 0 < calls <= 0.06 * STUDIES
    assert "Each of the 4 intervals is a 95% interval by itself" in " ".join(method(study))
