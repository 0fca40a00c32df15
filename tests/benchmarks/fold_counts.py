"""Count the BN layers that are kept in every model of keras.applications, built without weights.

    python tests/benchmarks/fold_counts.py [NAME ...] [--no-clip] [--check]

Prints a line per model: how many BN layers and scalings it has, how many are kept, and the seconds
that planning and rewriting took; with --check also those of the comparison in float64. Parameters
are randomized (kerasbn.folding.keras.randomize), since fresh ones would hide wrong folds.
"""

import argparse
import time

from kerasbn.common.keras_internals import quiet_tensorflow

quiet_tensorflow()
import keras  # noqa: E402 - TensorFlow comes first, silenced

from kerasbn.folding.fold import fold_plan, fold_with_plan  # noqa: E402 - as above
from kerasbn.folding.keras.randomize import randomize_parameters  # noqa: E402 - as above
from kerasbn.folding.keras.rewrite import rewrite  # noqa: E402 - as above


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
    heads = ["BN", "kept", "scalings", "kept", "s", "check"]
    widths = [6, 5, 9, 5, 6, 6]
    line = " ".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
    print(f"{'model':24} {line}")  # noqa: T201 - a command prints
    for name in given.names or every_model():
        keras.backend.clear_session()
        model = getattr(keras.applications, name)(weights=None)
        randomize_parameters(model)
        begin = time.perf_counter()
        plan = fold_plan(model, clip=not given.no_clip)
        rewrite(model, plan)
        took = time.perf_counter() - begin
        checked = ""
        if given.check:
            begin = time.perf_counter()
            plan = fold_with_plan(model, clip=not given.no_clip).plan
            checked = f"{time.perf_counter() - begin:.1f}"
        kept = [len(plan.kept("BN layer")), len(plan.kept("scaling"))]
        total = [len(plan.folds("BN layer")) + kept[0], len(plan.folds("scaling")) + kept[1]]
        print(  # noqa: T201 - a command prints
            f"{name:24} {total[0]:6} {kept[0]:5} {total[1]:9} {kept[1]:5} {took:6.1f} {checked:>6}",
            flush=True,
        )


if __name__ == "__main__":
    main()
