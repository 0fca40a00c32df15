"""The self-check of ONNX models: it passes what is exact and undoes what is not."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx_chains import X, batch_norm, chain, node, random
from random_onnx import random_graph

from kerasbn.common.errors import InputError
from kerasbn.folding.affine import Affine
from kerasbn.folding.linear import LinearMap
from kerasbn.folding.onnx.fold import compare, fold_model
from kerasbn.folding.onnx.verification import SelfCheck, _surroundings
from kerasbn.folding.plan import Kept
from kerasbn.folding.rounding import unit_of

CASES = sorted((Path(__file__).parent / "cases").glob("*.onnx"))
CHANGES = "would change the predictions"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_exact_folds_pass(path: Path) -> None:
    model = ir.load(path)
    _, unchecked = fold_model(model, check=False)
    _, plan = fold_model(model)
    assert list(map(str, plan)) == list(map(str, unchecked))


def conv_model(dtype: int = onnx.TensorProto.FLOAT, eps: float = 1e-5) -> ir.Model:
    """Two convolutions with padding, a BN layer behind each, and a pool; free axes."""
    random = np.random.default_rng(0)
    kind = helper.tensor_dtype_to_np_dtype(dtype)

    def constant(name: str, array: Any) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(np.asarray(array, kind), name)

    nodes, initializers = [], []
    for k, (name, made) in enumerate([("x", "h"), ("r", "y")]):
        names = [f"{each}{k}" for each in ("w", "b", "gamma", "beta", "mean", "variance")]
        initializers += [constant(names[0], random.normal(size=(3, 3, 3, 3)) / 5)]
        initializers += [constant(each, random.normal(size=3)) for each in names[1:5]]
        initializers += [constant(names[5], random.uniform(0.02, 2, 3))]
        nodes += [
            helper.make_node("Conv", [name, *names[:2]], [f"c{k}"], f"conv{k}", pads=[1] * 4),
            helper.make_node(
                "BatchNormalization", [f"c{k}", *names[2:]], [made], f"bn{k}", epsilon=eps
            ),
        ]
    nodes.insert(2, helper.make_node("Relu", ["h"], ["r"], "relu"))
    ports = [
        helper.make_tensor_value_info(name, dtype, ["n", 3, "height", "width"]) for name in "xy"
    ]
    graph = helper.make_graph(nodes, "convs", ports[:1], ports[1:], initializers)
    opsets = [helper.make_opsetid("", 18)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=9))


@pytest.mark.parametrize("dtype", ["FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16"])
def test_every_float_dtype_is_checked(dtype: str) -> None:
    model = conv_model(getattr(onnx.TensorProto, dtype))
    folded, plan = fold_model(model)
    assert len(plan.folds()) == 2
    assert plan.unrun == (dtype in ("DOUBLE", "BFLOAT16"))  # no kernels in onnxruntime on a CPU
    assert ("each fold was checked by itself" in plan.summary()) == plan.unrun
    kind = helper.tensor_dtype_to_np_dtype(getattr(onnx.TensorProto, dtype))
    samples = [np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(kind)]
    difference = compare(model, folded, samples)
    assert 0 < difference.relative < 20 * unit_of(kind)


def test_an_axis_of_length_minus_one_is_free() -> None:
    """PaddlePaddle writes them."""
    proto = ir.to_proto(conv_model())
    for value in (*proto.graph.input, *proto.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_value = -1
    _, plan = fold_model(ir.from_proto(proto))
    assert len(plan.folds()) == 2


def scaled(factor: float) -> Callable[..., Any]:
    """`LinearMap.after` with a kernel that is a little off."""
    original = LinearMap.after

    def after(self: LinearMap, k: Any, b: Any, a: Affine) -> Any:
        k, b = original(self, k, b, a)
        return k * factor, b

    return after


@pytest.mark.parametrize("dtype", ["FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16"])
def test_an_error_far_below_the_rounding_of_the_dtype_is_found(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = conv_model(getattr(onnx.TensorProto, dtype))
    monkeypatch.setattr(LinearMap, "after", scaled(1 + 1e-8))
    _, plan = fold_model(model)
    assert not plan.folds()
    assert all(CHANGES in each.reason for each in plan.kept())


def test_only_the_wrong_fold_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = conv_model()
    original = LinearMap.after

    def wrong(self: LinearMap, k: Any, b: Any, a: Affine) -> Any:
        k, b = original(self, k, b, a)
        # The second kernel only.
        return (k, b + 1) if abs(float(a.t.flat[0]) - second) < 1e-9 else (k, b)

    values = {
        k: v.const_value.numpy() for k, v in model.graph.initializers.items() if v.const_value
    }
    s = values["gamma1"] / np.sqrt(
        values["variance1"].astype(float) + np.float32(1e-5).astype(float)
    )
    second = float((values["beta1"] - s * values["mean1"])[0])
    monkeypatch.setattr(LinearMap, "after", wrong)
    _, plan = fold_model(model)
    assert [isinstance(each, Kept) for each in plan] == [False, True]
    assert CHANGES in plan.kept()[0].reason


def test_a_fold_that_multiplies_rounding_errors_is_undone() -> None:
    """The mean is far from 0, so that W x - W mean cancels, while x - mean does not."""
    random = np.random.default_rng(0)
    arrays = {
        "mean": np.full(8, 3e6),
        "w": random.normal(size=(8, 4)),
        "x": 3e6 + random.normal(size=(2, 8)),
    }
    constants = [
        onnx.numpy_helper.from_array(arrays[name].astype(np.float32), name)
        for name in ("mean", "w")
    ]
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"], "center"),
        helper.make_node("MatMul", ["c", "w"], ["y"], "dense"),
    ]
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, n])
        for name, n in (("x", 8), ("y", 4))
    ]
    graph = helper.make_graph(nodes, "cancel", ports[:1], ports[1:], constants)
    opsets = [helper.make_opsetid("", 18)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    _, unaware = fold_model(model, check=False)
    assert unaware.folds()
    _, plan = fold_model(model, inputs={"x": arrays["x"]})
    assert not plan.folds()
    assert "in its own dtype" in plan.kept()[0].reason


def test_integers_stay_within_the_table_that_they_select_from() -> None:
    for seed in range(200, 260):
        model = ir.from_proto(random_graph(seed, "float32").model)
        if any(value.dtype == ir.DataType.INT64 for value in model.graph.inputs):
            assert SelfCheck(model).runs
            return
    raise AssertionError


def test_inputs_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="shape"):
        fold_model(conv_model(), inputs={"x": np.ones((1, 2, 8, 8))})
    with pytest.raises(InputError, match="received z, expected x"):
        fold_model(conv_model(), inputs={"z": np.ones((1, 3, 8, 8))})


@pytest.mark.slow
def test_an_empty_tensor_has_no_spread() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (arrays,) = _surroundings({"x": np.empty((0, 3), np.float32)})
    assert arrays["x"].shape == (0, 3)


def test_the_check_loads_no_tensorflow() -> None:
    code = "import sys, kerasbn.folding.onnx.verification; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tiny_probabilities_are_judged_by_the_units_of_1() -> None:
    """A detector of nothing returns about 1e-7, which onnxruntime computes to units of 6e-8."""
    offset = np.array([-17.3, -16.1, -16.7], "f4")
    bias = node("Add", X, offset)
    model = chain((2, 20), node("Gemm", X, random(20, 3) / 9), batch_norm(3), bias, node("Sigmoid"))
    folded, plan = fold_model(ir.from_proto(model))
    assert len(plan.folds()) == 2
    assert [each.op_type for each in folded.graph] == ["Gemm", "Sigmoid"]
