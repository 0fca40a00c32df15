"""How far seeds differ: test accuracy with and without normalization, mean and deviation.

    python tests/benchmarks/seeds.py --data-dir FOLDER [--seeds 8] [--lr 0.01 0.001 0.1]

The experiment of the README, every other setting at its default, once for every seed and learning
rate. A network that diverges counts with the accuracy of its last epoch that had figures.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from kerasbn.quiet import quiet_tensorflow


def main() -> None:
    """Train all pairs and print a line for every learning rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--lr", type=float, nargs="+", default=[0.01, 0.001, 0.1])
    options = parser.parse_args()
    quiet_tensorflow()
    from kerasbn.digits.files import load
    from kerasbn.study.compare import compare
    from kerasbn.training.settings import NetworkSettings, TrainingSettings

    digits = load("mnist", options.data_dir)
    for lr in options.lr:
        finals: dict[str, list[float]] = {"with_bn": [], "without_bn": []}
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                training = TrainingSettings(lr=lr, seed=seed)
                pair = compare(NetworkSettings(), digits, training, quiet=True, root=Path(folder))
                record = json.loads((pair.path / "compare.json").read_text())
            for key, values in finals.items():
                values.append(100 * record["final"][key]["val_accuracy"])
        words = ", ".join(
            f"{key} {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} "
            f"({min(values):.2f} to {max(values):.2f})"
            for key, values in finals.items()
        )
        sys.stdout.write(f"lr {lr:g}, {options.seeds} seeds: {words}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
