"""What was recorded is read as it was written, and the sentences say what the figures say."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_runs import run_record

from kerasbn.errors import InputError
from kerasbn.experiments.comparison import Comparison
from kerasbn.probes.findings import findings, findings_of
from kerasbn.probes.readings import NETWORK, Probes, Series, read_probes, write_probes
from kerasbn.runs import Run

ABOUT: dict[str, Any] = {
    "step_sizes": [0.1, 0.4],
    "layers": [
        {"dense": "dense_1", "normalization": "bn_1", "activation": "relu_1", "typical_unit": 0},
        {"dense": "logits", "normalization": None, "activation": None, "typical_unit": 0},
    ],
}
PLAIN = ABOUT | {"layers": [{**each, "normalization": None} for each in ABOUT["layers"]]}


def made(bn: bool, values: dict[tuple[str, str, str], list[float]], mates: object = ()) -> Probes:
    readings = {
        key: Series(np.arange(len(each), dtype=float), np.array(each))
        for key, each in values.items()
    }
    about = (ABOUT if bn else PLAIN) | {"batch_mates": mates}
    return Probes(Run(Path("bn" if bn else "plain"), run_record()), about, readings)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    readings = [
        (0, "network", "loss", "", 2.5),
        (0, "dense_1", "percentile", "15", -1.25),
        (10, "network", "loss", "", float("nan")),
    ]
    write_probes(tmp_path, readings, ABOUT, [{"statistics": "moving", "largest": 0.0}])
    found = read_probes(Run(tmp_path, run_record()))
    assert found.series(NETWORK, "loss").steps.tolist() == [0, 10]
    assert found.series("dense_1", "percentile", 15).values.tolist() == [-1.25]
    assert found.series(NETWORK, "loss").last() == 2.5
    assert np.isnan(found.series("dense_1", "percentile", 50).median())
    assert found.layers == ["dense_1", "logits"]
    assert found.normalizations == ["bn_1"]
    assert found.about["batch_mates"] == [{"statistics": "moving", "largest": 0.0}]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("probes.csv", "step,layer\n1,dense_1\n"),
        ("probes.csv", "step,layer,quantity,which,value\n1,network,loss,,soon\n"),
        ("probes.json", "{"),
        ("probes.json", "{}"),
        ("probes.json", "[]"),
        ("probes.json", '{"layers": [{}], "step_sizes": [1]}'),
        ("probes.json", None),
    ],
)
def test_damaged_probes_are_one_line(file: str, text: str | None, tmp_path: Path) -> None:
    write_probes(tmp_path, [(0, "network", "loss", "", 2.5)], ABOUT, [])
    (tmp_path / file).unlink()
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match="damaged probes") as error:
        read_probes(Run(tmp_path, run_record()))
    assert "\n" not in str(error.value)


def test_a_run_without_probes_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without probes\.csv, expected one that was probed"):
        read_probes(Run(tmp_path, run_record()))
    assert findings_of([Run(tmp_path, run_record())]) == []


def test_gradients_are_told_to_vanish_where_they_do() -> None:
    def network(bn: bool, first: float) -> Probes:
        return made(bn, {
            ("dense_1", "kernel_gradient", ""): [first, first, float("nan")],
            ("logits", "kernel_gradient", ""): [2.0, 1.0, float("nan")],
        })  # fmt: skip

    told = findings([network(True, 1.0), network(False, 0.001)])["gradients"]
    assert "0.5 times with BN" in told
    assert "5e-04" not in told
    assert "0.0005 times without BN" in told
    assert "without BN it vanishes" in told
    assert "with BN it" not in told
    assert "explodes" in findings([network(False, 300.0)])["gradients"]


@pytest.mark.parametrize(
    ("shift", "inputs", "verdict"),
    [
        (0.1, 0.1, "by both measures batch normalization reduced it here"),
        (0.9, 0.9, "by neither measure did batch normalization reduce it here"),
        (0.1, 0.9, "by the first measure batch normalization reduced it here, by the second it "),
        (0.9, 0.1, "by the second measure batch normalization reduced it here, by the first it "),
    ],
)
def test_the_verdict_on_covariate_shift_is_the_datas(
    shift: float, inputs: float, verdict: str
) -> None:
    pair = [
        made(bn, {("logits", "shift_relative", ""): [a], ("logits", "input_mean_drift", ""): [b]})
        for bn, a, b in ((True, shift, inputs), (False, 0.5, 0.5))
    ]
    told = findings(pair)["drift"]
    assert verdict in told
    assert f"{100 * shift:g} % of its length with BN and 50 % without BN (the measure" in told
    assert verdict not in findings(pair[:1])["drift"]


@pytest.mark.parametrize("rough", [1.0, 9.0])
def test_the_verdict_on_the_landscape_is_the_datas(rough: float) -> None:
    pair = [
        made(bn, {
            (NETWORK, "smoothness", ""): [beta], (NETWORK, "gradient", ""): [length],
            (NETWORK, "change", "0.4"): [length / 4],
        })
        for bn, beta, length in ((True, rough, 2.0), (False, 3.0, 0.2))
    ]  # fmt: skip
    told = findings(pair)["landscape"]
    assert "changes the gradient by 25 % of its length with BN" in told
    assert ("smoother with BN" in told) == (rough < 3)
    assert ("also flat: 0.1 times" in told) == (rough > 3)


def test_shares_read_well_of_one_network_and_of_two() -> None:
    first = made(
        True, {("dense_1", "dead", ""): [0.5, 0.25], ("logits", "shift_relative", ""): [12]}
    )
    second = made(False, {("dense_1", "dead", ""): [0.1], ("logits", "shift_relative", ""): [0.2]})
    told = findings([first])
    assert told["activations"] == (
        "Activations: at the end 25 % of the ReLUs with BN are dead: 0 for every probing digit."
    )
    assert "changes by 12 times its length with BN (" in told["drift"]
    both = findings([first, second])
    assert " 25 % of the ReLUs with BN and 10 % without BN are dead" in both["activations"]
    assert " 12 times its length with BN and 20 % without BN (" in both["drift"]


def test_a_range_of_one_layer_is_one_figure() -> None:
    one = made(True, {("dense_1", "preactivation_sd", ""): [3.0, 1.0]})
    two = made(False, {("dense_1", "preactivation_sd", ""): [2.0]})
    assert findings([one, two])["preactivations"] == (
        "Pre-activations: at the end their standard deviation within a layer is 1 with BN and 2 "
        "without BN."
    )


def test_a_network_without_normalization_says_so() -> None:
    told = findings([made(False, {})])
    assert "there is no normalization" in told["statistics"]
    assert "gamma-beta" not in told


def test_the_sentences_of_a_real_pair(looked_into: tuple[Path, Comparison]) -> None:
    _, comparison = looked_into
    told = findings([read_probes(run) for run in comparison.probed_runs])
    assert comparison.findings() == list(told.values())
    assert not any("nan" in line or "not measurable" in line for line in told.values()), told
    assert not any("\n" in line for line in told.values())
    with_bn = read_probes(comparison.probed_runs[0])
    outside = with_bn.over(with_bn.normalizations, "outside").median()
    assert re.search(
        rf"{100 * outside:.0f} % of the normalized values are outside", told["statistics"]
    )
    rows = json.loads((comparison.probed_runs[0].path / "probes.json").read_text())["batch_mates"]
    alone = next(r for r in rows if (r["statistics"], r["batch_size"]) == ("batch", 1))
    assert f"{100 * alone['accuracy']:.1f} % at 1," in told["batch-mates"]
    assert alone["accuracy"] < 0.3
    moving = next(r for r in rows if r["statistics"] == "moving")
    assert moving["accuracy"] == pytest.approx(
        comparison.probed_runs[0].record.final["val_accuracy"], abs=1e-6
    )


def test_two_networks_of_one_kind_are_called_by_their_runs(
    looked_into: tuple[Path, Comparison], tmp_path: Path
) -> None:
    _, comparison = looked_into
    other = tmp_path / "another"
    shutil.copytree(comparison.probed_runs[0].path, other)
    pair = [
        read_probes(comparison.probed_runs[0]),
        read_probes(Run(other, comparison.probed_runs[0].record)),
    ]
    told = findings(pair)
    assert "times bn " in told["gradients"]
    assert "times another " in told["gradients"]
    assert "measure batch normalization" not in told["drift"]
