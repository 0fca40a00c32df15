"""Findings say what the data says, for one run or two, whatever happened."""

import numpy as np
import pytest

from kerasbn.probes.readings import (
    MODEL,
    BatchResult,
    LayerNames,
    ProbedRun,
    ProbeRecord,
    Series,
)
from kerasbn.probes.topics import TOPICS
from kerasbn.probes.topics.activations import Inactive
from kerasbn.probes.topics.topic import Finding, Landscape, LayerSnapshot, Snapshot

INF, NAN = float("inf"), float("nan")


def run(
    bn: bool,
    values: dict[tuple[str, str, str], list[float]],
    results: tuple[BatchResult, ...] = (),
    name: str = "",
) -> ProbedRun:
    layers = (LayerNames("dense_1", "bn_1" if bn else None), LayerNames("logits"))
    record = ProbeRecord(100, 3, 32, (0.1, 0.4), layers, results)
    readings = {
        key: Series(np.arange(len(each), dtype=float), np.array(each, dtype=float))
        for key, each in values.items()
    }
    return ProbedRun(name or ("bn" if bn else "plain"), record, readings)


def findings_by_topic(*runs: ProbedRun) -> dict[str, Finding]:
    found = [topic().describe(runs) for topic in TOPICS]
    return {finding.topic: finding for finding in found if finding}


def with_gradients(bn: bool, first: list[float], last: list[float], name: str = "") -> ProbedRun:
    kernels = {
        ("dense_1", "kernel_gradient", ""): first,
        ("logits", "kernel_gradient", ""): last,
    }
    return run(bn, kernels, name=name)


def test_vanishing_gradients() -> None:
    pair = with_gradients(True, [1, NAN], [1.5, NAN]), with_gradients(False, [2e-5, 1], [1, 1])
    finding = findings_by_topic(*pair)["gradients"]
    assert finding.title == "Vanishing gradients"
    assert finding.claim == (
        "Without BN, the first layer's gradient starts 50,000 times smaller than the last layer's. "
        "With BN, the two start about equal."
    )


def test_exploding_gradients() -> None:
    finding = findings_by_topic(with_gradients(False, [3e9], [1]))["gradients"]
    assert finding.title == "Exploding gradients"
    assert "starts 10⁹ times larger" in finding.claim


@pytest.mark.parametrize(
    ("gradients", "words"),
    [
        ([1, 1e19, NAN], "and the first layer's reaches 10¹⁹ by step 1."),
        ([1, INF], "and the first layer's overflows float32 by step 1."),
    ],
)
def test_gradients_that_explode_during_training(gradients: list[float], words: str) -> None:
    finding = findings_by_topic(with_gradients(False, gradients, [1, INF, NAN]))["gradients"]
    assert finding.title == "Exploding gradients"
    assert finding.claim.endswith(words.replace("10¹⁹", "1.0·10¹⁹"))


def test_pre_activation_gradients_tell_of_explosion_where_kernels_hide_it() -> None:
    values = {
        ("dense_1", "kernel_gradient", ""): [1.0],
        ("logits", "kernel_gradient", ""): [2.0],
        ("dense_1", "preactivation_gradient", ""): [30_000.0],
        ("logits", "preactivation_gradient", ""): [1.0],
    }
    finding = findings_by_topic(run(False, values))["gradients"]
    assert finding.title == "Exploding gradients"
    assert "pre-activation gradient starts 30,000 times larger" in finding.claim


def test_ordinary_zero_and_missing_gradients() -> None:
    assert findings_by_topic(with_gradients(True, [3], [1]))["gradients"].title == "Gradients"
    assert (
        "is zero at the start"
        in findings_by_topic(with_gradients(False, [0], [1]))["gradients"].claim
    )
    assert "gradients" not in findings_by_topic(with_gradients(True, [NAN], [NAN]))
    assert "gradients" not in findings_by_topic(run(True, {}))


@pytest.mark.parametrize(("shift", "inputs"), [(0.1, 0.1), (0.9, 0.9), (0.1, 0.9), (0.9, 0.1)])
def test_the_verdict_on_covariate_shift_follows_the_data(shift: float, inputs: float) -> None:
    pair = [
        run(bn, {("logits", "shift_relative", ""): [a], ("logits", "input_mean_drift", ""): [b]})
        for bn, a, b in ((True, shift, inputs), (False, 0.5, 0.5))
    ]
    verdict = {True: ": BN reduces it.", False: ": BN does not reduce it."}
    finding = findings_by_topic(*pair)["covariate-shift"]
    assert f"changes by {100 * shift:g}% with BN and 50% without BN" in finding.claim
    assert finding.claim.endswith(verdict[shift < 0.5])
    assert finding.details.endswith(verdict[inputs < 0.5])
    assert "reduce" not in findings_by_topic(pair[0])["covariate-shift"].claim


@pytest.mark.parametrize("rough", [1.0, 9.0])
def test_the_verdict_on_the_landscape_follows_the_data(rough: float) -> None:
    pair = [
        run(
            bn,
            {
                (MODEL, "smoothness", ""): [beta],
                (MODEL, "gradient", ""): [norm],
                (MODEL, "change", "0.4"): [norm / 4],
            },
        )
        for bn, beta, norm in ((True, rough, 2.0), (False, 3.0, 0.2))
    ]
    finding = findings_by_topic(*pair)["landscape"]
    assert "3 times smoother " + ("with BN" if rough < 3 else "without BN") in finding.claim
    assert ("also flat there: the gradient is 10 times smaller" in finding.claim) == (rough > 3)
    assert "changes the gradient by 25% with BN and 25% without BN" in finding.details


def test_a_relu_unit_that_is_0_for_every_example_is_dead() -> None:
    output = np.array([[0, 0, 1], [0, 2, 0]], np.float32)
    layer = LayerSnapshot("dense_1", "relu", None, output, 1.0, *[output] * 4)
    snapshot = Snapshot(0, [layer], Landscape(1.0, 1.0, {}, {}, 1.0))
    ((name, quantity, _, share),) = Inactive().measure(snapshot)
    assert (name, quantity) == ("dense_1", "dead")
    assert share == pytest.approx(1 / 3)


def test_shares_of_one_run_and_of_two() -> None:
    dead = ("dense_1", "dead", "")
    first, second = run(True, {dead: [0.5, 0.25]}), run(False, {dead: [0.1]})
    assert findings_by_topic(first)["activations"].claim == (
        "At the end, 25% of the ReLU units with BN are 0 for every example."
    )
    both = findings_by_topic(first, second)["activations"].claim
    assert "25% of the ReLU units with BN and 10% without BN are 0" in both


def test_a_range_of_one_value_is_one_number() -> None:
    sd = ("dense_1", "preactivation_sd", "")
    both = findings_by_topic(run(True, {sd: [3.0, 1.0]}), run(False, {sd: [2.0, NAN]}))
    assert both["preactivations"].claim == (
        "At the last finite probe, their standard deviation in the hidden layers is 1 with BN "
        "and 2 without BN."
    )


def test_a_model_without_bn_has_no_statistics() -> None:
    found = findings_by_topic(run(False, {}))
    assert "no BN layers" in found["statistics"].claim
    assert "gamma-beta" not in found


def test_batch_composition() -> None:
    results = tuple(
        BatchResult(statistics, size, order, accuracy, 0.0, 0.0)
        for statistics, order, accuracies in (
            ("moving", "shuffled", (0.893, 0.893, 0.893, 0.893)),
            ("batch", "shuffled", (0.1, 0.391, 0.7, 0.87)),
            ("batch", "sorted", (0.1, 0.2, 0.2, 0.2)),
        )
        for size, accuracy in zip((1, 2, 8, 64), accuracies, strict=True)
    )
    with_bn, without_bn = run(True, {}, results), run(False, {}, results[:4])
    assert findings_by_topic(with_bn)["batch-composition"].claim == (
        "With batch statistics, accuracy depends on the batch: 10.00% for single images, 39.10% in "
        "pairs and 87.00% in batches of 64. With moving statistics it is 89.30% in every case."
    )
    plain = "Without BN, predictions do not depend on the batch."
    assert findings_by_topic(without_bn)["batch-composition"].claim == plain
    assert plain in findings_by_topic(with_bn, without_bn)["batch-composition"].details


def test_batch_composition_that_makes_no_difference() -> None:
    results = tuple(
        BatchResult(statistics, size, order, 0.1, 0.0, 0.0)
        for statistics, order in (
            ("moving", "shuffled"),
            ("batch", "shuffled"),
            ("batch", "sorted"),
        )
        for size in (1, 2)
    )
    claim = findings_by_topic(run(True, {}, results))["batch-composition"].claim
    assert claim.startswith("With batch statistics, accuracy is 10.00% in batches of every size.")


@pytest.mark.parametrize("left", [("moving", "shuffled"), ("batch", "sorted")])
def test_batch_composition_of_which_a_part_is_missing(left: tuple[str, str]) -> None:
    kinds = {("moving", "shuffled"), ("batch", "shuffled"), ("batch", "sorted")} - {left}
    results = tuple(BatchResult(kind, 8, order, 0.1, 0.0, 0.0) for kind, order in sorted(kinds))
    found = findings_by_topic(run(True, {}, results))["batch-composition"]
    assert ("moving" in found.claim) == (left[0] != "moving")
    assert ("sorted by class" in found.details) == (left[1] != "sorted")


def test_two_runs_of_one_kind_are_told_apart_by_name() -> None:
    runs = (with_gradients(True, [1], [1], "one"), with_gradients(True, [5], [1], "other"))
    claim = findings_by_topic(*runs)["gradients"].claim
    assert claim.startswith("In other, the first layer's gradient starts 5 times larger")
    assert "In one, the two start about equal." in claim
