"""Kill commands at any moment, start them again, and compare with runs that were never stopped.

    python -m tests.crash [--trials 50] [--only NAME...] [--seed 0]

Each trial runs a command in a new folder and kills it by SIGKILL, SIGTERM or SIGINT, at a moment
between its start and the end of an undisturbed run; every third moment lies in the last fifth, when
results are written. Then the command is given again, with ``--resume`` where it was a training with
a checkpoint. Afterwards the results have to be those of the undisturbed run, to the bit, and
nothing else may be left.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TRAINING = "--dataset mnist-sample --quiet --epochs"


class Case(NamedTuple):
    """A command, what goes on with it after a kill, and the files that hold its result."""

    command: str
    again: str
    results: str  # a glob


CASES = {
    "train": Case(f"train --run x {TRAINING} 20", "train --resume x", "saved_models/x"),
    "compare": Case(
        f"compare --run x {TRAINING} 10 --probe", "compare --resume x-compare", "saved_models/x-*"
    ),
    "ensemble": Case(
        f"compare --run x {TRAINING} 3 --seeds 3", "compare --resume x", "saved_models/x"
    ),
    "export": Case("export model.onnx --model base", "", "model.*"),
    "recalibrate": Case("recalibrate base --dataset mnist-sample --out out.keras", "", "out.keras"),
    "report": Case("report base -o page.html", "", "page.html"),
    "sweep": Case(
        "sweep learning-rate --run x --dataset mnist-sample --steps 100 --seeds 1 --workers 1 "
        "--set lr=0.01 --quiet",
        "",
        "saved_models/studies/x",
    ),
}


class TrialError(Exception):
    """A result differs, something is left, or a command failed."""


def kerasbn(command: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command in a folder, with signals as in a terminal."""

    def handle_signals() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        [sys.executable, "-m", "kerasbn", *command.split()], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=handle_signals,
    )  # fmt: skip


def run(command: str, folder: Path) -> str:
    """Run a command to its end; return what it printed as errors."""
    process = kerasbn(command, folder)
    _, errors = process.communicate()
    if process.returncode:
        raise TrialError(f"kerasbn {command}: exit code {process.returncode}: {errors[-500:]}")
    return errors


def digest(file: Path) -> str:
    """Return a digest of a result, without times."""
    content = file.read_bytes()
    if file.name == "run.json":
        record = json.loads(content)
        content = json.dumps([record["digest"], record["final"], record["status"]]).encode()
    elif file.name in ("model.keras", "out.keras"):  # archives with times
        content = keras_weights(file)
    elif file.name in ("study.json", "results.csv", "findings.md"):
        content = b"" if file.suffix == ".json" else content
    return hashlib.sha256(content).hexdigest()


def keras_weights(file: Path) -> bytes:
    """Return the weights of a model file."""
    import io
    import zipfile

    import h5py

    parts: list[bytes] = []
    with zipfile.ZipFile(file) as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")
        weights.visititems(
            lambda name, item: (
                parts.append(name.encode() + item[()].tobytes())
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return b"".join(sorted(parts))


def results(folder: Path, pattern: str) -> dict[str, str]:
    """Return the digest of each file of a result."""
    files = [
        file
        for match in sorted(folder.glob(pattern))
        for file in ([match] if match.is_file() else sorted(match.rglob("*")))
        if file.is_file()
    ]
    return {str(file.relative_to(folder)): digest(file) for file in files}


def leftovers(folder: Path) -> list[str]:
    """Return the hidden files and folders that a command left."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]


def one_trial(
    case: Case, base: Path, expected: dict[str, str], number: signal.Signals, after: float
) -> str:
    """Kill a command after some seconds, go on, and check the result; return how it went."""
    with tempfile.TemporaryDirectory(prefix="kerasbn-crash-") as name:
        folder = Path(name)
        shutil.copytree(base, folder, dirs_exist_ok=True)
        process = kerasbn(case.command, folder)
        time.sleep(after)
        process.send_signal(number)
        _, errors = process.communicate()
        if "Traceback" in errors:
            raise TrialError(f"a traceback: {errors[-1500:]}")
        if process.returncode == 0:
            outcome = "had ended"
        else:
            unfinished = list(folder.glob("saved_models/.*.part/checkpoint/session.json"))
            unfinished += folder.glob("saved_models/*/checkpoint/session.json")
            resumes = case.again and unfinished
            complete = results(folder, case.results) == expected
            if not complete:
                run(case.again if resumes else case.command, folder)
            outcome = "was complete" if complete else "resumed" if resumes else "started again"
        if (found := results(folder, case.results)) != expected:
            names = [
                each for each in {**found, **expected} if found.get(each) != expected.get(each)
            ]
            raise TrialError(f"{outcome}, but {', '.join(names)} differ")
        if left := leftovers(folder):
            raise TrialError(f"{outcome}, but left {', '.join(left)}")
        return outcome


def moments(duration: float, trials: int, chance: random.Random) -> list[float]:
    """Return when to kill: spread over the whole command, every third time near its end."""
    spread = [duration * (i + chance.random()) / trials for i in range(trials)]
    return [
        duration * (0.8 + 0.2 * chance.random()) if i % 3 == 2 else t for i, t in enumerate(spread)
    ]


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Run the trials; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50, help="for each command")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    chance, failures = random.Random(options.seed), 0  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory(prefix="kerasbn-crash-") as name:
        base = Path(name) / "base"
        base.mkdir()
        run(f"train --run base {TRAINING} 1", base)
        for case_name in options.only:
            case = CASES[case_name]
            whole = Path(name) / case_name
            shutil.copytree(base, whole)
            start = time.monotonic()
            run(case.command, whole)
            duration = time.monotonic() - start
            expected = results(whole, case.results)
            assert expected
            outcomes: dict[str, int] = {}
            for i, after in enumerate(moments(duration, options.trials, chance)):
                number = SIGNALS[i % len(SIGNALS)]
                try:
                    outcome = one_trial(case, base, expected, number, after)
                except TrialError as error:
                    failures += 1
                    outcome = "FAILED"
                    when = f"{number.name} after {after:.1f} of {duration:.1f} s"
                    say(f"{case_name}: {when}: {error}")
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
            say(f"{case_name}: {options.trials} trials over {duration:.1f} s: {outcomes}")
    return failures


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(min(main(), 1))
