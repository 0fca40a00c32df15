"""A comparison is fair and complete, whether of one pair or of many seeds."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sample_runs import quick_training, run_record, write_run

from kerasbn import runs
from kerasbn.common.errors import ArgumentError, InputError
from kerasbn.common.folders import NewFolder
from kerasbn.data.datasets import Dataset
from kerasbn.experiments import compare as module
from kerasbn.experiments.compare import compare
from kerasbn.experiments.comparison import KINDS, Comparison
from kerasbn.experiments.train import TrainingJob

Compared = tuple[Path, Comparison]

SMALL: dict[str, Any] = {"hidden": (12, 9), "epochs": 2, "seed": 4}
WILD: dict[str, Any] = {"init": "normal:1", "activation": "linear", "optimizer": "sgd", "epochs": 2}


@pytest.fixture(scope="module")
def compared(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three pairs, trained in groups of at most two."""
    root = tmp_path_factory.mktemp("seeds")
    with quick_training(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAIRS_AT_ONCE", 2)
        return compare(few_digits, seeds=3, root=root, **SMALL)


@pytest.mark.slow
def test_one_pair_is_two_runs_and_a_folder(comparison: Compared) -> None:
    root, _ = comparison
    assert sorted(path.name for path in root.iterdir()) == ["bn", "compare", "plain"]
    files = sorted(path.name for path in (root / "compare").iterdir())
    assert files == ["compare.csv", "compare.json", "compare.png", "examples.npz"]
    for name in ("bn", "plain"):
        files = sorted(path.name for path in (root / name).iterdir())
        assert files == ["curves.png", "history.csv", "model.keras", "run.json"]


@pytest.mark.slow
def test_several_seeds_are_one_folder(compared: Comparison) -> None:
    assert compared.path is not None
    assert compared.path.name == "compare"
    members = [f"{kind}-seed-{seed}" for kind in ("bn", "plain") for seed in (4, 5, 6)]
    files = ["compare.csv", "compare.json", "compare.png", "examples.npz"]
    assert sorted(path.name for path in compared.path.iterdir()) == sorted([*members, *files])
    assert [path.name for path in compared.path.parent.iterdir()] == ["compare"]


@pytest.mark.slow
def test_the_newest_run_is_the_one_with_bn(comparison: Compared) -> None:
    root, _ = comparison
    assert runs.find_model(None, root) == root / "bn" / "model.keras"


@pytest.mark.slow
def test_the_kept_models_score_as_recorded(comparison: Compared, sample_digits: Dataset) -> None:
    _, result = comparison
    for run in result.probed_runs:
        model = keras.models.load_model(run.model_path)
        loss, accuracy = model.evaluate(
            sample_digits.test.images, sample_digits.test.labels, verbose=0
        )
        assert loss == pytest.approx(run.record.final["val_loss"], rel=1e-5)
        assert accuracy == pytest.approx(run.record.final["val_accuracy"], abs=1e-7)
        assert accuracy > 0.85


@pytest.mark.slow
def test_moving_statistics_were_updated(comparison: Compared) -> None:
    _, result = comparison
    layer = keras.models.load_model(result.probed_runs[0].model_path).get_layer("bn_1")
    assert np.abs(np.asarray(layer.moving_mean)).max() > 0.1
    assert np.abs(np.asarray(layer.moving_variance) - 1).max() > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_pair_is_what_its_seed_alone_gives(
    compared: Comparison, few_digits: Dataset, tmp_path: Path
) -> None:
    alone = compare(few_digits, root=tmp_path, **SMALL | {"seed": 5})
    for kind in KINDS:
        mine, theirs = compared.of(kind)[1], alone.of(kind)[0]
        assert mine.training == theirs.training
        assert mine.training.seed == 5
        for metric in ("loss", "val_loss"):
            # In float32, after 40 steps; other kernels or batches differ in the first digit.
            np.testing.assert_allclose(mine.history[metric], theirs.history[metric], rtol=1e-3)
        assert mine.run is not None
        assert theirs.run is not None
        one, other = (keras.models.load_model(each.run.model_path) for each in (mine, theirs))  # type: ignore[union-attr]
        for weight, same in zip(one.weights, other.weights, strict=True):
            assert weight.path == same.path
            np.testing.assert_allclose(weight, same, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_a_run_of_a_seed_is_a_plain_model(compared: Comparison, few_digits: Dataset) -> None:
    assert compared.path is not None
    path = compared.path / "plain-seed-6"
    model = keras.models.load_model(runs.find_model(str(path)))
    loss, accuracy = model.evaluate(few_digits.test.images, few_digits.test.labels, verbose=0)
    final = runs.read_run(path).record.final
    assert loss == pytest.approx(final["val_loss"], rel=1e-5)
    assert accuracy == pytest.approx(final["val_accuracy"], abs=1e-7)
    assert [layer.name for layer in model.layers][-3:] == ["dense_2", "relu_2", "logits"]


def test_names_are_numbered_or_requested(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_runs(
        jobs: list[TrainingJob], folders: list[NewFolder], *_: object, **__: object
    ) -> None:
        """Write the runs that training would."""
        for job, folder in zip(jobs, folders, strict=True):
            record = run_record(model=job.model, training=job.training)
            run = write_run(tmp_path / "elsewhere", folder.name, record)
            shutil.copytree(run.path, folder.path, dirs_exist_ok=True)
            shutil.rmtree(run.path.parent)

    monkeypatch.setattr(module, "train_in_folders", write_runs)
    monkeypatch.setattr(module, "save_figure", lambda *_: None)
    for name in (None, None, "mine"):
        last = compare(few_digits, steps=3, run=name, root=tmp_path)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [
        "bn", "bn-2", "compare", "compare-2",
        "mine-bn", "mine-compare", "mine-plain", "plain", "plain-2",
    ]  # fmt: skip
    assert [run.name for run in last.probed_runs] == ["mine-bn", "mine-plain"]
    with pytest.raises(InputError, match=r"mine-bn.*--force"):
        compare(few_digits, steps=3, run="mine", root=tmp_path)
    again = compare(few_digits, steps=4, run="mine", force=True, root=tmp_path)
    assert again.with_bn[0].training.steps == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == found
    record = json.loads((tmp_path / "compare-2" / "compare.json").read_text())
    assert [record[kind][0]["run"] for kind in KINDS] == ["../bn-2", "../plain-2"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_some_models_diverge_and_the_others_go_on(few_digits: Dataset, tmp_path: Path) -> None:
    settings = WILD | {"lr": 0.3, "hidden": (12, 9)}
    result = compare(few_digits, seeds=2, root=tmp_path, run="wild", **settings)
    assert result.path == tmp_path / "wild"
    assert result.diverged() == {"with_bn": [], "without_bn": [0, 1]}
    result.check_ending()
    assert all(member.history["epoch"] == [1, 2] for member in result.with_bn)
    assert all(1 <= (member.diverged_at_step or 0) <= 40 for member in result.without_bn)
    assert "without (2 of 2 diverged: seeds 0 and 1)" in result.summary()
    assert not (result.path / "plain-seed-0" / "model.keras").exists()
    with pytest.raises(InputError, match="--force"):
        compare(few_digits, seeds=2, root=tmp_path, run="wild", **settings)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"seeds": 0}, r"seeds=0: received 0, expected a whole number from 1 to 1,000"),
        ({"seeds": 1001}, "seeds=1001"),
        ({"epoch": 3}, r"'epoch' as a setting.*did you mean 'epochs'\?"),
        ({"lr": "fast"}, "lr='fast': received 'fast', expected a finite number above 0"),
        ({"bn": False}, "bn: received it as a setting"),
        ({"data": [1, 2]}, r"data=\[1, 2\]: received a list, expected a kerasbn.Dataset"),
        ({"run": "../up"}, "run='../up': received '../up', expected letters"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    few_digits: Dataset, tmp_path: Path, arguments: dict[str, Any], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        compare(**{"data": few_digits, "root": tmp_path, **arguments})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_result_reads_well(compared: Comparison) -> None:
    assert repr(compared).startswith("<Comparison compare: Test accuracy: ")
    assert "3 pairs)>" in repr(compared)
    assert len(compared.history["seed"]) == 3 * 2 * 2
    assert set(compared.history["seed"]) == {4, 5, 6}
    assert "data:image/png;base64," in compared._repr_html_()


def test_errors_name_the_argument_or_the_option() -> None:
    with pytest.raises(ArgumentError) as error:
        compare(seeds=0)
    assert error.value.for_command_line().startswith("--seeds 0: received '0', expected a whole")
