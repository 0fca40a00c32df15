"""Whether folded files answer as fast as unfolded ones: both in onnxruntime, in turns.

    python tests/benchmarks/inference.py [NAME...] [--pairs 100] [--files FOLDER]

Each model of keras.applications (or mnist) is exported as it is, folded without clips, and
folded; then the three files answer one image in turns, in one process, after a few rounds that do
not count. Prints a line per model: the median milliseconds of the unfolded file, and of both
others the median and the fastest as a part of it. With --files the exported files stay there, and
are taken from there the next time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

NAMES = (
    "mnist", "ResNet50", "ResNet50V2", "DenseNet121", "MobileNetV2", "EfficientNetB0",
    "InceptionV3", "NASNetMobile",
)  # fmt: skip
FORMS = ("unfolded", "no clip", "folded")
UNCOUNTED = 5


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mnist, or of keras.applications")
    parser.add_argument("--pairs", type=int, default=100, help="how often each file answers")
    parser.add_argument("--batch", type=int, default=1, help="how many images at a time")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to onnxruntime")
    parser.add_argument("--files", type=Path, help="where exported files stay")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        write(given.one, given.files)
        return
    heads = ["clips", "unfolded ms", "no clip", "fastest", "folded", "fastest"]
    print(f"{'model':18} " + " ".join(f"{head:>11}" for head in heads))  # noqa: T201 - a command prints
    for name in given.names or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            files = given.files or Path(folder)
            files.mkdir(parents=True, exist_ok=True)
            # In a process of its own, so that TensorFlow's threads are not there.
            command = [sys.executable, __file__, "--one", name, "--files", files]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            paths = [path_of(files, name, form) for form in FORMS]
            times = in_turns(paths, given.pairs, given.batch, given.threads)
            clips = json.loads(path_of(files, name, "folded").with_suffix(".json").read_text())
        cells = [f"{clips}", f"{1000 * median(times[0]):.2f}"]
        for other in times[1:]:
            cells += [f"{median(other) / median(times[0]):.3f}"]
            cells += [f"{min(other) / min(times[0]):.3f}"]
        print(f"{name:18} " + " ".join(f"{cell:>11}" for cell in cells), flush=True)  # noqa: T201 - as above


def path_of(files: Path, name: str, form: str) -> Path:
    """Return where the file of a model in one form is."""
    return files / f"{name} {form}.onnx"


def write(name: str, files: Path) -> None:
    """Export a model in each form that is not there yet."""
    from networks import build  # type: ignore[import-not-found] # the script beside this one

    from kerasbn.common.keras_internals import quiet_tensorflow

    quiet_tensorflow()
    from kerasbn import export

    if all(path_of(files, name, form).exists() for form in FORMS):
        return
    model = build(name)
    for form in FORMS:
        exported = export(
            model,
            path_of(files, name, form),
            fold=form != "unfolded",
            clip=form == "folded",
        )
    clips = sum(bool(decision.get("clips")) for decision in exported.plan)
    path_of(files, name, "folded").with_suffix(".json").write_text(json.dumps(clips))


def in_turns(paths: list[Path], rounds: int, batch: int, threads: int) -> list[list[float]]:
    """The seconds that each file takes each time."""
    import numpy as np
    import onnxruntime

    from kerasbn.inference.session import Session

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Or the threads of the one that is done would take the processor from the next one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    (port,) = Session(paths[0]).inputs
    sessions = [
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for path in paths
    ]
    shape = [batch, *(size or 1 for size in port.shape[1:])]
    image = np.random.default_rng(0).integers(0, 255, shape)
    image = image.astype(port.dtype)
    times: list[list[float]] = [[] for _ in paths]
    for at in range(rounds + UNCOUNTED):
        turn = at % len(paths)  # whoever comes first is another each time
        for which in [*range(turn, len(paths)), *range(turn)]:
            begin = time.perf_counter()
            sessions[which].run(None, {port.name: image})
            took = time.perf_counter() - begin
            if at >= UNCOUNTED:
                times[which].append(took)
    return times


if __name__ == "__main__":
    main()
