"""Measure how time and memory grow with the size of a model, a file or a folder.

    python -m tests.scale [--full] [--only NAME...]

Each case runs at two sizes, the second four times the first, in processes of their own. Seconds are
of processor, and memory is the peak of the process beyond that before the measured call. The exit
code is 1 if time grows by more than 1.5 times the size, or memory by more than the case allows.
Exporting 500 MB, as --full does, needs about 5 GB.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

GROWTH, SLACK = 4, 1.5
FLOAT = onnx.TensorProto.FLOAT


class Case(NamedTuple):
    """What is measured: the first sizes without and with --full, and the bytes allowed per unit."""

    prepare: Callable[[int, Path], Callable[[], object]]
    unit: str
    size: int
    full: int
    unit_bytes: float


def onnx_file(path: Path, nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray]) -> None:
    """Write a classifier of 8x8 images, from the input `image` to the output `y`."""
    graph = helper.make_graph(
        nodes, "model",
        [helper.make_tensor_value_info("image", FLOAT, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", 10])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def random_arrays(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Arrays with small random values, and variances above zero."""
    rng = np.random.default_rng(3)
    made = {name: rng.normal(0, 0.1, shape).astype("float32") for name, shape in shapes.items()}
    return {name: abs(array) + 1 if name == "var" else array for name, array in made.items()}


def fold_onnx(nodes: int, folder: Path) -> Callable[[], object]:
    """Fold residual blocks of a Gemm, a BN, a Relu and an Add."""
    from kerasbn.folding.onnx.files import load_model
    from kerasbn.folding.onnx.fold import fold_model

    node = helper.make_node
    made = [node("Flatten", ["image"], ["flat"]), node("MatMul", ["flat", "first"], ["x0"])]
    for at in range(nodes // 4):
        made += [
            node("Gemm", [f"x{at}", "w", "b"], [f"gemm{at}"]),
            node("BatchNormalization", [f"gemm{at}", "b", "b", "mean", "var"], [f"bn{at}"]),
            node("Relu", [f"bn{at}"], [f"relu{at}"]),
            node("Add", [f"x{at}", f"relu{at}"], [f"x{at + 1}"]),
        ]
    made.append(node("Identity", [f"x{nodes // 4}"], ["y"]))
    arrays = random_arrays(first=(192, 10), w=(10, 10), b=(10,), mean=(10,), var=(10,))
    onnx_file(folder / "model.onnx", made, arrays)
    model = load_model(folder / "model.onnx")

    def fold() -> None:
        plan = fold_model(model).plan
        if len(plan.folds()) != nodes // 4:
            raise RuntimeError(f"only {plan.summary()}")

    return fold


def fold_keras(layers: int, _folder: Path) -> Callable[[], object]:
    """Fold Dense and BN layers in a row."""
    import keras

    import kerasbn
    from kerasbn.__main__ import DEEPEST
    from kerasbn.folding.keras.randomize import randomize_parameters

    sys.setrecursionlimit(DEEPEST)
    x = given = keras.Input((8,))
    for _ in range(layers // 2):
        x = keras.layers.BatchNormalization()(keras.layers.Dense(8)(x))
    model = keras.Model(given, x)
    randomize_parameters(model, 3)
    return lambda: kerasbn.fold(model)


def export(megabytes: int, folder: Path) -> Callable[[], object]:
    """Export layers with a million weights each."""
    import keras

    import kerasbn

    x = given = keras.Input((1000,))
    for _ in range(megabytes // 4):
        x = keras.layers.BatchNormalization()(keras.layers.Dense(1000, activation="relu")(x))
    model = keras.Model(given, x)
    return lambda: kerasbn.export(model, folder / "model.onnx")


def infer(images: int, folder: Path) -> Callable[[], object]:
    """Classify a folder of small PNG files."""
    from PIL import Image

    from kerasbn.inference.classifier import Classifier
    from kerasbn.inference.infer import predict_files

    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["y"]),
    ]
    onnx_file(folder / "model.onnx", nodes, random_arrays(first=(192, 10)))
    (folder / "images").mkdir()
    for at in range(images):
        pixels = np.full((8, 8, 3), at % 256, np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{at}.png")
    classifier = Classifier(folder / "model.onnx")
    return lambda: predict_files(classifier, [str(folder / "images")])


CASES = {
    "fold-onnx": Case(fold_onnx, "nodes", 200, 1250, 200_000),
    "fold-keras": Case(fold_keras, "layers", 40, 250, 1_000_000),
    # Some 6 bytes for each byte of the model: the folded model, constants, onnxruntime's copies.
    "export": Case(export, "MB", 8, 125, 8_000_000),
    "infer": Case(infer, "images", 500, 12_500, 3_000),  # a name, and the probabilities of classes
}


def peak_bytes() -> int:
    """The largest memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(name: str, size: int) -> tuple[float, int]:
    """Seconds of processor and bytes beyond those before, of one case in this process."""
    with tempfile.TemporaryDirectory() as folder:
        run = CASES[name].prepare(size, Path(folder))
        before, begin = peak_bytes(), time.process_time()
        run()
        return time.process_time() - begin, peak_bytes() - before


def measure_alone(name: str, size: int) -> tuple[float, int]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tests.scale", "--one", name, str(size)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} {size}: {done.stderr[-2000:]}")
    seconds, used = json.loads(done.stdout.splitlines()[-1])
    return seconds, used


def problems(case: Case, sizes: tuple[int, int], found: list[tuple[float, int]]) -> list[str]:
    """What is out of proportion, in words."""
    (first, less), (second, more) = found
    said = []
    if second > SLACK * GROWTH * first:
        said.append(f"time grows {second / first:.1f} times")
    per_unit = (more - less) / (sizes[1] - sizes[0])
    if per_unit > case.unit_bytes:
        said.append(f"{per_unit:,.0f} bytes for each of the {case.unit}")
    return said


def main(arguments: list[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Measure the cases and print a table; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="5,000 nodes, 500 MB, 50,000 images")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        say(json.dumps(measure(given.one[0], int(given.one[1]))))
        return 0
    say(f"{'case':12}{'size':>16}{'seconds':>10}{'ratio':>8}{'peak memory':>14}")
    wrong = []
    for name in given.only:
        case = CASES[name]
        size = case.full if given.full else case.size
        sizes, found = (size, GROWTH * size), []
        for each in sizes:
            found.append(measure_alone(name, each))
            seconds, used = found[-1]
            ratio = f"{seconds / found[0][0]:.2f}" if len(found) > 1 else ""
            text = f"{each:,} {case.unit}"
            say(f"{name:12}{text:>16}{seconds:10.2f}{ratio:>8}{used / 1e6:11,.0f} MB")
        wrong += [f"{name}: {text}" for text in problems(case, sizes, found)]
    for text in wrong:
        say(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
