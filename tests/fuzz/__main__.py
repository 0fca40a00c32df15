"""Damage files of every format that the product reads, and read them.

    python -m tests.fuzz [--trials N] [--only READER...] [--seed 0]

A damaged file is read, or refused with one line. Anything else is a failure: another exception, a
crash, a message of several lines or with control characters, a warning, a file left behind, or more
time or memory than the limits in `fuzz.trials`. Failures are printed once for each kind, with seeds
that make them again: ``--only READER --seed SEED --trials 1``. With ``--keep FOLDER``, their files
are kept.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ in ("__main__", "__mp_main__"):
    sys.path.append(str(Path(__file__).parents[1]))

from fuzz.readers import READERS
from fuzz.trials import bench, run_trials


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Run the trials; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, help="for each reader")
    parser.add_argument("--only", nargs="*", choices=list(READERS), default=list(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the files that failed")
    options = parser.parse_args(arguments)
    failed = 0
    for name in options.only:
        start, count = time.perf_counter(), options.trials or READERS[name].trials
        tally = run_trials(name, range(options.seed, options.seed + count), say)
        for cases in tally.failures.values():
            seeds = ", ".join(str(seed) for seed, _ in cases[:5])
            say(f"{name}: {cases[0][1]} ({len(cases)} times; seeds {seeds})")
            if options.keep is not None:
                _keep(options.keep, name, cases[0][0])
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(tally.counts.items()))
        each = 1000 * (time.perf_counter() - start) / max(count, 1)
        say(f"{name}: {count:,} trials of {each:.2f} ms: {counts}")
        failed += tally.counts["FAILED"]
    return failed


def _keep(folder: Path, name: str, seed: int) -> None:
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with bench(READERS[name]) as place:
        target = Path(READERS[name].target)
        (folder / f"{name}-{seed}{target.suffix}").write_bytes(place.content(seed))


if __name__ == "__main__":
    sys.exit(min(main(), 1))
