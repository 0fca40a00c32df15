"""Every function of the table against the TensorFlow function of that name."""

from functools import reduce
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasbn.common.tensorflow_ops import FUNCTIONS, Sizes, function_named

X = np.random.default_rng(0).normal(size=(2, 4, 6, 4)).astype("float32")
# Arguments after the first, by the name that Keras 2 stores.
CASES: list[tuple[str, dict[str, Any]]] = [
    *((f"math.{name}", {}) for name in (
        "abs", "ceil", "cos", "cosh", "erf", "exp", "expm1", "floor", "log_sigmoid", "negative",
        "reciprocal", "round", "sigmoid", "sign", "sin", "sinh", "softplus", "square", "tan",
        "tanh", "log", "log1p", "sqrt", "rsqrt", "reduce_mean", "reduce_any", "reduce_all",
    )),
    *((f"nn.{name}", {}) for name in (
        "elu", "log_softmax", "relu", "relu6", "selu", "softmax", "softsign", "leaky_relu", "gelu",
        "silu", "swish",
    )),
    *((f"math.{name}", {"y": 0.3}) for name in (
        "add", "subtract", "multiply", "truediv", "divide", "maximum", "minimum", "floordiv",
        "floormod", "mod", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal",
        "squared_difference", "pow",
    )),
    *((f"math.reduce_{name}", {"axis": [1, 2], "keepdims": True}) for name in (
        "mean", "sum", "max", "min", "prod", "std", "variance", "logsumexp", "any", "all",
    )),
    ("math.subtract", {"y": [1.0, 2.0, 3.0, 4.0]}),
    ("compat.v1.floor_div", {"y": 0.3}),
    ("math.logical_not", {}),
    ("math.logical_and", {"y": True}),
    ("math.logical_or", {"y": False}),
    ("math.argmax", {"axis": -1}),
    ("math.argmin", {"axis": 1, "output_type": "int32"}),
    ("cast", {"dtype": "float16"}),
    ("expand_dims", {"axis": 1}),
    ("squeeze", {"axis": 1}),
    ("unstack", {"axis": 2}),
    ("repeat", {"repeats": 2, "axis": 1}),
    ("roll", {"shift": 1, "axis": 2}),
    ("zeros_like", {}),
    ("ones_like", {}),
    ("__operators__.add", {"y": 2.0}),
    ("reshape", {"shape": [-1, 8, 12]}),
    ("reshape", {"shape": [None, 24, 4]}),
    ("split", {"num_or_size_splits": 2, "axis": -1}),
    ("split", {"num_or_size_splits": [1, 3], "axis": -1}),
    ("compat.v1.transpose", {"perm": [0, 3, 1, 2], "conjugate": False}),
    ("identity", {}),
    ("stop_gradient", {}),
    ("tile", {"multiples": [1, 2, 1, 3]}),
    ("reverse", {"axis": [1, 3]}),
    ("compat.v1.pad", {"paddings": [[0, 0], [1, 2], [0, 1], [0, 0]], "constant_values": 3.0}),
    ("pad", {"paddings": [[0, 0], [1, 2], [0, 1], [0, 0]], "mode": "REFLECT"}),
    ("pad", {"paddings": [[0, 0], [1, 2], [0, 1], [0, 0]], "mode": "SYMMETRIC"}),
    ("slice", {"begin": [0, 1, 2, 0], "size": [-1, 2, 3, -1]}),
    ("gather", {"indices": [2, 0], "axis": -1}),
    ("where", {"x": 1.0, "y": [1.0, 2.0, 3.0, 4.0]}),
    ("clip_by_value", {"clip_value_min": -0.5, "clip_value_max": 0.75}),
    ("linalg.matmul", {"b": X[0, 0].T.tolist()}),
    ("linalg.matmul", {"b": X[0, 0].tolist(), "transpose_a": True}),
    ("linalg.matmul", {"b": X[0, 0].tolist(), "transpose_b": True}),
    ("norm", {"axis": -1}),
    ("math.l2_normalize", {"axis": [1, 2]}),
    ("nn.bias_add", {"bias": [1.0, 2.0, 3.0, 4.0], "data_format": "NHWC"}),
    ("nn.bias_add", {"bias": [1.0, 2.0, 3.0, 4.0], "data_format": "NCHW"}),
    ("nn.leaky_relu", {"alpha": 0.3}),
    ("nn.gelu", {"approximate": True}),
    ("nn.depth_to_space", {"block_size": 2}),
    ("nn.space_to_depth", {"block_size": 2, "data_format": "NHWC"}),
    ("image.resize", {"size": [7, 5]}),
    ("image.resize", {"size": [8, 3], "method": "nearest"}),
    ("image.resize", {"size": [2, 3], "antialias": True}),
]  # fmt: skip
POSITIVE = ("log", "log1p", "sqrt", "rsqrt", "pow")
LOGICAL = ("logical_not", "logical_and", "logical_or", "reduce_any", "reduce_all", "where")


def tensorflow_function(name: str) -> Any:
    if name == "__operators__.add":
        return tf.add
    return reduce(getattr, name.split("."), tf)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_a_function_computes_what_tensorflow_does(name: str, arguments: dict[str, Any]) -> None:
    bare, x = name.rpartition(".")[2], X
    if bare in POSITIVE:
        x = np.abs(X)
    elif bare in LOGICAL:
        x = X > 0
    elif bare == "squeeze":
        x = X[:, :1]
    given = keras.Input(x.shape[1:], dtype=str(x.dtype))
    function = function_named(name)
    assert function is not None
    model = keras.Model(given, function(given, **arguments))
    for key in ("shape", "paddings", "size"):
        if key in arguments:  # what TensorFlow takes as a tensor
            sizes = [-1 if each is None else each for each in arguments[key]]
            arguments = {**arguments, key: tf.constant(sizes)}
    wanted = tensorflow_function(name)(x, **arguments)
    for made, each in zip(*map(keras.tree.flatten, (model(x), wanted)), strict=True):
        assert made.dtype == each.dtype
        np.testing.assert_allclose(made, each, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["concat", "stack"])
def test_a_function_of_several_tensors(name: str) -> None:
    given, function = keras.Input(X.shape[1:]), function_named(name)
    assert function is not None
    model = keras.Model(given, function([given, -given], axis=-1))
    np.testing.assert_array_equal(model(X), getattr(tf, name)([X, -X], axis=-1))


def test_slices_and_shapes() -> None:
    item, shape = FUNCTIONS["__operators__.getitem"], FUNCTIONS["shape"]
    given = keras.Input(X.shape[1:])
    specs: list[Any] = [
        [..., slice(None, None, -1)],
        [slice(None), 1],
        [slice(None), None, slice(1, 3)],
    ]
    for spec in specs:
        np.testing.assert_array_equal(keras.Model(given, item(given, spec))(X), X[tuple(spec)])
    sizes = shape(given)
    assert (sizes, item(sizes, 0), item(sizes, [-1])) == (Sizes((None, 4, 6, 4)), None, 4)


def test_every_function_is_tested() -> None:
    tested = {name for name, _ in CASES} | {"concat", "stack", "__operators__.getitem", "shape"}
    assert set(FUNCTIONS.values()) == {function_named(name) for name in tested}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gather", {"indices": [0], "batch_dims": 1}),
        ("norm", {"ord": 1}),
        ("image.resize", {"size": [2, 2], "preserve_aspect_ratio": True}),
        ("math.reduce_sum", {"reduction_indices": 1}),
    ],
)
def test_arguments_without_a_counterpart_are_refused(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        FUNCTIONS[name.rpartition("math.")[2]](keras.Input(X.shape[1:]), **arguments)


def test_division_of_integers_is_refused() -> None:
    with pytest.raises(ValueError, match="divide int32"):
        FUNCTIONS["truediv"](keras.Input((3,), dtype="int32"), 2)


def test_functions_without_a_counterpart() -> None:
    assert function_named("einsum") is None
    assert function_named("nn.conv2d") is None
