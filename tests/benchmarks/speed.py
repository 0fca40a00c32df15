"""Measure the speed of `kerasbn compare` against plain Keras, and of `kerasbn --help`.

    python tests/benchmarks/speed.py --data-dir FOLDER [--pairs 3] [--epochs 10] [--seeds 8]
    python tests/benchmarks/speed.py --data-dir FOLDER --probe

With `--probe` it measures the cost of probes instead: the ratio of `kerasbn compare` with and
without them, until the last epoch (the cost of measuring) and as a whole (including figures and
predictions by batch).

Every result is a ratio of two processes that ran one after the other, repeated in alternation.
Quote the medians over the pairs; processor time is least affected by other work on the machine. An
epoch is training and evaluation (on 70,000 images) of both models. The first epoch, which compiles,
does not count as steady.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Training(NamedTuple):
    """One training: seconds in total and per epoch, peak memory in MB, CPU seconds."""

    seconds: float
    epochs: list[float]
    memory: float
    processor: float


class Process(NamedTuple):
    """A finished process: seconds, peak memory in MB, stdout, times of epoch lines, CPU seconds."""

    seconds: float
    memory: float
    out: str
    epoch_ends: list[float]
    processor: float


def run(command: list[str], folder: str) -> Process:
    """Run and measure a process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    epoch_ends: list[float] = []

    def read_stderr() -> None:
        assert process.stderr is not None
        epoch_ends.extend(
            time.perf_counter() - start for line in process.stderr if line.startswith("epoch")
        )

    listener = threading.Thread(target=read_stderr)
    listener.start()
    assert process.stdout is not None
    out = process.stdout.read()
    listener.join()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    seconds = time.perf_counter() - start
    # Linux counts in KB, macOS in bytes.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    processor = usage.ru_utime + usage.ru_stime
    return Process(seconds, usage.ru_maxrss / unit, out, epoch_ends, processor)


def plain(data_dir: str, epochs: int, pixels: str, folder: str) -> Training:
    """Train in plain Keras; see plain_keras.py."""
    command = [sys.executable, str(HERE / "plain_keras.py"), data_dir, str(epochs), pixels]
    ended = run(command, folder)
    seconds = json.loads(ended.out.splitlines()[-1])["epoch_seconds"]
    return Training(ended.seconds, seconds, ended.memory, ended.processor)


def ours(
    data_dir: str, epochs: int, seeds: int | None, folder: str, *, probe: bool = False
) -> Training:
    """Run `kerasbn compare` with one pair or several seeds."""
    arguments = ["compare", "--data-dir", data_dir, "--epochs", str(epochs)]
    arguments += ["--probe"] if probe else []
    arguments += [] if seeds is None else ["--seeds", str(seeds)]
    ended = run([sys.executable, "-m", "kerasbn", *arguments], folder)
    ends = ended.epoch_ends[1::2]  # two lines per epoch, with and without BN
    seconds = [ends[0], *(b - a for a, b in pairwise(ends))]
    return Training(ended.seconds, seconds, ended.memory, ended.processor)


def shownratio(pairs: int, folder: str) -> list[float]:
    """Return the ratio of `kerasbn --help` to `python -c "import click"`, pair by pair."""
    script = str(Path(sys.executable).with_name("kerasbn"))
    commands = ([script, "--help"], [sys.executable, "-c", "import click"])
    ratios = []
    for _ in range(pairs):
        shown, click = (run(command, folder).seconds for command in commands)
        ratios.append(shown / click)
    return ratios


def probe_ratios(
    data_dir: str, pairs: int, epochs: int, seeds: int | None, folder: str
) -> dict[str, list[float]]:
    """Return ratios of `kerasbn compare --probe` to `kerasbn compare`, in alternating order."""
    names = ("probe: until the last epoch", "probe: whole process", "probe: processor time")
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for i in range(pairs):
        order = (False, True) if i % 2 else (True, False)
        found = {each: ours(data_dir, epochs, seeds, folder, probe=each) for each in order}
        off, on = found[False], found[True]
        parts = (sum(on.epochs) / sum(off.epochs), on.seconds / off.seconds)
        for name, ratio in zip(names, (*parts, on.processor / off.processor), strict=True):
            ratios[name].append(ratio)
        show(
            f"pair {i + 1}: process {off.seconds:.1f} s and {on.seconds:.1f} s, processor "
            f"{off.processor:.1f} s and {on.processor:.1f} s (without and with probes)"
        )
    return ratios


def print_medians(ratios: dict[str, list[float]]) -> None:
    """Print the median of each ratio."""
    for name, values in ratios.items():
        show(f"{name}: median {statistics.median(values):.2f} (of {len(values)})")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--seeds", type=int, help="pairs that kerasbn trains, against one in plain Keras"
    )
    parser.add_argument("--probe", action="store_true", help="measure the cost of probes")
    parser.add_argument("--pixels", choices=["float32", "uint8"], default="float32")
    options = parser.parse_args()
    data_dir = str(Path(options.data_dir).resolve())
    ratios: dict[str, list[float]] = {
        name: [] for name in ("steady epoch", "whole process", "processor time", "peak memory")
    }
    if options.probe:
        with tempfile.TemporaryDirectory() as folder:
            print_medians(
                probe_ratios(data_dir, options.pairs, options.epochs, options.seeds, folder)
            )
        return
    with tempfile.TemporaryDirectory() as folder:
        ratios["help / import click"] = shownratio(15, folder)
        for i in range(options.pairs):
            reference = plain(data_dir, options.epochs, options.pixels, folder)
            result = ours(data_dir, options.epochs, options.seeds, folder)
            steady = [statistics.median(each.epochs[1:]) for each in (reference, result)]
            ratios["steady epoch"].append(steady[0] / steady[1])
            ratios["whole process"].append(reference.seconds / result.seconds)
            ratios["processor time"].append(reference.processor / result.processor)
            ratios["peak memory"].append(result.memory / reference.memory)
            show(
                f"pair {i + 1}: epoch {steady[0]:.2f} s and {steady[1]:.2f} s, "
                f"process {reference.seconds:.1f} s and {result.seconds:.1f} s, "
                f"processor {reference.processor:.1f} s and {result.processor:.1f} s, "
                f"memory {reference.memory:.0f} MB and {result.memory:.0f} MB "
                "(plain Keras, kerasbn)"
            )
    print_medians(ratios)


def show(line: str) -> None:
    """Print and flush, since a pair takes minutes."""
    print(line, flush=True)  # noqa: T201 - a command


if __name__ == "__main__":
    main()
