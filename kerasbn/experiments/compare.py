"""The comparison: one network with and without batch normalization, on the same batches."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerasbn import runs
from kerasbn.data.datasets import Dataset
from kerasbn.experiments import curves
from kerasbn.experiments.train import member, train
from kerasbn.files import new_folder
from kerasbn.plotting import draw_curves, save_figure
from kerasbn.probes.charts import save_pictures
from kerasbn.probes.findings import findings_of
from kerasbn.training.settings import ModelSettings, TrainingSettings

RECORD, PICTURE = "compare.json", "compare.png"


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        path: the folder with `compare.json` and `compare.png`.
        with_bn: the run with batch normalization.
        without_bn: the run without.
    """

    path: Path
    with_bn: runs.Run
    without_bn: runs.Run

    def summary(self) -> str:
        """One line: both accuracies on the test set, and the difference in percentage points."""
        words = [_in_words(run) for run in (self.with_bn, self.without_bn)]
        line = f"test accuracy {words[0]} with BN, {words[1]} without"
        difference = difference_in_points(self.with_bn, self.without_bn)
        return line if difference is None else f"{line}: {difference:+.2f} points"

    def findings(self) -> list[str]:
        """What the probes found, a sentence each; none if there were no probes."""
        return findings_of([self.with_bn, self.without_bn])


def check_ending(comparison: Comparison) -> None:
    """Raise if it did not end as planned; one network that diverged is a result.

    Raises:
        CheckFailedError: if both networks diverged.
        StoppedError: if Ctrl-C ended it.
    """
    pair = (comparison.with_bn, comparison.without_bn)
    if all(run.status == "diverged" for run in pair) or "interrupted" in {
        run.status for run in pair
    }:
        for run in pair:
            curves.check_ending(run)


def compare(
    network: ModelSettings,
    digits: Dataset,
    training: TrainingSettings,
    *,
    device: str = "auto",
    name: str | None = None,
    force: bool = False,
    tensorboard: bool = False,
    quiet: bool = False,
    probe: bool = False,
    root: Path = runs.ROOT,
) -> Comparison:
    """Train `network` with and without normalization side by side, and compare them.

    Two runs, `bn` and `plain`, and a folder `compare` with the picture of both and their figures;
    with a name they are called NAME-bn, NAME-plain and NAME-compare. A network that diverges is
    marked so and the other goes on.

    Args: as in `experiment.train`; whether `network` itself says ``bn`` does not matter. With
        `probe` what happens inside both is recorded and drawn.

    Raises:
        InputError: if something given cannot be used, before anything is trained.
    """
    names = runs.pair_names(name)
    runs.check_pair_names(name, force=force, root=root)
    members = [
        member(replace(network, bn=True), names["bn"], probe=probe),
        member(replace(network, bn=False), names["plain"], probe=probe),
    ]
    pair = train(
        members,
        digits,
        training,
        device=device,
        force=force,
        tensorboard=tensorboard,
        quiet=quiet,
        root=root,
    )
    with_bn, without_bn = pair
    place = names["compare"] or "compare"
    with new_folder(root, place, numbered=name is None, replace=force) as folder:
        result = Comparison(folder.path, with_bn, without_bn)
        runs.write_record(folder.path, record_of(result), RECORD)
        figure = draw_curves(
            [curves.curve_of(run) for run in pair], curves.title_of(with_bn), digits.note
        )
        save_figure(figure, folder.path / PICTURE)
        if probe:
            save_pictures(pair, folder.path)
    assert folder.placed is not None
    return replace(result, path=folder.placed)


def record_of(result: Comparison) -> dict[str, Any]:
    """What compare.json holds: the two runs, what they share, and their figures by epoch."""
    with_bn, without_bn = result.with_bn, result.without_bn
    pair = {"with_bn": with_bn, "without_bn": without_bn}
    return {
        "runs": {key: run.name for key, run in pair.items()},
        "status": {key: run.status for key, run in pair.items()},
        **{key: with_bn.record[key] for key in ("network", "training", "data", "device")},
        "history": {key: run.history for key, run in pair.items()},
        "final": {key: run.record["final"] for key, run in pair.items()},
        "difference_in_points": difference_in_points(with_bn, without_bn),
    }


def difference_in_points(with_bn: runs.Run, without_bn: runs.Run) -> float | None:
    """How many percentage points of test accuracy normalization brought; None if one diverged."""
    if "diverged" in (with_bn.status, without_bn.status):
        return None
    finals = [run.record["final"].get("val_accuracy") for run in (with_bn, without_bn)]
    return None if None in finals else 100 * (finals[0] - finals[1])


def _in_words(run: runs.Run) -> str:
    if run.status == "diverged":
        return f"diverged (at step {run.record['diverged_at_step']})"
    accuracy = run.record["final"].get("val_accuracy")
    return "not measured" if accuracy is None else f"{accuracy:.2%}"
