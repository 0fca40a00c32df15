"""Each pass makes its one change, says whether it did, and keeps the predictions.

Graphs are written in ONNX's textual form. Each has the input ``x``, of shape [N, 2, 3] unless it
says otherwise, and the output ``y``.
"""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from kerasbn.onnx_export import layout, linear, passes

X = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
X4 = np.random.default_rng(0).normal(size=(5, 2, 1, 6)).astype(np.float32)


def graph(text: str, x: str = "[N, 2, 3]", y: str = "", **constants: Any) -> ir.Model:
    """Return a model of the nodes in `text`, with float32 arrays and int64 lists as constants."""
    header = '<ir_version: 8, opset_import: ["" : 18]>'
    proto = onnx.parser.parse_model(f"{header} g (float{x} x) => (float{y} y) {{ {text} }}")
    if not y:
        proto.graph.output[0].type.tensor_type.ClearField("shape")
    for name, value in constants.items():
        array = np.asarray(value) if isinstance(value, np.ndarray) else np.array(value, np.int64)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = ir.from_proto(proto)
    passes.infer_shapes(model)
    return model


def operations(model: ir.Model) -> list[str]:
    """Return the operations; a rule writes its constants as nodes, which `CLEAN_UP` lifts."""
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def predict(model: ir.Model) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = X if len(session.get_inputs()[0].shape) == 3 else X4
    return np.asarray(session.run(None, {"x": x})[0])


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


CASES = {
    "flatten": (
        passes.rules(linear.flatten),
        graph("a = Relu(x) b = Reshape(a, s) y = Neg(b)", s=[-1, 6]),
        ["Relu", "Flatten", "Neg"],
    ),
    "idle reshape": (
        passes.rules(linear.idle_reshape),
        graph("a = Relu(x) b = Reshape(a, s) y = Neg(b)", s=[-1, 2, 3]),
        ["Relu", "Identity", "Neg"],
    ),
    "idle padding": (
        passes.rules(linear.idle_pad),
        graph("a = Relu(x) b = Pad(a, p) y = Neg(b)", p=[0] * 6),
        ["Relu", "Identity", "Neg"],
    ),
    "product of a matrix": (
        passes.rules(linear.matmul_to_gemm),
        graph("a = Flatten(x) y = MatMul(a, w)", w=ones(6, 4)),
        ["Flatten", "Gemm"],
    ),
    "product by way of a matrix": (
        passes.rules(linear.matmul_of_reshape),
        graph("a = Reshape(x, r) b = MatMul(a, w) y = Reshape(b, s)", r=[-1, 3], s=[-1, 2, 4],
              w=ones(3, 4)),
        ["MatMul"],
    ),
    "product by way of a matrix, two free axes": (
        passes.rules(linear.matmul_of_reshape),
        graph(
            "n = Shape <end = 2> (x) a = Reshape(x, r) b = MatMul(a, w)"
            "s = Concat <axis = 0> (n, four) y = Reshape(b, s)",
            "[N, T, 3]", "[N, T, 4]", r=[-1, 3], four=[4], w=ones(3, 4),
        ),
        ["Shape", "Concat", "MatMul"],
    ),
    "bias of a product": (
        passes.rules(linear.bias),
        graph("a = Flatten(x) b = Gemm(a, w) y = Add(t, b)", w=ones(6, 4), t=ones(4)),
        ["Flatten", "Gemm"],
    ),
    "bias of a product of rank 3 comes second": (
        passes.rules(linear.bias),
        graph("a = MatMul(x, w) y = Add(t, a)", w=ones(3, 4), t=ones(1, 4)),
        ["MatMul", "Add"],
    ),
    "bias of a convolution": (
        passes.rules(linear.bias),
        graph("a = Conv(x, w) y = Add(a, t)", w=ones(4, 2, 1), t=ones(1, 4, 1)),
        ["Conv"],
    ),
    "bias behind a transposed layout": (
        passes.rules(linear.bias),
        graph("a = Conv(x, w) b = Transpose <perm = [0, 2, 1]> (a) y = Add(b, t)",
              w=ones(4, 2, 1), t=ones(4)),
        ["Conv", "Transpose"],
    ),
    "bias behind a squeeze": (
        passes.rules(linear.bias),
        graph("a = Conv(x, w) b = Squeeze(a, two) y = Add(b, t)", "[N, 2, 1, 6]",
              w=ones(4, 2, 1, 1), t=ones(4, 1), two=[2]),
        ["Conv", "Squeeze"],
    ),
    "bias behind a split into heads": (
        passes.rules(linear.bias),
        graph("a = MatMul(x, w) b = Reshape(a, s) y = Add(b, t)", w=ones(3, 4), s=[-1, 2, 2, 2],
              t=ones(2, 2)),
        ["MatMul", "Add", "Reshape"],
    ),
    "one lower bound": (
        passes.rules(linear.one_bound("Max")),
        graph("a = Neg(x) y = Max(c, a)", c=np.full((1, 3), 0.25, np.float32)),
        ["Neg", "Clip"],
    ),
    "one upper bound": (
        passes.rules(linear.one_bound("Min")),
        graph("a = Neg(x) y = Min(a, c)", c=np.float32(0.25).reshape(1)),
        ["Neg", "Clip"],
    ),
    "two bounds": (
        passes.rules(linear.both_bounds),
        graph('a = Clip(x, "", c) y = Clip(a, b)', b=np.array(-0.5, np.float32),
              c=np.array(0.25, np.float32)),
        ["Clip"],
    ),
    "einsum over two axes": (
        passes.rules(linear.einsum_to_matmul),
        graph('y = Einsum <equation = "abc,cbde->aed"> (x, w)', w=ones(3, 2, 4, 5)),
        ["Reshape", "MatMul", "Reshape"],
    ),
    "einsum with a constant first": (
        passes.rules(linear.einsum_to_matmul),
        graph('y = Einsum <equation = "db,abc->adc"> (w, x)', w=ones(5, 2)),
        ["Transpose", "MatMul", "Transpose"],
    ),
    "einsum of two tensors": (
        passes.rules(linear.einsum_to_matmul),
        graph('a = Neg(x) y = Einsum <equation = "nac,nbc->nba"> (x, a)'),
        ["Neg", "Transpose", "MatMul", "Transpose"],
    ),
    "unsqueeze behind a transpose": (
        passes.rules(layout.unsqueeze_behind_transpose),
        graph("a = Unsqueeze(x, one) y = Transpose <perm = [0, 3, 1, 2]> (a)", one=[1]),
        ["Transpose", "Unsqueeze"],
    ),
    "squeeze ahead of a transpose": (
        passes.rules(layout.squeeze_ahead_of_transpose),
        graph("a = Transpose <perm = [0, 2, 3, 1]> (x) y = Squeeze(a, one)", "[N, 2, 1, 6]",
              one=[1]),
        ["Squeeze", "Transpose"],
    ),
    "squeeze ahead of a convolution": (
        passes.rules(layout.squeeze_ahead_of_convolution("Conv")),
        graph("a = Conv <pads = [0, 1, 0, 1], strides = [1, 2]> (x, w) y = Squeeze(a, two)",
              "[N, 2, 1, 6]", w=ones(4, 2, 1, 3), two=[2]),
        ["Squeeze", "Conv"],
    ),
    "slice of a transposed convolution": (
        passes.rules(layout.slice_of_conv_transpose),
        graph("a = ConvTranspose <strides = [2]> (x, w) y = Slice(a, one, five, two)",
              w=ones(2, 4, 3), one=[1], five=[5], two=[2]),
        ["ConvTranspose"],
    ),
    "squeeze of an unsqueeze": (
        passes.rules(layout.squeeze_of_unsqueeze),
        graph("a = Unsqueeze(x, one) b = Squeeze(a, one) y = Neg(b)", one=[1]),
        ["Identity", "Neg"],
    ),
    "reduction ahead of a transpose": (
        passes.rules(layout.reduction_ahead_of_transpose("ReduceMean")),
        graph("a = Transpose <perm = [0, 2, 1]> (x) y = ReduceMean <keepdims = 0> (a, one)",
              one=[1]),
        ["ReduceMean"],
    ),
    "constants": (
        passes.fold_constants,
        graph("a = Add(c, d) y = Mul(x, a)", c=ones(3), d=ones(3)),
        ["Mul"],
    ),
    "a split of a constant": (
        passes.fold_constants,
        graph("a, b = Split(c, n) y = Mul(x, b)", c=ones(4), n=[1, 3]),
        ["Split", "Mul"],
    ),
    "bounds computed from shapes": (
        passes.settle_shapes,
        graph("s = Shape(x) t = Gather(s, last) e = Sub(t, one) y = Slice(x, one, e, last)",
              last=[2], one=[1]),
        ["Shape", "Gather", "Sub", "Slice"],
    ),
    "zero initial state": (
        passes.drop_zero_state,
        graph(
            "z = Unsqueeze(h, zero) y = LSTM <hidden_size = 2> (x, w, r, b, , z, z)",
            y="[N, 1, 2, 2]", w=ones(1, 8, 3), r=ones(1, 8, 2), b=ones(1, 16),
            h=np.zeros((2, 2), np.float32), zero=[0],
        ),
        ["Unsqueeze", "LSTM"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_pass(name: str) -> None:
    step, model, wanted = CASES[name]
    before = predict(model)
    assert step(model).modified
    assert operations(model) == wanted
    np.testing.assert_allclose(predict(model), before, rtol=1e-5, atol=1e-6)
    passes.infer_shapes(model)
    assert not step(model).modified, "a pass with nothing left to do says so"


UNTOUCHED = {
    "a shape with other examples": (
        passes.rules(linear.flatten), graph("y = Reshape(x, s)", s=[-1, 3]),
    ),
    "a product with another split": (
        passes.rules(linear.matmul_of_reshape),
        graph("a = Reshape(x, r) b = MatMul(a, w) y = Reshape(b, s)", r=[-1, 3], s=[-1, 4, 2],
              w=ones(3, 4)),
    ),
    "an addend that is not per channel": (
        passes.rules(linear.bias),
        graph("a = Conv(x, w) y = Add(a, t)", w=ones(4, 2, 1), t=ones(1, 4, 3)),
    ),
    "a convolution with a second reader, which would get the bias too": (
        passes.rules(linear.bias),
        graph("a = Conv(x, w) b = Add(a, t) y = Mul(a, b)", w=ones(4, 2, 1), t=ones(1, 4, 1)),
    ),
    "bounds per channel": (
        passes.rules(linear.one_bound("Max")), graph("y = Max(x, c)", c=ones(3)),
    ),
    "bounds that cross": (
        passes.rules(linear.both_bounds),
        graph('a = Clip(x, "", c) y = Clip(a, b)', b=np.array(0.5, np.float32),
              c=np.array(0.25, np.float32)),
    ),
    "a kernel for each position": (
        passes.rules(linear.einsum_to_matmul),
        graph('y = Einsum <equation = "abc,bcd->abd"> (x, w)', w=ones(2, 3, 4)),
    ),
    "a reduction that changes the order of axes": (
        passes.rules(layout.reduction_ahead_of_transpose("ReduceMean")),
        graph("a = Transpose <perm = [2, 1, 0]> (x) y = ReduceMean <keepdims = 0> (a, one)",
              one=[1]),
    ),
    "bounds that depend on a free axis": (
        passes.settle_shapes,
        graph("s = Shape(x) t = Gather(s, zero) e = Sub(t, one) y = Slice(x, one, e, zero)",
              zero=[0], one=[1]),
    ),
    "an initial state": (
        passes.drop_zero_state,
        graph(
            "y = LSTM <hidden_size = 2> (x, w, r, b, , h, h)", y="[N, 1, 2, 2]",
            w=ones(1, 8, 3), r=ones(1, 8, 2), b=ones(1, 16), h=ones(1, 2, 2),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNTOUCHED)
def test_left_alone(name: str) -> None:
    step, model = UNTOUCHED[name]
    before = operations(model)
    assert not step(model).modified
    assert operations(model) == before


# What onnx_ir and onnxscript do, put together: x * (2 + 3), twice, by way of what changes nothing.
CLUTTER = """
    a = Identity(x) b = Transpose <perm = [0, 1, 2]> (a) c = Add(two, three)
    d = Mul(b, c) e = Mul(x, c) unused = Exp(d) f = Cast <to = 1> (e)
    g = Transpose <perm = [1, 2, 0]> (d) h = Transpose <perm = [2, 0, 1]> (g)
    y = Add(h, f)
"""


def test_simplify_removes_what_changes_nothing() -> None:
    model = graph(CLUTTER, two=ones(1), three=ones(1))
    before = predict(model)
    passes.simplify(model)
    assert operations(model) == ["Mul", "Add"]
    np.testing.assert_allclose(predict(model), before, rtol=1e-6)


def test_simplify_moves_padding_into_the_convolution() -> None:
    model = graph("a = Pad(x, p) y = Conv(a, w)", w=ones(4, 2, 3), p=[0, 0, 1, 0, 0, 1])
    before = predict(model)
    passes.simplify(model)
    assert operations(model) == ["Conv"]
    np.testing.assert_allclose(predict(model), before, rtol=1e-5, atol=1e-6)


def test_simplify_makes_a_computed_shape_a_constant() -> None:
    model = graph(
        "s = Shape(x) n = Gather(s, zero) t = Concat <axis = 0> (n, six) y = Reshape(x, t)",
        zero=[0], six=[6],
    )  # fmt: skip
    passes.simplify(model)
    assert operations(model) == ["Flatten"]


def test_simplify_keeps_names_of_outputs_that_are_the_same_value() -> None:
    model = graph("a = Relu(x) y = Identity(a)")
    model.graph.outputs.append(model.graph[0].outputs[0])
    passes.simplify(model)
    assert [value.name for value in model.graph.outputs] == ["y", "a"]
    assert operations(model) == ["Relu", "Identity"]
