"""The README's table: what is left of each network's normalizations, by kerasbn and by others.

    pip install "kerasbn[bench]"
    python tests/benchmarks/networks.py [NAME...] [--json FILE]

Each network of `keras.applications` is built without weights and worn in by `wear_in`: statistics
and biases as after training, a quarter of the gammas negative, a few zero. tf2onnx converts it as
its own command would; onnxoptimizer, onnxsim, onnxslim and onnxruntime's optimizer work on what
tf2onnx wrote, each with its defaults; kerasbn folds and exports the Keras network. For each are
told: the normalizations left as nodes, counted by `kerasbn.deploy.residuals`; the largest
difference from the Keras network in float64, relative to the largest output, on two random images;
the seconds it took, for the others without tf2onnx's.

A network takes a few minutes; each runs in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NETWORKS = (
    "ResNet50", "ResNet101", "ResNet50V2", "MobileNet", "MobileNetV2", "MobileNetV3Small",
    "MobileNetV3Large", "EfficientNetB0", "EfficientNetV2B0", "Xception", "InceptionV3",
    "InceptionResNetV2", "NASNetMobile", "DenseNet121",
)  # fmt: skip
TOOLS = ("tf2onnx", "onnxoptimizer", "onnxsim", "onnxslim", "onnxruntime", "kerasbn")


def main() -> None:
    """Measure the networks asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="mnist, or of keras.applications")
    parser.add_argument("--json", type=Path, help="keep the figures of each network here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))  # noqa: T201 - to the process that asked
        return
    rows = {}
    for name in options.names or ("mnist", *NETWORKS):
        command = [sys.executable, __file__, "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)  # noqa: T201
            continue
        rows[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name} {rows[name]}", file=sys.stderr)  # noqa: T201 - it takes long
        if options.json:
            options.json.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))  # noqa: T201 - what a benchmark is for


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The figures as a Markdown table: left, largest relative difference, seconds."""
    lines = [
        "| network | normalizations | " + " | ".join(TOOLS) + " |",
        "| --- | ---: |" + " ---: |" * len(TOOLS),
    ]
    for name, row in rows.items():
        cells = [cell(row["tools"][tool]) for tool in TOOLS]
        lines.append(f"| {name} | {row['normalizations']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(figures: dict[str, Any]) -> str:
    """The figures of one tool for one network."""
    if "error" in figures:
        return f"fails ({figures['error']})"
    return f"{figures['left']}, {figures['difference']:.0e}, {figures['seconds']:.1f} s"


def measure(name: str) -> dict[str, Any]:
    """The figures of every tool for one network."""
    from kerasbn.quiet import quiet_tensorflow

    quiet_tensorflow()
    import keras

    from kerasbn.deploy.faithful import in_float64, predict
    from kerasbn.folding.inputs import random_inputs

    network = build(name)
    inputs = [
        array[:2].astype(tensor.dtype)
        for array, tensor in zip(random_inputs(network), network.inputs, strict=True)
    ]
    truth = predict(in_float64(network), inputs)
    count = sum(
        isinstance(layer, keras.layers.BatchNormalization)
        for layer in network._flatten_layers(include_self=False)
    )
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "tf2onnx.onnx")
        tools = {
            tool: figures(tool, network, plain, Path(folder, f"{tool}.onnx"), inputs, truth)
            for tool in TOOLS
        }
    return {"normalizations": count, "tools": tools}


def figures(
    tool: str, network: Any, plain: Path, path: Path, inputs: list[Any], truth: list[Any]
) -> dict[str, Any]:
    """What one tool leaves, how far its file is from the truth, and the seconds it takes."""
    import onnx

    from kerasbn.deploy.onnx_graph import read_graph
    from kerasbn.deploy.residuals import residuals
    from kerasbn.deploy.session import Session
    from kerasbn.folding.check import difference

    try:
        TOOL[tool](network, plain, path)  # its imports are not what is measured
        start = time.perf_counter()
        TOOL[tool](network, plain, path)
        seconds = time.perf_counter() - start
        left = [r for r in residuals(read_graph(onnx.load(path))) if r.kind == "normalization"]
        gap = difference(Session(path).run(inputs), truth)
    except Exception as error:  # noqa: BLE001 - a rival that fails is a result
        return {"error": type(error).__name__}
    return {"left": len(left), "difference": gap, "seconds": seconds}


def build(name: str) -> Any:
    """The network called so, worn in, the same each time."""
    import keras

    from kerasbn.folding.worn import wear_in
    from kerasbn.training.networks import mlp

    keras.utils.set_random_seed(0)
    if name == "mnist":
        network = mlp()
    else:
        network = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    wear_in(network)
    return network


def by_tf2onnx(network: Any, plain: Path, path: Path) -> None:  # noqa: ARG001 - one signature
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in network.inputs]
    tf2onnx.convert.from_keras(network, signature, opset=18, output_path=str(path))


def by_onnxoptimizer(network: Any, plain: Path, path: Path) -> None:  # noqa: ARG001 - one signature
    import onnx
    import onnxoptimizer

    onnx.save(onnxoptimizer.optimize(onnx.load(plain)), path)


def by_onnxsim(network: Any, plain: Path, path: Path) -> None:  # noqa: ARG001 - one signature
    import onnx
    import onnxsim

    simplified, _ = onnxsim.simplify(onnx.load(plain))
    onnx.save(simplified, path)


def by_onnxslim(network: Any, plain: Path, path: Path) -> None:  # noqa: ARG001 - one signature
    import onnx
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(plain)), path)


def by_onnxruntime(network: Any, plain: Path, path: Path) -> None:  # noqa: ARG001 - one signature
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])


def by_kerasbn(network: Any, plain: Path, path: Path) -> None:  # noqa: ARG001 - one signature
    from kerasbn import export

    export(network, path)


TOOL: dict[str, Callable[[Any, Path, Path], None]] = {
    "tf2onnx": by_tf2onnx,
    "onnxoptimizer": by_onnxoptimizer,
    "onnxsim": by_onnxsim,
    "onnxslim": by_onnxslim,
    "onnxruntime": by_onnxruntime,
    "kerasbn": by_kerasbn,
}


if __name__ == "__main__":
    main()
