"""Make the README's tables: BN nodes left by kerasbn and by other tools, accuracy and speed.

    pip install -e ".[bench]"
    python tests/benchmarks/networks.py [NAME...] [--tools TOOL,...] [--figures FILE]

Each model of `keras.applications` with BN layers is built without weights, in its own input size.
`randomize_parameters` sets its parameters as after training: random gammas, betas and biases, a
quarter of the gammas negative and a few zero. Its moving statistics are those of random images,
since statistics unrelated to the data let values and rounding errors grow from layer to layer.

tf2onnx converts the model as its own command would. onnxoptimizer, onnxsim, onnxslim and the
optimizer of onnxruntime work on the file that tf2onnx wrote, each with its defaults. kerasbn folds,
exports and checks the Keras model. Measured are:

- the BN nodes left, counted by `kerasbn.inference.remaining`;
- the largest difference from the Keras model in float64, relative to the largest output, on two
  random images;
- processor time, which other work on the machine hardly changes: in seconds for tf2onnx, as a
  multiple of it for the others. The time of the optimizers comes on top of tf2onnx's. That of
  kerasbn is its total, float64 checks included; in parentheses, planning and rewriting alone.

Each model runs in its own process, and each optimizer in another one, since it may crash or take
too long. Results are kept as they come, one line of JSON per tool and model, so that an interrupted
run continues where it stopped; with nothing left to measure, only the tables are printed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

MODELS = (
    "mnist",
    "ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2",
    "DenseNet121", "DenseNet169", "DenseNet201",
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large",
    "EfficientNetB0", "EfficientNetB1", "EfficientNetB2", "EfficientNetB3", "EfficientNetB4",
    "EfficientNetB5", "EfficientNetB6", "EfficientNetB7",
    "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3",
    "EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L",
    "Xception", "InceptionV3", "InceptionResNetV2", "NASNetMobile", "NASNetLarge",
)  # fmt: skip
# The first table shows these, the second the others by family: a name without its size.
SHOWN = ("mnist", "ResNet50V2", "DenseNet121", "MobileNetV2", "EfficientNetV2B0", "NASNetMobile")
FAMILY = re.compile(r"(?<=Net)\d+|(?<=B)\d+$|(?<=V2)(B\d|S|M|L)$|(Small|Large|Mobile)$")
FIGURES = Path(__file__).with_suffix(".jsonl")
RIVAL_MINUTES = 20
WRONG = 1e-3  # a difference that is no rounding

Record = dict[str, Any]


def main() -> None:
    """Measure what was not measured yet and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mnist, or of keras.applications")
    parser.add_argument("--tools", default=",".join(TOOLS), help="those to measure, with commas")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="where figures are kept")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rival", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rival:
        tool, plain, path = options.rival
        import_module("onnx"), import_module(tool)  # imports are not what is measured
        print(json.dumps(timed(RIVALS[tool], plain, path)))  # noqa: T201 - to the process that asked
        return
    if options.one:
        for record in measure(options.one[0], options.one[1].split(",")):
            print(json.dumps(record), flush=True)  # noqa: T201 - to the process that asked
        return
    for name in options.names or MODELS:
        known = {record["tool"] for record in read(options.figures) if record["model"] == name}
        wanted = [tool for tool in options.tools.split(",") if tool not in known]
        if wanted:
            keep(name, wanted, options.figures)
    print(tables(read(options.figures)))  # noqa: T201 - what a benchmark is for


def keep(name: str, tools: Iterable[str], path: Path) -> None:
    """Measure one model in its own process, and keep each result as it comes."""
    command = [sys.executable, __file__, "--one", name, ",".join(tools)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                with path.open("a") as file:
                    file.write(line)
                print(line, end="", file=sys.stderr, flush=True)  # noqa: T201 - it takes long
    if process.returncode:
        print(f"{name}: ended with {process.returncode}", file=sys.stderr)  # noqa: T201 - as above


def read(path: Path) -> list[Record]:
    """All results kept so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tables(records: Iterable[Record]) -> str:
    """The results as Markdown: BN nodes left in the shown and the other models, then quality."""
    rows: dict[str, dict[str, Record]] = {}
    for record in records:
        rows.setdefault(record["model"], {})[record["tool"]] = record
    counts: dict[str, list[int | str]] = {
        name: [next(iter(row.values()))["bn_layers"], *(left(row.get(tool)) for tool in TOOLS)]
        for name, row in sorted(rows.items(), key=lambda item: MODELS.index(item[0]))
    }
    shown = [[name, *counts[name]] for name in SHOWN if name in counts]
    sums = [
        sum(c for c in column if isinstance(c, int))
        for column in zip(*counts.values(), strict=True)
    ]
    total = [f"**all {len(counts)}**", *(f"**{each}**" for each in sums)]
    quality_rows = [
        [name, *(quality(rows[name].get(tool), rows[name].get("tf2onnx")) for tool in TOOLS)]
        for name in SHOWN
        if name in rows
    ]
    return "\n\n".join([
        markdown(["model", "BN layers", *TOOLS], [*shown, total]),
        markdown(["models", "BN layers", *TOOLS], families(counts)),
        markdown(["model", *TOOLS], quality_rows),
    ])  # fmt: skip


def families(counts: dict[str, list[int | str]]) -> list[list[object]]:
    """The models that are not shown, one row per family, such as EfficientNetB1 to B7.

    Those of which every tool leaves nothing are one row.
    """
    grouped: dict[str, list[str]] = {}
    for name in counts:
        if name not in SHOWN:
            family = FAMILY.sub("", name) if any(counts[name][1:]) else ""
            grouped.setdefault(family, []).append(name)
    rows: list[list[object]] = []
    for names in grouped.values():
        cells: list[object] = []
        for column in zip(*(counts[name] for name in names), strict=True):
            values = column if len(set(column)) > 1 else column[:1]
            cells.append(", ".join(map(str, values)))
        rows.append([", ".join(names), *cells])
    return rows


def markdown(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table whose first column is text and whose others are figures."""
    heads = list(heads)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def left(record: Record | None) -> int | str:
    """How many BN nodes one tool leaves."""
    if record is None:
        return "not measured"
    found: int | str = record["error"] if "error" in record else record["left"]
    return found


def quality(record: Record | None, base: Record | None) -> str:
    """The largest relative difference, and the time in seconds or as a multiple of tf2onnx's."""
    if record is None or "error" in record:
        return "" if record is None else str(record["error"])
    said = f"{record['difference']:.0e}"
    said = f"**{said}**" if record["difference"] > WRONG else said
    if record is base or base is None or "seconds" not in base:
        return f"{said}, {record['seconds']:.1f} s"
    said += f", {record['seconds'] / base['seconds']:.2f}"
    return f"{said} ({record['fold'] / base['seconds']:.2f})" if "fold" in record else said


# -- one model, in its own process --------------------------------------------------------------


def measure(name: str, tools: Iterable[str]) -> Iterator[Record]:
    """The results of each tool for one model."""
    from kerasbn.common.keras_internals import quiet_tensorflow

    quiet_tensorflow()
    import keras

    from kerasbn.folding.keras.float64 import predict_in_float64

    model = build(name)
    inputs = pair_of_images(model)
    truth = predict_in_float64(model, inputs)
    layers = model._flatten_layers(include_self=False)
    count = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "tf2onnx.onnx")
        warm_up(Path(folder, "small.onnx"))
        for tool in TOOLS:
            if tool in tools or (tool == "tf2onnx" and set(tools) & set(RIVALS)):
                path = plain if tool == "tf2onnx" else Path(folder, "other.onnx")
                found = figures(tool, model, plain, path, inputs, truth)
                if tool in tools:
                    yield {"model": name, "bn_layers": count, "tool": tool, **found}


def build(name: str) -> Any:
    """A model with random parameters, the same each time."""
    import keras

    from kerasbn.folding.keras.randomize import randomize_parameters
    from kerasbn.training.models import mlp

    keras.utils.set_random_seed(0)
    if name == "mnist":
        model = mlp()
    else:
        model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    randomize_parameters(model)
    settle(model)
    return model


def settle(model: Any) -> None:
    """Give the BN layers the moving statistics of two random images."""
    import keras
    import numpy as np

    layers = model._flatten_layers(include_self=False)
    normalizations = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
    momenta = [each.momentum for each in normalizations]
    for each in normalizations:
        each.momentum = 0.0  # the moving statistics become the batch's
    model(pair_of_images(model), training=True)
    for each, momentum in zip(normalizations, momenta, strict=True):
        each.momentum = momentum
        # A channel whose gamma is 0 reaches the next one as a constant, without any variance.
        variance = each.moving_variance.numpy()
        each.moving_variance.assign(np.maximum(variance, 0.1 * np.median(variance) + 1e-6))


def pair_of_images(model: Any) -> list[Any]:
    """Two random images for each input, in the input's dtype."""
    from kerasbn.folding.keras.randomize import random_inputs

    return [
        array[:2].astype(tensor.dtype)
        for array, tensor in zip(random_inputs(model), model.inputs, strict=True)
    ]


def warm_up(path: Path) -> None:
    """Import what conversions need: imports are not measured."""
    model = build("mnist")
    by_tf2onnx(model, path)
    by_kerasbn(model, path)


def figures(
    tool: str, model: Any, plain: Path, path: Path, inputs: list[Any], truth: list[Any]
) -> Record:
    """What one tool leaves, how far its file is from the Keras model, and the time it takes."""
    import onnx

    from kerasbn.folding.rounding import relative_difference
    from kerasbn.inference.remaining import remaining_nodes
    from kerasbn.inference.session import Session

    path.unlink(missing_ok=True)
    try:
        took = by_rival(tool, plain, path) if tool in RIVALS else timed(OURS[tool], model, path)
        if tool == "kerasbn":
            took["fold"] = timed(fold_alone, model)["seconds"]
        left = remaining_nodes(onnx.load(path))
        gap = relative_difference(Session(path).run(inputs), truth)
    except Exception as error:  # noqa: BLE001 - a rival that fails is a result
        said = " ".join(str(error).split())
        return {"error": f"fails ({type(error).__name__})", "said": said[:500]}
    return {"left": len(left), "difference": gap, **took}


def timed(work: Callable[..., object], *arguments: object) -> Record:
    """The processor time and the wall time that something takes."""
    processor, wall = sum(os.times()[:4]), time.perf_counter()  # its children's too
    work(*arguments)
    return {
        "seconds": round(sum(os.times()[:4]) - processor, 2),
        "wall": round(time.perf_counter() - wall, 2),
    }


# -- the tools ------------------------------------------------------------------------------------


def by_tf2onnx(model: Any, path: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
    tf2onnx.convert.from_keras(model, signature, opset=18, output_path=str(path))


def by_kerasbn(model: Any, path: Path) -> None:
    from kerasbn import export

    export(model, path)


def fold_alone(model: Any) -> None:
    """The part of `by_kerasbn` that plans and rewrites."""
    from kerasbn import fold

    fold(model, check=False)


def by_rival(tool: str, plain: Path, path: Path) -> Record:
    """Run an optimizer in its own process; returns the time it took, without imports."""
    done = subprocess.run(
        [sys.executable, __file__, "--rival", tool, plain, path],
        capture_output=True,
        text=True,
        timeout=60 * RIVAL_MINUTES,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    took: Record = json.loads(done.stdout.splitlines()[-1])
    return took


def by_onnxoptimizer(plain: str, path: str) -> None:
    import onnx
    import onnxoptimizer

    onnx.save(onnxoptimizer.optimize(onnx.load(plain)), path)


def by_onnxsim(plain: str, path: str) -> None:
    import onnx
    import onnxsim

    simplified, _ = onnxsim.simplify(onnx.load(plain))
    onnx.save(simplified, path)


def by_onnxslim(plain: str, path: str) -> None:
    import onnx
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(plain)), path)


def by_onnxruntime(plain: str, path: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])


RIVALS: dict[str, Callable[[str, str], None]] = {
    "onnxoptimizer": by_onnxoptimizer,
    "onnxsim": by_onnxsim,
    "onnxslim": by_onnxslim,
    "onnxruntime": by_onnxruntime,
}
OURS: dict[str, Callable[[Any, Path], None]] = {"tf2onnx": by_tf2onnx, "kerasbn": by_kerasbn}
TOOLS = ("tf2onnx", *RIVALS, "kerasbn")


if __name__ == "__main__":
    main()
