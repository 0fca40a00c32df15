"""Check and measure kerasbn on a machine with a GPU, and write what was found as one JSON file.

    python -m tests.gpu --data-dir FOLDER [--out gpu.json] [--seconds 470] [--only PATTERN...]
    python -m tests.gpu --logical

Without a GPU that TensorFlow sees, nothing else runs. Checks come first: is the accuracy that of a
CPU, do trainings repeat and resume to the bit. Then epochs are timed, beside plain Keras, PyTorch
and JAX where they are installed, on the GPU and on the CPU. Whatever fails is recorded and the rest
runs on; what does not fit into the time is recorded as not run, and `--only` runs it later, such as
``--only "kerasbn cpu*" "jax*"``. The exit code is 1 if there is a problem. With `--logical`, two
logical CPUs stand for two GPUs, and all of it is small: it takes about three minutes on two cores.
kerasbn has to be installed or on PYTHONPATH.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from .checks import FULL, SMALL, all_checks
from .commands import Context
from .measure import Measurement, Piece, timing
from .specs import full_specs, small_specs

CORES = 4  # for each of the checks that run side by side


def main(arguments: list[str] | None = None) -> int:
    """Run all pieces, or those that are named; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, help="the folder of MNIST")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the file to write")
    parser.add_argument("--seconds", type=float, default=470.0, help="for everything together")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="what to run")
    parser.add_argument("--logical", action="store_true", help="let CPUs stand for GPUs")
    given = parser.parse_args(arguments)
    if not given.logical and given.data_dir is None:
        parser.error("received no --data-dir, expected the folder of MNIST, or --logical")
    specs = small_specs() if given.logical else full_specs()
    checks = all_checks(SMALL if given.logical else FULL)
    pieces = [Piece(name, check, is_first=name == "seen") for name, check in checks.items()]
    pieces += map(timing, specs)
    for pattern in given.only:
        if not any(fnmatch(piece.name, pattern) for piece in pieces):
            names = ", ".join(piece.name for piece in pieces)
            parser.error(f"received --only '{pattern}', expected some of {names}")
    pieces = [piece for piece in pieces if any(fnmatch(piece.name, each) for each in given.only)]
    began = time.monotonic()
    about = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"), "logical": given.logical,
        "machine": platform.machine(), "cores": os.cpu_count(),
        "python": platform.python_version(),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="kerasbn-gpu-") as folder:
        data_dir = given.data_dir and given.data_dir.resolve()
        base = Context(Path(folder), given.logical, data_dir, began + given.seconds)
        measurement = Measurement(pieces, base, given.out.resolve(), about, specs)
        cores = os.cpu_count() or 1
        results = measurement.run(cores if given.logical else max(1, cores // CORES))
    return int(any(result["problems"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
