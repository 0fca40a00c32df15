"""The TensorFlow functions that Keras 2 stored as layers, written with `keras.ops`.

Each computes the same as the TensorFlow function and has its parameters, the first of which is
passed by position. What is not a parameter here has no counterpart and is refused.
"""
# ruff: noqa: ANN401 - tensors, numbers or nested lists of them
# ruff: noqa: A002, ARG001, ARG005 - the parameters are those of TensorFlow

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
from keras import ops


class Sizes(tuple[int | None, ...]):
    """The shape of a tensor, which `tf.shape` returns; None for a free axis."""

    __slots__ = ()


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of two values; TensorFlow gives a constant the dtype of the tensor."""

    def call(x: Any, y: Any) -> Any:
        dtype = next(each.dtype for each in (x, y) if hasattr(each, "dtype"))
        x, y = (np.asarray(each, dtype) if isinstance(each, list) else each for each in (x, y))
        return function(x, y)

    return call


def _where(condition: Any, x: Any, y: Any) -> Any:
    dtype = next((each.dtype for each in (x, y) if hasattr(each, "dtype")), "float32")
    x, y = (np.asarray(each, dtype) if isinstance(each, list) else each for each in (x, y))
    return ops.where(condition, x, y)


def _divide(x: Any, y: Any) -> Any:
    dtype = next(each.dtype for each in (x, y) if hasattr(each, "dtype"))
    if "float" not in dtype:
        raise ValueError(f"TensorFlow and Keras 3 divide {dtype} with other dtypes")
    return _elementwise(ops.true_divide)(x, y)


def _index(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Any, axis: int = 0, output_type: str = "int64") -> Any:
        return ops.cast(function(x, axis=axis), output_type)

    return call


def _reshape(tensor: Any, shape: Any) -> Any:
    return ops.reshape(tensor, [-1 if size is None else size for size in shape])


def _split(value: Any, num_or_size_splits: Any, axis: int = 0, num: Any = None) -> Any:
    if isinstance(num_or_size_splits, int):
        return ops.split(value, num_or_size_splits, axis=axis)
    return ops.split(value, list(accumulate(num_or_size_splits))[:-1], axis=axis)


def _pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: float = 0) -> Any:
    is_constant = mode.lower() == "constant"
    return ops.pad(tensor, paddings, mode.lower(), constant_values if is_constant else None)


def _slice(input_: Any, begin: Any, size: Any) -> Any:
    ends = (None if n == -1 else start + n for start, n in zip(begin, size, strict=True))
    return input_[tuple(map(slice, begin, ends))]


def _item(tensor: Any, slice_spec: Any) -> Any:
    """Index a tensor, or the sizes that `tf.shape` returns."""
    if isinstance(tensor, Sizes):
        return tensor[slice_spec[0] if isinstance(slice_spec, list) else slice_spec]
    return tensor[tuple(slice_spec) if isinstance(slice_spec, list) else slice_spec]


def _bias_add(value: Any, bias: Any, data_format: str | None = None) -> Any:
    if not data_format or not data_format.startswith("NC"):
        return _elementwise(ops.add)(value, bias)
    # `ops.add` takes any column for a bias of the last axis, if that has the same size.
    column = np.reshape(bias, (-1, *[1] * (len(value.shape) - 2)))
    return _elementwise(ops.subtract)(value, (-column).tolist())


def _matmul(
    a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False,
    adjoint_a: bool = False, adjoint_b: bool = False, a_is_sparse: bool = False,
    b_is_sparse: bool = False,
) -> Any:  # fmt: skip
    del a_is_sparse, b_is_sparse  # they change how it is computed, not what
    a = ops.swapaxes(a, -1, -2) if transpose_a or adjoint_a else a
    b = ops.swapaxes(b, -1, -2) if transpose_b or adjoint_b else b
    return _elementwise(ops.matmul)(a, b)


def _l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    length = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(length, epsilon)))


def _norm(tensor: Any, ord: str = "euclidean", axis: Any = None, keepdims: bool = False) -> Any:
    if ord != "euclidean":
        raise ValueError(f"its ord={ord!r} is not supported")
    return ops.sqrt(ops.sum(ops.square(tensor), axis=axis, keepdims=keepdims))


def _gather(params: Any, indices: Any, axis: int = 0, batch_dims: int = 0) -> Any:
    if batch_dims:
        raise ValueError("its batch_dims are not supported")
    return ops.take(params, np.asarray(indices) if isinstance(indices, list) else indices, axis)


def _resize(
    images: Any, size: Any, method: str = "bilinear", preserve_aspect_ratio: bool = False,
    antialias: bool = False,
) -> Any:  # fmt: skip
    if preserve_aspect_ratio:
        raise ValueError("its preserve_aspect_ratio is not supported")
    return ops.image.resize(
        images, tuple(size), method, antialias=antialias, data_format="channels_last"
    )


def _silu(x: Any, beta: float = 1.0) -> Any:
    return ops.multiply(x, ops.sigmoid(ops.multiply(x, beta)))


def _channels_last(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Any, block_size: int, data_format: str = "NHWC") -> Any:
        known = {"NHWC": "channels_last", "NCHW": "channels_first"}
        return function(x, block_size, data_format=known[data_format])

    return call


# Those that `keras.ops` has under the same name, with the same further parameters.
_SAME = (
    "abs", "ceil", "cos", "cosh", "erf", "exp", "expm1", "floor", "log", "log1p", "log_sigmoid",
    "logical_not", "negative", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh",
    "softplus", "sqrt", "square", "tan", "tanh", "cast", "expand_dims", "squeeze", "stack",
    "unstack", "repeat", "roll", "zeros_like", "ones_like",
    "elu", "log_softmax", "relu", "relu6", "selu", "softmax", "softsign",
)  # fmt: skip
_PAIRS = {
    "add": ops.add, "subtract": ops.subtract, "multiply": ops.multiply, "pow": ops.power,
    "maximum": ops.maximum, "minimum": ops.minimum, "floordiv": ops.floor_divide,
    "floor_div": ops.floor_divide, "floormod": ops.mod, "mod": ops.mod, "equal": ops.equal,
    "not_equal": ops.not_equal, "less": ops.less, "less_equal": ops.less_equal,
    "greater": ops.greater, "greater_equal": ops.greater_equal, "logical_and": ops.logical_and,
    "logical_or": ops.logical_or,
    "squared_difference": lambda x, y: ops.square(ops.subtract(x, y)),
}  # fmt: skip

# By the name in the configuration, without the modules that `function_named` leaves out.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(ops, name) for name in _SAME},
    **{name: _elementwise(function) for name, function in _PAIRS.items()},
    **{f"reduce_{name}": getattr(ops, name) for name in ("mean", "sum", "max", "min", "prod")},
    **{f"reduce_{name}": getattr(ops, name) for name in ("std", "any", "all", "logsumexp")},
    "reduce_variance": ops.var,
    "truediv": _divide,
    "divide": _divide,
    "argmax": _index(ops.argmax),
    "argmin": _index(ops.argmin),
    "__operators__.getitem": _item,
    "__operators__.add": _elementwise(ops.add),
    "shape": lambda x, out_type="int32": Sizes(x.shape),
    "reshape": _reshape,
    "concat": ops.concatenate,
    "split": _split,
    "transpose": lambda x, perm=None, conjugate=False: ops.transpose(x, perm),
    "identity": lambda x: x,
    "stop_gradient": lambda x: x,
    "tile": lambda x, multiples: ops.tile(x, multiples),
    "reverse": ops.flip,
    "pad": _pad,
    "slice": _slice,
    "gather": _gather,
    "where": _where,
    "clip_by_value": lambda x, clip_value_min, clip_value_max: ops.clip(
        x, clip_value_min, clip_value_max
    ),
    "matmul": _matmul,
    "norm": _norm,
    "l2_normalize": _l2_normalize,
    "bias_add": _bias_add,
    "leaky_relu": lambda x, alpha=0.2: ops.leaky_relu(x, alpha),
    "gelu": lambda x, approximate=False: ops.gelu(x, approximate),
    "silu": _silu,
    "swish": _silu,
    "depth_to_space": _channels_last(ops.depth_to_space),
    "space_to_depth": _channels_last(ops.space_to_depth),
    "image.resize": _resize,
}
_MODULES = ("compat.v1.", "math.", "nn.", "linalg.")


def function_named(name: str) -> Callable[..., Any] | None:
    """Return the function that a configuration names, or None if it has no counterpart here."""
    for module in _MODULES:
        name = name.removeprefix(module)
    return FUNCTIONS.get(name)
