"""Processes in a folder of their own, within the time that is left."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

from .specs import GRAPHS, Spec

TESTS = Path(__file__).parents[1]
SAMPLED = 0.5  # seconds between two looks at the memory of the GPU
FEW_CORES = 8
# Becomes a command that may use only some cores: `python -c PINNED CORES COMMAND...`
PINNED = (
    "import os, sys; os.sched_setaffinity(0, map(int, sys.argv[1].split(','))); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


class CommandError(Exception):
    """A command failed."""


@dataclass
class Context:
    """Where and how a piece of the measurement runs, and what it found wrong.

    Attributes:
        folder: The folder of this piece.
        logical: Whether logical CPUs stand for GPUs.
        data_dir: The folder of MNIST; None for the sample.
        deadline: When it has to end, by `time.monotonic`.
        problems: What is not as it should be, one line each.
    """

    folder: Path
    logical: bool
    data_dir: Path | None
    deadline: float
    problems: list[str] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        return "mnist" if self.data_dir else "mnist-sample"

    def expect(self, is_so: bool, problem: str) -> None:
        """Note a problem unless it is so."""
        if not is_so:
            self.problems.append(problem)

    def left(self) -> float:
        """Return the seconds that are left, at least one."""
        return max(1.0, self.deadline - time.monotonic())

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command of kerasbn."""
        module = "gpu.logical" if self.logical else "kerasbn"
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=self.folder, env=self._environment(),
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def kerasbn(self, *arguments: str) -> str:
        """Run a command of kerasbn to its end, and return its output."""
        code, out, err = self.finished(*arguments)
        if code:
            words, last = " ".join(["kerasbn", *arguments]), " ".join(err.splitlines()[-1:])
            raise CommandError(f"{words}: exit code {code}: {last}")
        return out

    def finished(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command of kerasbn to its end; return its exit code, output and messages."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=self.left())
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process.returncode, out, err

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run a command of kerasbn, and return what it prints with ``--json``."""
        found: dict[str, Any] = json.loads(self.kerasbn(*arguments, "--json").splitlines()[-1])
        return found

    def train(self, *arguments: str, command: str = "train") -> dict[str, Any]:
        """Run `kerasbn train`, `compare` or `sweep` on the dataset."""
        return self.json(command, "--dataset", self.dataset, "--quiet", *arguments)

    def timed(self, spec: Spec) -> dict[str, Any]:
        """Run the program that times a spec, and return what it prints."""
        environment = self._environment()
        if spec.graphs:
            environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {GRAPHS}".strip()
        if spec.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = "-1"
        if spec.rival == "keras":
            environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # kerasbn sets it itself
            program = [str(TESTS / "benchmarks/plain_keras.py"), str(self.data_dir or "")]
            command = [*program, str(spec.epochs), "float32"]
        else:
            values = {"spec": asdict(spec), "dataset": self.dataset, "logical": self.logical}
            command = ["-m", f"gpu.time_{spec.rival}", json.dumps(values)]
        if cores := cores_for(spec.device):
            command = ["-c", PINNED, cores, sys.executable, *command]
        done = subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=environment, text=True,
            capture_output=True, timeout=self.left(),
        )  # fmt: skip
        if done.returncode:
            raise CommandError(" ".join(done.stderr.splitlines()[-1:]) or "no message")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found | ({"cores": cores} if cores else {})

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        data = {"KERASBN_DATA": str(self.data_dir)} if self.data_dir else {}
        return os.environ | {"PYTHONPATH": path} | data


def cores_for(device: str) -> str:
    """Return the cores for the timings on a device, which run beside those on the other one.

    The first quarter launches what runs on the GPU. Empty on a machine with few cores: there
    timings run one by one.
    """
    allowed = getattr(os, "sched_getaffinity", lambda _: ())  # Linux only
    cores = sorted(allowed(0))
    if len(cores) < FEW_CORES:
        return ""
    first = len(cores) // 4
    return ",".join(map(str, cores[:first] if device == "gpu" else cores[first:]))


def ask_gpu(*fields: str) -> list[str]:
    """Return what `nvidia-smi` says about the first GPU; nothing if there is no such program."""
    if which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    lines = done.stdout.strip().splitlines()
    return [value.strip() for value in lines[0].split(",")] if lines else []


@contextmanager
def most_memory() -> Iterator[list[int]]:
    """Yield a list to which the memory of the GPU in use, in MB, is added all the time."""
    seen: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLED):
            seen.extend(int(value) for value in ask_gpu("memory.used"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
