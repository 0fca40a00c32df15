from collections.abc import Callable

import keras
import numpy as np
import onnx_ir as ir
import pytest

from kerasbn.common import keras_internals
from kerasbn.folding.fold import fold
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.plan import Plan
from kerasbn.onnx_export import convert
from kerasbn.onnx_export.canonical import canonicalize
from kerasbn.onnx_export.passes import simplify

L = keras.layers
LONGER = ("separable", "embedded", "attention", "mixed_float16")


@pytest.mark.parametrize(
    "name", ["mnist", *(pytest.param(name, marks=pytest.mark.slow) for name in LONGER)]
)
def test_kernels_given_as_inputs_change_no_byte(
    monkeypatch: pytest.MonkeyPatch, make_network: Callable[..., keras.Model], name: str
) -> None:
    network = fold(make_network(name), check=False)
    made = []
    for smallest in (1 << 40, 0):
        monkeypatch.setattr(convert, "LARGE", smallest)
        graph = convert.convert(rewrite(network, Plan()))
        simplify(graph)
        canonicalize(graph)
        made.append(ir.to_proto(graph).SerializeToString(deterministic=True))
    assert made[0] == made[1]


def test_tf2onnx_never_sees_a_large_kernel() -> None:
    x = keras.Input((256,))
    wide = L.Dense(128, name="wide")
    model = keras.Model(x, [wide(x), L.Dense(2)(x), L.LSTM(64)(keras.ops.expand_dims(x, 1))])
    traced = convert.trace(model)
    (kernel,) = traced.constants.values()  # of an LSTM, tf2onnx needs the kernel
    assert kernel is wide.kernel
    lstm = sum(v.shape[0] * v.shape[-1] * 4 for v in model.layers[-1].variables if v.ndim > 1)
    proto = keras_internals.convert_function(traced.function, 18)
    assert 4 * 128 * 256 + lstm > proto.ByteSize() > lstm
    graph = convert.convert(rewrite(model, Plan())).graph
    arrays = [
        value.const_value.numpy() for value in graph.initializers.values() if value.const_value
    ]
    assert any(np.array_equal(array, wide.kernel) for array in arrays)
