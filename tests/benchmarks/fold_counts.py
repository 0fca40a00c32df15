"""Count the BN layers that are kept in every model of keras.applications, built without weights.

    python tests/benchmarks/fold_counts.py [NAME ...] [--no-clip] [--check]

Prints a line per model: how many BN layers and scalings it has, how many are kept, and the seconds
of processor time that planning and rewriting took. With --check, also those of the check in float64
and of tf2onnx, which converts the model as it is, and the ratio of the two. Parameters are
randomized (kerasbn.folding.keras.randomize), since fresh ones would hide wrong folds.
"""

import argparse
import tempfile
from pathlib import Path

from networks import (  # type: ignore[import-not-found] # the file beside this one
    by_tf2onnx,
    timed,
    warm_up,
)

from kerasbn.common.keras_internals import quiet_tensorflow

quiet_tensorflow()
import keras  # noqa: E402 - TensorFlow comes first, silenced

from kerasbn.folding.fold import fold_plan, fold_with_plan  # noqa: E402 - as above
from kerasbn.folding.keras.randomize import randomize_parameters  # noqa: E402 - as above

HEADS = ["BN", "kept", "scalings", "kept", "s", "check", "tf2onnx", "ratio"]
WIDTHS = [6, 5, 9, 5, 6, 6, 8, 6]


def every_model() -> list[str]:
    """Return the names of all functions in keras.applications that build a model."""
    return [name for name in dir(keras.applications) if name[0].isupper()]


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--no-clip", action="store_true")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    show("model", HEADS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        if given.check:
            warm_up(path)
        for name in given.names or every_model():
            show(name, row(name, path, clip=not given.no_clip, check=given.check))


def row(name: str, path: Path, *, clip: bool, check: bool) -> list[str]:
    """Return the cells of a model."""
    keras.backend.clear_session()
    model = getattr(keras.applications, name)(weights=None)
    randomize_parameters(model)
    alone = timed(lambda: fold_with_plan(model, check=False, clip=clip))["seconds"]
    plan = fold_plan(model, clip=clip)
    kept = [len(plan.kept("BN layer")), len(plan.kept("scaling"))]
    total = [len(plan.folds("BN layer")) + kept[0], len(plan.folds("scaling")) + kept[1]]
    cells = [*map(str, (total[0], kept[0], total[1], kept[1])), f"{alone:.1f}"]
    if check:
        checked = timed(lambda: fold_with_plan(model, clip=clip))["seconds"] - alone
        rival = timed(by_tf2onnx, model, path)["seconds"]
        cells += [f"{checked:.1f}", f"{rival:.1f}", f"{checked / rival:.2f}"]
    return cells


def show(name: str, cells: list[str]) -> None:
    """Print a line."""
    line = " ".join(f"{cell:>{n}}" for cell, n in zip(cells, WIDTHS, strict=False))
    print(f"{name:24} {line}", flush=True)  # noqa: T201 - a command prints


if __name__ == "__main__":
    main()
