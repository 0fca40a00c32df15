"""Kill commands at any moment, start them again, and compare with runs that were never stopped.

    python -m tests.crash [--trials 50] [--only NAME...] [--seed 0] [--fresh]

Each trial runs a command in a new folder and kills it by SIGKILL, SIGTERM or SIGINT, which is sent
once or twice. A third of the trials chooses the moment by the time, from the start to the end of an
undisturbed run, a third by the files that have appeared until then, and a third by those of the
last half, when results are written. Then the command is given again, with ``--resume`` where it was
a training with a checkpoint. Afterwards the results have to be those of the undisturbed run, to the
bit, and nothing else may be left. With ``--fresh``, each process starts with an interpreter of its
own, as on the command line; otherwise it is forked from one that has imported TensorFlow.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))  # for `python -m tests.crash`

from command_processes import WITHOUT_XLA, Command, ForkedCommand, FreshCommand
from sample_mirror import record_mirror, send, served, write_files

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: (), signal.SIGTERM: (143,), signal.SIGINT: (130,)}
POLL = 0.002  # seconds between two looks at the files
TRAINING = "--dataset mnist-sample --quiet --hidden 8 --epochs"
# So that each epoch can be resumed from; these trainings take less than three seconds.
OFTEN = f"""{WITHOUT_XLA}
from kerasbn.training import callbacks
callbacks.EVERY, callbacks.SHARE = 0.0, 1e9
"""
MIRROR = "from sample_mirror import use_recorded_mirror; use_recorded_mirror()"

Start = Callable[[str, Path, str], Command]
Say = Callable[[str], None]


class Case(NamedTuple):
    """A command, what goes on with it after a kill, and the files that hold its result."""

    command: str
    results: str  # globs, separated by spaces
    again: str = ""
    setup: str = ""


CASES = {
    "train": Case(f"train --run x {TRAINING} 6", "saved_models/x", "train --resume x", OFTEN),
    "compare": Case(
        f"compare --run x {TRAINING} 3", "saved_models/x-*", "compare --resume x-compare", OFTEN
    ),
    "probed": Case(
        f"compare --run x {TRAINING} 2 --probe", "saved_models/x-*", "compare --resume x-compare",
        OFTEN,
    ),
    "ensemble": Case(
        f"compare --run x {TRAINING} 3 --seeds 2", "saved_models/x", "compare --resume x", OFTEN
    ),
    "export": Case("export model.onnx --model base", "model.* saved_models/base/plan.json"),
    "recalibrate": Case("recalibrate base --dataset mnist-sample --out out.keras", "out.keras"),
    "report": Case("report base -o page.html", "page.html"),
    "sweep": Case(
        "sweep learning-rate --run x --dataset mnist-sample --steps 40 --seeds 1 --workers 1 "
        "--set lr=0.01 --set hidden=8 --quiet",
        "saved_models/studies/x",
        setup=WITHOUT_XLA,
    ),
    "fetch": Case("data fetch --data-dir mnist", "mnist/*", setup=MIRROR),
}  # fmt: skip


# Python cannot raise where it calls back while it frees an object; it says so and goes on.
IGNORED = re.compile(r"^Exception ignored in: .*?^KeyboardInterrupt: ?$", re.DOTALL | re.MULTILINE)


class TrialError(Exception):
    """A result differs, something is left, or a command failed."""


class Moment(NamedTuple):
    """When to kill: after some seconds, and once so many files and folders have appeared."""

    seconds: float = 0.0
    paths: int = 0


def run(start: Start, command: str, folder: Path, setup: str = "") -> int:
    """Run a command to its end; return how many paths appeared in its folder meanwhile."""
    process = start(command, folder, setup)
    seen = watch(process, folder)
    code, output = process.wait()
    if code:
        raise TrialError(f"kerasbn {command}: exit code {code}: {output[-500:]}")
    return seen


def watch(process: Command, folder: Path, moment: Moment | None = None) -> int:
    """Wait for a moment or the end of a process; return how many new paths appeared until then."""
    known = set(paths_in(folder))
    began, before = time.monotonic(), len(known)
    while process.is_running():
        known.update(paths_in(folder))
        if (
            moment
            and time.monotonic() - began >= moment.seconds
            and len(known) - before >= moment.paths
        ):
            break
        time.sleep(POLL)
    return len(known) - before


def paths_in(folder: Path) -> list[str]:
    """Return everything that is in a folder."""
    return [
        os.path.join(place, name)  # noqa: PTH118 - it is called all the time
        for place, folders, files in os.walk(folder)
        for name in folders + files
    ]


def digest(file: Path) -> str:
    """Return a digest of a result, without times."""
    content = file.read_bytes()
    if file.name == "run.json":
        record = json.loads(content)
        content = json.dumps([record["digest"], record["final"], record["status"]]).encode()
    elif file.name in ("model.keras", "out.keras"):  # archives with times
        content = keras_weights(file)
    elif file.name == "study.json":
        content = b""
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


def results(folder: Path, patterns: str) -> dict[str, str]:
    """Return the digest of each file of a result."""
    files = [
        file
        for pattern in patterns.split()
        for match in sorted(folder.glob(pattern))
        for file in ([match] if match.is_file() else sorted(match.rglob("*")))
        if file.is_file()
    ]
    return {str(file.relative_to(folder)): digest(file) for file in files}


def leftovers(folder: Path, *, at_once: bool) -> list[str]:
    """Return the hidden files and folders that a command left, and temporary ones.

    What a library leaves in the system's folder for temporary files is the system's to remove,
    if the command had to stop at once.
    """
    hidden = [str(path.relative_to(folder)) for path in folder.rglob(".*")]
    temporary = folder.with_name(f"{folder.name}-tmp")
    return hidden + [path.name for path in temporary.iterdir() if not at_once]


def one_trial(
    case: Case,
    base: Path,
    expected: dict[str, str],
    number: signal.Signals,
    moment: Moment,
    start: Start,
    times: int = 1,
) -> str:
    """Kill a command at a moment, go on, and check the result; return how it went."""
    prefix = "kerasbn-crash-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        folder = Path(name) / "work"
        shutil.copytree(base, folder)
        process = start(case.command, folder, case.setup)
        watch(process, folder, moment)
        for _ in range(times):
            process.kill(number)
            time.sleep(0.02)
        code, output = process.wait()
        if (
            "Traceback" in IGNORED.sub("", output) and code != -number
        ):  # its interpreter was still starting
            raise TrialError(f"a traceback: {output[-1500:]}")
        if code not in (0, -number, *CODES[number]):
            raise TrialError(f"exit code {code}: {output[-500:]}")
        if code == 0:
            outcome = "had ended"
        else:
            unfinished = list(folder.glob("saved_models/.*.part/checkpoint/session.json"))
            unfinished += folder.glob("saved_models/*/checkpoint/session.json")
            resumes = case.again and unfinished
            complete = results(folder, case.results) == expected
            if not complete:
                run(start, case.again if resumes else case.command, folder, case.setup)
            outcome = "was complete" if complete else "resumed" if resumes else "started again"
        if (found := results(folder, case.results)) != expected:
            names = [
                each for each in {**found, **expected} if found.get(each) != expected.get(each)
            ]
            raise TrialError(f"{outcome}, but {', '.join(names)} differ")
        if left := leftovers(folder, at_once=number is signal.SIGKILL or times > 1):
            raise TrialError(f"{outcome}, but left {', '.join(left)}")
        return outcome


def moments(duration: float, paths: int, trials: int, chance: random.Random) -> list[Moment]:
    """Return when to kill, in turn by the time, by any file and by one of the last half."""
    kinds = (
        lambda share: Moment(seconds=duration * share),
        lambda share: Moment(chance.random() * 0.01, round(1 + (paths - 1) * share)),
        lambda share: Moment(chance.random() * 0.01, round(1 + (paths - 1) * (1 + share) / 2)),
    )
    return [kinds[i % 3]((i + chance.random()) / trials) for i in range(trials)]


def trials_of(
    name: str,
    base: Path,
    trials: int,
    chance: random.Random,
    start: Start,
    say: Say,
) -> int:
    """Run the trials of a case and print how they went; return how many failed."""
    case, whole = CASES[name], base.with_name(name)
    shutil.copytree(base, whole)
    began = time.monotonic()
    paths = run(start, case.command, whole, case.setup)
    duration = time.monotonic() - began
    expected = results(whole, case.results)
    assert expected
    outcomes: Counter[str] = Counter()
    for i, moment in enumerate(moments(duration, paths, trials, chance)):
        number = SIGNALS[(i + i // 3) % len(SIGNALS)]  # each with each kind of moment
        try:
            outcome = one_trial(case, base, expected, number, moment, start, 1 + i // 9 % 2)
        except TrialError as error:
            outcome = "FAILED"
            say(f"{name}: {number.name} at {moment} of {duration:.1f} s, {paths} paths: {error}")
        outcomes[outcome] += 1
    say(f"{name}: {trials} trials over {duration:.1f} s, {paths} paths: {dict(outcomes)}")
    return outcomes["FAILED"]


@contextmanager
def prepared(start: Start) -> Iterator[Path]:
    """Yield the folder that each trial starts with: it holds a run, and where to download from."""
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kerasbn-crash-")))
        base, mirror = top / "base", top / "mirror"
        base.mkdir()
        mirror.mkdir()
        files, _ = write_files(mirror, (2000, 2000, 500, 500))
        record_mirror(base, stack.enter_context(served(mirror, slowly)), files)
        run(start, f"train --run base {TRAINING} 1", base)
        yield base


def slowly(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer a request within about a quarter of a second."""
    size = len(content) // 25 + 1
    send(handler, content[:size], len(content))
    for i in range(size, len(content), size):
        time.sleep(0.01)
        handler.wfile.write(content[i : i + size])


def main(arguments: list[str] | None = None) -> int:
    """Run the trials; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50, help="for each command")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args(arguments)
    chance = random.Random(options.seed)  # noqa: S311 - no secret
    start: Start = FreshCommand if options.fresh else ForkedCommand
    with prepared(start) as base:
        one = partial(trials_of, base=base, trials=options.trials, chance=chance, start=start)
        return sum(one(name, say=partial(print, flush=True)) for name in options.only)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
