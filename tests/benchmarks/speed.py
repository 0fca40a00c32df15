"""How fast `kerasbn compare` is beside plain Keras, and how light `kerasbn --help` is.

    python tests/benchmarks/speed.py --data-dir FOLDER [--pairs 3] [--epochs 10] [--seeds 8]
    python tests/benchmarks/speed.py --data-dir FOLDER --probe

With `--probe` it measures what probes cost instead: `kerasbn compare` with them over the same
without; until the last epoch, which is what looking costs, and as a whole, with the pictures and
the answers in batches that follow.

Every figure is a ratio of two processes that ran one after the other, repeated in turn; medians
over the pairs are what to quote; processor time is what other work on the machine changes least. An
epoch is training and evaluation (of 70,000 digits) of both networks; the first one, which compiles,
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


class Measured(NamedTuple):
    """One process: seconds in all and of each epoch, peak memory in MB, CPU seconds."""

    seconds: float
    epochs: list[float]
    memory: float
    processor: float


class Ended(NamedTuple):
    """A process: seconds, peak memory in MB, stdout, when lines of stderr came, CPU seconds."""

    seconds: float
    memory: float
    out: str
    came: list[float]
    processor: float


def run(command: list[str], folder: str) -> Ended:
    """Run a process and measure it."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    came: list[float] = []

    def listen() -> None:
        assert process.stderr is not None
        came.extend(
            time.perf_counter() - start for line in process.stderr if line.startswith("epoch")
        )

    listener = threading.Thread(target=listen)
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
    return Ended(seconds, usage.ru_maxrss / unit, out, came, processor)


def plain(data_dir: str, epochs: int, pixels: str, folder: str) -> Measured:
    """Plain Keras, see plain_keras.py."""
    command = [sys.executable, str(HERE / "plain_keras.py"), data_dir, str(epochs), pixels]
    ended = run(command, folder)
    seconds = json.loads(ended.out.splitlines()[-1])["epoch_seconds"]
    return Measured(ended.seconds, seconds, ended.memory, ended.processor)


def ours(
    data_dir: str, epochs: int, seeds: int | None, folder: str, *, probe: bool = False
) -> Measured:
    """`kerasbn compare`, of one pair or of many seeds."""
    arguments = ["compare", "--data-dir", data_dir, "--epochs", str(epochs)]
    arguments += ["--probe"] if probe else []
    arguments += [] if seeds is None else ["--seeds", str(seeds)]
    ended = run([sys.executable, "-m", "kerasbn", *arguments], folder)
    ends = ended.came[1::2]  # a line for each network, or for the mean of each kind
    seconds = [ends[0], *(b - a for a, b in pairwise(ends))]
    return Measured(ended.seconds, seconds, ended.memory, ended.processor)


def help_ratio(pairs: int, folder: str) -> list[float]:
    """`kerasbn --help` over `python -c "import click"`, pair by pair."""
    script = str(Path(sys.executable).with_name("kerasbn"))
    commands = ([script, "--help"], [sys.executable, "-c", "import click"])
    ratios = []
    for _ in range(pairs):
        mine, click = (run(command, folder).seconds for command in commands)
        ratios.append(mine / click)
    return ratios


def probe_ratios(
    data_dir: str, pairs: int, epochs: int, seeds: int | None, folder: str
) -> dict[str, list[float]]:
    """`kerasbn compare --probe` over `kerasbn compare`, pair by pair, which first in turn."""
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


def tell(ratios: dict[str, list[float]]) -> None:
    """Print the medians."""
    for name, values in ratios.items():
        show(f"{name}: median {statistics.median(values):.2f} (of {len(values)})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, help="as many pairs of ours against one of theirs")
    parser.add_argument("--probe", action="store_true", help="what probes cost")
    parser.add_argument("--pixels", choices=["float32", "uint8"], default="float32")
    options = parser.parse_args()
    data_dir = str(Path(options.data_dir).resolve())
    ratios: dict[str, list[float]] = {
        name: [] for name in ("steady epoch", "whole process", "processor time", "peak memory")
    }
    if options.probe:
        with tempfile.TemporaryDirectory() as folder:
            tell(probe_ratios(data_dir, options.pairs, options.epochs, options.seeds, folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        ratios["help / import click"] = help_ratio(15, folder)
        for i in range(options.pairs):
            rival = plain(data_dir, options.epochs, options.pixels, folder)
            mine = ours(data_dir, options.epochs, options.seeds, folder)
            steady = [statistics.median(each.epochs[1:]) for each in (rival, mine)]
            ratios["steady epoch"].append(steady[0] / steady[1])
            ratios["whole process"].append(rival.seconds / mine.seconds)
            ratios["processor time"].append(rival.processor / mine.processor)
            ratios["peak memory"].append(mine.memory / rival.memory)
            show(
                f"pair {i + 1}: epoch {steady[0]:.2f} s and {steady[1]:.2f} s, "
                f"process {rival.seconds:.1f} s and {mine.seconds:.1f} s, "
                f"processor {rival.processor:.1f} s and {mine.processor:.1f} s, "
                f"memory {rival.memory:.0f} MB and {mine.memory:.0f} MB (plain Keras, kerasbn)"
            )
    tell(ratios)


def show(line: str) -> None:
    """Print at once, since a pair takes minutes."""
    print(line, flush=True)  # noqa: T201 - a command


if __name__ == "__main__":
    main()
