import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from sample_models import NETWORKS

from kerasbn import export
from kerasbn.common.errors import CheckFailedError, InputError
from kerasbn.folding.keras.running import predict

ALLOWED = {"float16": 5e-3, "float32": 2e-6, "float64": 1e-6}

Make = Callable[..., keras.Model]
Files = Callable[..., Path]
QUICK = ("mnist", "sequential", "nested")  # to export


def answers(path: Path, arrays: list[Any]) -> list[np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return list(session.run(None, dict(zip(names, arrays, strict=True))))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((name, fold), marks=[] if name in QUICK else pytest.mark.slow)
        for name in NETWORKS
        for fold in (True, False)
    ],
    ids=lambda param: f"{param[0]}-{'folded' if param[1] else 'unfolded'}",
)
def exported(
    request: pytest.FixtureRequest, make_network: Make, exported_file: Files
) -> tuple[keras.Model, Path]:
    """Each model in turn, and its file."""
    return make_network(request.param[0]), exported_file(*request.param)


def test_answers_as_keras_does(exported: tuple[keras.Model, Path], make_inputs: Any) -> None:
    network, path = exported
    for count in (1, 5):
        inputs = make_inputs(network, count, seed=count)
        wanted = predict(network, inputs)
        for got, want in zip(answers(path, inputs), wanted, strict=True):
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            gap = np.abs(got.astype(float) - want.astype(float)).max()
            assert gap <= ALLOWED[str(want.dtype)] * np.abs(want.astype(float)).max()


def test_form_is_canonical(exported: tuple[keras.Model, Path]) -> None:
    graph = onnx.load(exported[1]).graph
    made = [out for node in graph.node for out in node.output if out]
    assert len(made) == len(set(made))
    assert len({node.name for node in graph.node}) == len(graph.node)
    assert not {port.name for port in graph.input} & {tensor.name for tensor in graph.initializer}
    for port in (*graph.input, *graph.output):
        assert port.type.tensor_type.shape.dim[0].dim_param == "batch"
    outputs = {port.name for port in graph.output}
    for node in graph.node:
        assert node.op_type != "Constant"
        assert not node.domain
        # An Identity stands only where an output is an input, or the same tensor twice.
        assert node.op_type != "Identity" or node.output[0] in outputs
        assert "__" not in node.name
        assert "unk" not in node.name
    used = {name for node in graph.node for name in node.input} | {
        name
        for node in graph.node
        for attribute in node.attribute
        for inner in attribute.g.node
        for name in inner.input
    }
    assert {tensor.name for tensor in graph.initializer} <= used


def test_the_mnist_network_is_three_gemms_and_two_relus(exported_file: Files) -> None:
    graph = onnx.load(exported_file("mnist")).graph
    assert [(node.op_type, node.name) for node in graph.node] == [
        ("Cast", "image_to_float"),
        ("Flatten", "flatten"),
        ("Gemm", "dense_1"),
        ("Relu", "relu_1"),
        ("Gemm", "dense_2"),
        ("Relu", "relu_2"),
        ("Gemm", "logits"),
    ]
    assert [tensor.name for tensor in graph.initializer] == [
        "dense_1.weight", "dense_1.bias", "dense_2.weight", "dense_2.bias", "logits.weight",
        "logits.bias",
    ]  # fmt: skip
    (image,), (logits,) = graph.input, graph.output
    assert (image.name, logits.name) == ("image", "logits")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = image.type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in dims] == ["batch", 28, 28]


@pytest.mark.slow
def test_inputs_and_outputs_have_the_names_of_the_keras_model(exported_file: Files) -> None:
    for name, inputs, outputs in (
        ("two_inputs", ["a", "b"], ["p", "q"]),
        ("nested", ["features"], ["first", "second"]),
        ("passed_through", ["x"], ["x_2", "d", "d_2"]),
    ):
        graph = onnx.load(exported_file(name)).graph
        assert [port.name for port in graph.input] == inputs
        assert [port.name for port in graph.output] == outputs


@pytest.mark.slow
def test_every_linear_layer_is_one_node_with_its_bias(
    make_network: Make, exported_file: Files
) -> None:
    for name in ("sequential", "nested", "two_inputs", "residual", "separable", "channels_first"):
        network = make_network(name)
        nodes = onnx.load(exported_file(name)).graph.node
        linear = [n for n in nodes if n.op_type in ("Gemm", "Conv", "ConvTranspose", "MatMul")]
        layers = [
            layer
            for layer in network._flatten_layers(include_self=False)
            if hasattr(layer, "kernel") or isinstance(layer, keras.layers.SeparableConv2D)
        ]
        separable = sum(isinstance(layer, keras.layers.SeparableConv2D) for layer in layers)
        assert len(linear) == len(layers) + separable
        assert sum(len(node.input) == 3 for node in linear) == len(layers)
        assert not [node for node in nodes if node.op_type in ("Mul", "Sub", "Div")
                    and name != "separable"]  # fmt: skip


SCRIPT = """
import sys
from pathlib import Path
from kerasbn.common.keras_internals import quiet_tensorflow
quiet_tensorflow()
from kerasbn import export
folder, *files = map(Path, sys.argv[1:])
for file in files:
    export(file, folder / f"{file.stem}.onnx")
"""


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes_from_a_file_and_elsewhere(
    exported_file: Files, tmp_path: Path
) -> None:
    names = ("mnist", "grouped", "recurrent", "bidirectional", "attention")
    here = [exported_file(name) for name in names]
    models = [str(path.with_suffix(".keras")) for path in here]
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), *models], check=True, capture_output=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    for path in here:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path


def test_the_same_model_gives_the_same_bytes_again(exported_file: Files, tmp_path: Path) -> None:
    path = exported_file("nested")
    export(path.with_suffix(".keras"), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_metadata_says_where_the_file_comes_from(make_network: Make, tmp_path: Path) -> None:
    from kerasbn.inference.metadata import digest, read_metadata

    network = make_network("mnist")
    data = {"name": "mnist", "digest": "abc", "train": 60000, "test": 10000}
    path = tmp_path / "model.onnx"
    found = export(network, path, labels=[*"0123456789"], data=data, run="mnist-bn")
    props = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    metadata = read_metadata(props)
    assert metadata is not None
    assert metadata.labels == tuple("0123456789")
    assert metadata.data == data
    assert metadata.run == "mnist-bn"
    assert metadata.digest == digest(network)
    assert [json.loads(json.dumps(d)) for d in found.plan] == list(metadata.plan)
    assert {decision["layer"] for decision in metadata.plan} == {"rescale", "bn_1", "bn_2"}


def test_digest_tells_networks_apart_by_weights_and_by_settings(make_network: Make) -> None:
    from kerasbn.inference.metadata import digest

    network = make_network("mnist")
    assert digest(network) == digest(make_network("mnist"))
    assert digest(network) != digest(make_network("mnist", seed=1))
    before = digest(network)
    network.get_layer("bn_1").epsilon = 1e-2
    assert digest(network) != before


def test_probabilities_are_a_softmax_of_the_logits(
    make_network: Make, make_inputs: Any, exported_file: Files, tmp_path: Path
) -> None:
    network = make_network("mnist")
    export(network, tmp_path / "model.onnx", probabilities=True)
    inputs = make_inputs(network, 7)
    (logits,) = answers(exported_file("mnist"), inputs)
    (found,) = answers(tmp_path / "model.onnx", inputs)
    want = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(found, want / want.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("name", ["two_inputs", "grouped"])
def test_probabilities_of_what_has_none_are_refused(
    name: str, make_network: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="probabilities=True: received"):
        export(make_network(name), tmp_path / "model.onnx", probabilities=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("opset", "name"),
    [(13, "mnist"), (13, "grouped"), (13, "residual"), (15, "grouped"), (17, "residual")],
)
def test_older_opsets(
    opset: int, name: str, make_network: Make, make_inputs: Any, tmp_path: Path
) -> None:
    network = make_network(name)
    export(network, tmp_path / "model.onnx", opset=opset)
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == opset
    inputs = make_inputs(network, 3)
    got, want = answers(tmp_path / "model.onnx", inputs)[0], predict(network, inputs)[0]
    assert np.abs(got - want).max() <= 2e-6 * np.abs(want).max()


@pytest.mark.parametrize("opset", [7, 12, 19, 99])
def test_opsets_that_cannot_be_written(opset: int, make_network: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"opset={opset}: received {opset}, expected 13 to 18"):
        export(make_network("mnist"), tmp_path / "model.onnx", opset=opset)


@keras.saving.register_keras_serializable("tests")
class Determinant(keras.layers.Layer):
    """A layer that ONNX has a node for, and tf2onnx has not."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.linalg.expm(x)


@pytest.mark.slow
def test_what_onnx_has_not_is_refused_with_the_name_of_the_layer(tmp_path: Path) -> None:
    x = keras.Input((3, 3), name="x")
    network = keras.Model(x, Determinant(name="power")(x))
    with pytest.raises(InputError, match="layer 'power'") as caught:
        export(network, tmp_path / "model.onnx", fold=False)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("padding", "stride"), [("same", 1), ("same", 2), ("valid", 2)])
def test_a_transposed_convolution_of_sequences_is_one_node_with_its_bias(
    padding: str, stride: int, tmp_path: Path
) -> None:
    x = keras.Input((5, 3), name="x")
    layer = keras.layers.Conv1DTranspose(4, 2, stride, padding, name="up")
    y = keras.layers.BatchNormalization(name="bn")(layer(x))
    model = keras.Model(x, keras.layers.ReLU(name="relu")(y))
    random = np.random.default_rng(1)
    layer.bias.assign(random.normal(size=4))
    exported = export(model, tmp_path / "model.onnx")
    assert exported.operations == {"Transpose": 2, "ConvTranspose": 1, "Relu": 1}
    sequences = random.normal(size=(3, 5, 3)).astype(np.float32)
    (got,), (want,) = answers(exported.path, [sequences]), predict(model, [sequences])
    assert np.abs(got - want).max() <= 2e-6 * np.abs(want).max()


def test_a_bn_layer_with_batch_statistics_remains(tmp_path: Path) -> None:
    x = keras.Input((4,))
    live = keras.layers.BatchNormalization(name="live")
    model = keras.Model(x, live(keras.layers.Dense(3)(x), training=True))
    exported = export(model, tmp_path / "live.onnx")
    assert exported.lines()[2].startswith("  remaining: 1 BN layer (live/")
    assert repr(exported).splitlines() == exported.lines()


@pytest.mark.slow
def test_export_leaves_the_model_as_it_is(make_network: Make, tmp_path: Path) -> None:
    model = make_network("mnist")
    layers = [layer.name for layer in model.layers]
    before = [(vars(layer).keys(), len(layer._outbound_nodes)) for layer in model.layers]
    weights = [np.array(weight) for weight in model.weights]
    for fold in (True, False):
        export(model, tmp_path / "model.onnx", fold=fold, probabilities=True)
    assert [layer.name for layer in model.layers] == layers
    assert [(vars(layer).keys(), len(layer._outbound_nodes)) for layer in model.layers] == before
    for weight, old in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(np.array(weight), old)


def test_a_dense_on_sequences_of_any_length_is_one_product(tmp_path: Path) -> None:
    x = keras.Input((None, 8), name="x")
    model = keras.Model(x, keras.layers.Dense(3, name="dense")(x))
    exported = export(model, tmp_path / "model.onnx")
    assert exported.operations == {"MatMul": 1, "Add": 1}


def test_predictions_are_checked_on_given_samples(tmp_path: Path) -> None:
    """Fixed batches of 4 are given 10 samples, of which the last makes a difference."""
    x = keras.Input(batch_shape=(4, 3), name="x")
    model = keras.Model(x, keras.layers.Dense(2, name="dense")(x))
    inputs = np.random.default_rng(0).normal(size=(10, 3))
    exported = export(model, tmp_path / "model.onnx", inputs=[inputs])
    assert (exported.difference.samples, exported.difference.predictions) == (10, 10)
    assert "difference from Keras on 10 given samples" in repr(exported)
    assert "random samples" in repr(export(model, tmp_path / "model.onnx"))
    inputs[-1] = np.inf
    with pytest.raises(CheckFailedError, match="it would make other predictions"):
        export(model, tmp_path / "model.onnx", inputs=[inputs])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"model": 3}, "model=3: received a int, expected a Keras model, "),
        ({"path": 3}, "path=3: received 3, expected a path ending in .onnx"),
        ({"opset": "18"}, "opset='18': received '18', expected 13 to 18"),
        ({"opset": True}, "opset=True: "),
        ({"fold": "no"}, "fold='no': received 'no', expected True or False"),
        ({"probabilities": 1}, "probabilities=1: "),
        ({"labels": "ab"}, "labels='ab': received 'ab', expected a list of class names"),
        ({"labels": ["a"]}, "labels=['a']: received 1 labels, expected 3, one per class"),
        ({"inputs": 3}, "inputs=<class 'int'>: "),
    ],
)
def test_wrong_arguments_are_named(
    arguments: dict[str, Any], line: str, make_network: Make, tmp_path: Path
) -> None:
    given = {"model": make_network("nested"), "path": tmp_path / "model.onnx"} | arguments
    with pytest.raises(InputError) as caught:
        export(**given)
    assert str(caught.value).startswith(line)


def test_a_layer_that_remembers_is_refused_since_a_file_does_not(tmp_path: Path) -> None:
    x = keras.Input(batch_shape=(2, 5, 4))
    model = keras.Model(x, keras.layers.LSTM(3, stateful=True, name="memory")(x))
    with pytest.raises(InputError, match="layer 'memory': received stateful=True"):
        export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_a_type_that_onnxruntime_or_onnx_lacks_is_told_in_one_line(
    tmp_path: Path, dtype: str
) -> None:
    x = keras.Input((6, 6, 3))
    model = keras.Model(x, keras.layers.Conv2D(4, 3, dtype=dtype)(x), name="photos")
    with pytest.raises(InputError, match=r"model 'photos': .* float32$") as caught:
        export(model, tmp_path / "model.onnx")
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_model_without_fixed_inputs_is_refused(tmp_path: Path) -> None:
    network = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(InputError, match=r"keras\.Input|input"):
        export(network, tmp_path / "model.onnx", fold=False)


def test_a_file_that_would_answer_otherwise_is_not_written(
    make_network: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kerasbn.onnx_export.convert import convert

    def wrong(*args: Any) -> Any:
        model: Any = convert(*args)
        weights = {value: value.const_value.numpy() for value in model.graph.initializers.values()}
        largest = max(weights, key=lambda value: weights[value].size)
        largest.const_value = ir.tensor(weights[largest] * np.float32(1.00002))
        return model

    monkeypatch.setattr("kerasbn.onnx_export.export.convert", wrong)
    path = tmp_path / "model.onnx"
    path.write_text("what stood here before")
    with pytest.raises(CheckFailedError, match="would make other predictions"):
        export(make_network("mnist"), path)
    assert path.read_text() == "what stood here before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("missing/model.onnx", "a folder that does not exist"),
        ("model.h5", "a file ending in '.h5', expected one ending in .onnx"),
        ("", "a folder"),
    ],
)
def test_paths_that_cannot_be_written_are_told_before_the_work(
    name: str, line: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=line):
        export(None, tmp_path / name)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            lambda x: keras.layers.Hashing(4, name="hash")(x),
            r"layer 'hash': received a Hashing, expected a layer that ONNX has; apply it to the d",
        ),
        (
            lambda x: keras.layers.UpSampling2D(2, interpolation="bilinear", name="up")(x),
            r"layer 'up': received a size that is free.* give all axes but the batch a size in",
        ),
    ],
)
def test_the_real_cause_is_named(tmp_path: Path, build: Callable[[Any], Any], reason: str) -> None:
    x = keras.Input((None, None, 3), name="x")
    with pytest.raises(InputError, match=reason):
        export(keras.Model(x, build(x)), tmp_path / "a.onnx")


def test_strings_are_refused_by_the_layer_that_reads_them(tmp_path: Path) -> None:
    x = keras.Input((1,), dtype="string", name="x")
    y = keras.layers.StringLookup(vocabulary=["a", "b"], name="words")(x)
    with pytest.raises(InputError, match="layer 'words': received a StringLookup"):
        export(keras.Model(x, keras.layers.Embedding(3, 2)(y)), tmp_path / "a.onnx")
