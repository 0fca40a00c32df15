"""Large kernels on their way through conversion, and weights in a file of their own."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx_ir as ir
import pytest

from kerasbn import export, fold_plan, verify
from kerasbn.common import keras_internals
from kerasbn.folding.fold import fold
from kerasbn.folding.keras.rewrite import rewrite
from kerasbn.folding.plan import Plan
from kerasbn.inference.session import Session
from kerasbn.onnx_export import convert
from kerasbn.onnx_export.canonical import canonicalize
from kerasbn.onnx_export.passes import simplify

L = keras.layers
Make = Callable[..., keras.Model]
LONGER = ("separable", "embedded", "attention", "mixed_float16")


@pytest.mark.parametrize(
    "name", ["mnist", *(pytest.param(name, marks=pytest.mark.slow) for name in LONGER)]
)
def test_kernels_given_as_inputs_change_no_byte(
    monkeypatch: pytest.MonkeyPatch, make_network: Make, name: str
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


@pytest.mark.slow
def test_a_model_too_large_for_one_file_has_its_weights_beside_it(
    make_network: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, path, whole = make_network("mnist"), tmp_path / "model.onnx", tmp_path / "whole.onnx"
    data = tmp_path / "model.onnx.data"
    export(network, whole)
    monkeypatch.setattr("kerasbn.folding.onnx.files.LARGEST_FILE", 20_000)
    exported = export(network, path)
    assert sorted(tmp_path.iterdir()) == [path, data, whole]
    assert exported.bytes == path.stat().st_size + data.stat().st_size
    assert path.stat().st_size < 20_000 < data.stat().st_size
    digits = [np.random.default_rng(0).integers(0, 256, (7, 28, 28)).astype("uint8")]
    np.testing.assert_array_equal(Session(path).run(digits), Session(whole).run(digits))
    before = [file.read_bytes() for file in (path, data)]
    export(network, path)
    assert [file.read_bytes() for file in (path, data)] == before
    checks = verify(path, network)
    assert [check.status for check in checks.checks] == ["passed"] * 4
    assert not fold_plan(path)
    damaged = bytearray(before[1])
    damaged[1000] ^= 1
    data.write_bytes(damaged)
    assert verify(path).intact.status == "failed"
