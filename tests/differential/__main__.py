"""Random models, each folded and compared with itself unfolded, in float64.

    python -m tests.differential --models 20000

The models mix every layer that folding knows with some that it doesn't, shared layers, nested
models, several inputs and outputs, all with random parameters. Folding's own check is left out,
so that what it would catch is counted here. Every reason to keep a layer is shown to be true.

Prints a line for each wrong result, with the seed that makes the model again, then how often each
layer, direction and reason occurred. The exit code is 1 if any result was wrong, or if anything
did not occur in 20,000 models or with `--complete`. Ranges of seeds add up in a file of `--counts`.
"""

import argparse
import gc
import json
import sys
import time
from collections import Counter
from pathlib import Path

from kerasbn.common.keras_internals import quiet_tensorflow

sys.path.insert(0, str(Path(__file__).parent.parent))  # as pytest does
quiet_tensorflow()
import keras  # noqa: E402 - TensorFlow comes first, silenced

from .broken_laws import BROKEN  # noqa: E402 - as above
from .coverage import missing  # noqa: E402 - as above
from .judge import judge  # noqa: E402 - as above

LONG = 20_000  # models, in which everything has to occur


def main() -> int:
    """Run the models and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=2000, help="how many models")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first")
    parser.add_argument("--show", action="store_true", help="print each plan")
    parser.add_argument("--break", dest="broken", choices=BROKEN, help="a law to break on purpose")
    parser.add_argument("--complete", action="store_true", help="fail if anything did not occur")
    parser.add_argument("--counts", type=Path, help="a file to add this run's counts to")
    given = parser.parse_args()
    counts: Counter[tuple[str, ...]] = Counter()
    if given.counts and given.counts.exists():
        counts.update({tuple(key): n for key, n in json.loads(given.counts.read_text())})
    begin = time.perf_counter()
    prepare()
    if given.broken:
        BROKEN[given.broken].breaking().__enter__()
    for seed in range(given.seed, given.seed + given.models):
        if seed % 50 == 0:
            keras.backend.clear_session()  # it collects garbage, which costs as much as a model
        result = judge(seed)
        counts += result.counts
        if given.show:
            print(seed, *result.plan, sep="\n  ")  # noqa: T201 - a command prints
        for problem in result.wrong:
            print(f"seed {seed}: {problem}", flush=True)  # noqa: T201 - a command prints
    for key in sorted(counts):
        print(f"{counts[key]:7}  {': '.join(key)}")  # noqa: T201 - a command prints
    if given.counts:
        given.counts.write_text(json.dumps([[key, n] for key, n in counts.items()]))
    absent = missing(counts) if given.complete or given.models >= LONG else []
    for key in absent:
        print(f"never: {': '.join(key)}")  # noqa: T201 - a command prints
    wrong = counts["models", "wrong"]
    models, kept = counts["models", "compared"], counts["decision", "kept"]
    clips = counts["decision", "clips"]
    folds = [counts["decision", way] for way in ("backward", "forward", "both", "merge")]
    print(  # noqa: T201 - a command prints
        f"{models} models, {sum(folds)} folds ({folds[0]} backward, {folds[1]} forward, "
        f"{folds[2]} both, {folds[3]} merged, {clips} with clips), "
        f"{kept} kept, {wrong} wrong; {time.perf_counter() - begin:.0f} s"
    )
    return 1 if wrong or absent else 0


def prepare() -> None:
    """Compute in float64, and leave the garbage collector what the libraries hold."""
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
