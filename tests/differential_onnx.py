"""Random ONNX graphs, each folded and compared with itself unfolded, in float64.

    python -m tests.differential_onnx --models 5000

The graphs are those of `random_onnx`. Folding's own check is left out, so that what it would catch
is counted here. Every third graph is folded in float32 too and run with onnxruntime. Graphs with a
free first axis are compared at a second length of it. Reasons to keep a node are
examined by `onnx_reasons`. Prints a line for each wrong result, with the seed that
makes the graph again, then how often each operation was folded into and passed through; the exit
code is 1 if any result was wrong.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # as pytest does

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx_reasons import NAME, Reasons
from random_onnx import RandomGraph, random_graph

from kerasbn.folding.onnx.evaluate import CannotEvaluate, evaluate
from kerasbn.folding.onnx.fold import fold_model
from kerasbn.folding.plan import Plan
from kerasbn.folding.rounding import relative_difference

Array = NDArray[Any]
EXACT = 1e-9
LEAST = 1e-3  # a normalization of equal values returns rounding errors
SINGLE = 1e-2  # in float32: above the rounding error of a deep graph, below that of a wrong fold
LINEAR = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "Gather", "LSTM", "GRU", "RNN",
    "LayerNormalization", "GroupNormalization", "RMSNormalization", "InstanceNormalization",
)  # fmt: skip
PASS_THROUGH = (
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat",
    "Expand", "Tile", "Pad", "Resize", "Upsample", "AveragePool", "MaxPool", "GlobalAveragePool",
    "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "Identity", "Dropout",
    "Add", "DepthToSpace", "SpaceToDepth", "Relu", "LeakyRelu", "PRelu",
)  # fmt: skip
IMPOSSIBLE = {
    *(f"forward {op}" for op in LINEAR[LINEAR.index("LayerNormalization") :]), "forward Gather",
    *(f"backward {op}" for op in ("LSTM", "GRU", "RNN")),
}  # fmt: skip


def outputs_of(model: ir.Model, feeds: dict[str, Array]) -> list[Array]:
    """The outputs of a model, in float64."""
    names = [str(value.name) for value in model.graph.outputs]
    made = evaluate(list(model.graph), feeds, names, model.opset_imports)
    return [made[name] for name in names]


def wrong_in(random: RandomGraph, model: ir.Model, folded: ir.Model) -> str | None:
    """What is wrong with a folded float64 model."""
    try:
        onnx.checker.check_model(ir.to_proto(folded), full_check=True)
    except Exception as reason:  # noqa: BLE001 - of several classes
        return f"invalid: {reason}"
    want = [random.values[name] for name in random.outputs]
    error = relative_difference(outputs_of(folded, random.feeds), want, LEAST)
    if not error <= EXACT:
        return f"error {error:.1e}"
    axes = [value.shape[0] for value in model.graph.inputs if value.shape]
    if not all(isinstance(axis, ir.SymbolicDim) for axis in axes):
        return None
    feeds = {source.name: source.array(7, batch=3) for source in random.sources}
    try:
        want = outputs_of(model, feeds)
    except CannotEvaluate:  # some Reshape has the length in it
        return None
    error = relative_difference(outputs_of(folded, feeds), want, LEAST)
    return None if error <= EXACT else f"error {error:.1e} with three examples"


def wrong_in_single(seed: int) -> str | None:
    """What is wrong with the same graph in float32, folded and run with onnxruntime."""
    random = random_graph(seed, "float32")
    folded, _ = fold_model(ir.from_proto(random.model), check=False)
    options = onnxruntime.SessionOptions()
    # Its own fusion of MatMul and BatchNormalization is wrong in some graphs, folded or not.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        ir.to_proto(folded).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in random.feeds.items()
    }
    want = [random.values[name] for name in random.outputs]
    error = relative_difference(session.run(random.outputs, feeds), want, LEAST)
    return None if error <= SINGLE else f"error {error:.1e} in float32"


def wrong_reasons(
    random: RandomGraph, model: ir.Model, folded: ir.Model, plan: Plan, counts: Counter[str]
) -> str | None:
    """A reason that is not true, if there is one."""
    reasons = Reasons(model, folded, random.values)
    for kept in plan.kept():
        for clause, is_true in reasons.judge(kept).items():
            counts["reasons shown" if is_true else "reasons not examined"] += 1
            if is_true is False:
                return f"{kept.layer}: untrue: {clause}"
    return None


def operations(model: ir.Model) -> dict[str, str]:
    """The operation of each node, by its name and by those of its outputs."""
    found: dict[str, str] = {}
    for node in model.graph:
        found |= {str(name): node.op_type for name in (node.name, *(v.name for v in node.outputs))}
    return found


def count(model: ir.Model, plan: Plan, counts: Counter[str]) -> None:
    """Count what was folded into what, in which direction and through what."""
    named = operations(model)
    counts["kept"] += len(plan.kept())

    def operation(name: str) -> str:
        return named.get(name.split(" + ")[0], "constant")

    for fold in plan.folds():
        counts[fold.direction] += 1
        counts["clips"] += bool(fold.clips)
        for name in fold.into:
            counts[f"{fold.direction} into {operation(name)}"] += 1
            for other in fold.through:
                counts[f"{fold.direction} into {operation(name)} through {operation(other)}"] += 1
        for name in fold.through:
            clip = "clip " if name in fold.clips else ""
            counts[f"{fold.direction} through {clip}{operation(name)}"] += 1


def verdict(seed: int, counts: Counter[str]) -> tuple[Plan, str | None]:
    """The plan for a random graph, and what is wrong with it or with what it leads to."""
    random = random_graph(seed)
    model, plan = ir.from_proto(random.model), Plan()
    for node in model.graph:
        node.metadata_props[NAME] = str(node.name or node.outputs[0].name)
    try:
        folded, plan = fold_model(model, check=False)
        wrong = wrong_in(random, model, folded)
        wrong = wrong or wrong_reasons(random, model, folded, plan, counts)
        if wrong is None and seed % 3 == 0:
            wrong = wrong_in_single(seed)
    except Exception as error:  # noqa: BLE001 - a crash is counted, and the rest goes on
        wrong = f"raised {type(error).__name__}: {error}"
    count(model, plan, counts)
    return plan, wrong


def never(counts: Counter[str]) -> list[str]:
    """What was never exercised, of all that can be."""
    wanted = [
        f"{to} {step} {op}"
        for to in ("backward", "forward")
        for step, operations in (("into", LINEAR), ("through", PASS_THROUGH))
        for op in operations
        if f"{to} {op}" not in IMPOSSIBLE
    ]
    wanted += [f"forward through clip {op}" for op in ("Relu", "Clip")]
    return [name for name in wanted if not counts[name]]


def main() -> int:
    """Run the graphs and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=1000, help="how many graphs")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first")
    parser.add_argument("--show", action="store_true", help="print each plan")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    begin = time.perf_counter()
    for seed in range(given.seed, given.seed + given.models):
        plan, wrong = verdict(seed, counts)
        if given.show:
            print(seed, *plan, sep="\n  ")  # noqa: T201 - a command prints
        if wrong:
            counts["wrong"] += 1
            print(f"seed {seed}: {wrong}", flush=True)  # noqa: T201 - a command prints
    triples = [name for name in counts if " into " in name and " through " in name]
    for name in sorted(set(counts) - set(triples)):
        print(f"{counts[name]:6} {name}")  # noqa: T201 - as above
    folds = sum(counts[way] for way in ("backward", "forward", "both", "merge"))
    print(  # noqa: T201 - as above
        f"never exercised: {', '.join(never(counts)) or 'nothing'}\n"
        f"{len(triples)} ways of a map through one operation into another\n"
        f"{given.models} graphs, {folds} folds ({counts['backward']} backward, "
        f"{counts['forward']} forward, {counts['both']} both, {counts['merge']} merged, "
        f"{counts['clips']} with clips), "
        f"{counts['kept']} kept, {counts['wrong']} wrong; {time.perf_counter() - begin:.0f} s"
    )
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
