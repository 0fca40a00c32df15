"""One test for each use of something that Keras, TensorFlow or tf2onnx does not document."""

import subprocess
import sys
from importlib import import_module

import pytest

from kerasbn.common import keras_internals
from kerasbn.common.keras_internals import quiet_tensorflow

quiet_tensorflow()

import keras  # noqa: E402 - TensorFlow first, quietly
import numpy as np  # noqa: E402


def nested_model() -> keras.Model:
    block = keras.Sequential([keras.layers.Dense(2, name="inner")], name="block")
    x = keras.Input((3,), name="x")
    return keras.Model(x, keras.layers.TimeDistributed(block, name="each")(x[:, None]), name="m")


def test_all_layers_lists_layers_at_any_depth() -> None:
    model = nested_model()
    names = [layer.name for layer in keras_internals.all_layers(model)]
    assert names[0] == "m"
    assert {"x", "each", "block", "inner"} <= set(names)


def test_operation_of_gives_the_layer_or_operation_of_a_tensor() -> None:
    x = keras.Input((3,), name="x")
    layer = keras.layers.Dense(2)
    assert keras_internals.operation_of(layer(x)) is layer
    assert type(keras_internals.operation_of(keras.ops.exp(x))).__name__ == "Exp"


def test_takes_argument_reads_the_signature_of_call() -> None:
    dropout, recurrent = keras.layers.Dropout(0.5), keras.layers.LSTM(2)
    assert keras_internals.takes_argument(dropout, "training")
    assert not keras_internals.takes_argument(dropout, "mask")
    assert keras_internals.takes_argument(recurrent, "mask")


def test_has_mask_tells_what_an_embedding_of_zeros_adds() -> None:
    tokens = keras.Input((3,), dtype="int32")
    assert keras_internals.has_mask(keras.layers.Embedding(5, 2, mask_zero=True)(tokens))
    assert not keras_internals.has_mask(keras.layers.Embedding(5, 2)(tokens))


def test_convert_function_gives_onnx_even_for_an_exact_gelu_and_what_a_layer_captured() -> None:
    import tensorflow as tf

    layer = keras.layers.Normalization(mean=[1.0, 2.0], variance=[1.0, 4.0])

    @tf.function(input_signature=[tf.TensorSpec((None, 2))], autograph=False)  # type: ignore[untyped-decorator]
    def function(x: object) -> object:
        return keras.ops.gelu(layer(x), approximate=False)

    traced = function.get_concrete_function()
    proto = keras_internals.convert_function(traced, 18)
    operations = {node.op_type for node in proto.graph.node}
    assert "Erf" in operations
    assert "Erfc" not in operations
    constants = [value for value in traced.captured_inputs if value.dtype != tf.resource]
    assert len(proto.graph.input) == 1 + len(constants)


def test_convert_function_leaves_out_a_convolution_that_no_output_needs() -> None:
    import tensorflow as tf

    used, unused = (keras.layers.Conv1D(2, 1, name=name) for name in ("used", "unused"))

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 2))], autograph=False)  # type: ignore[untyped-decorator]
    def function(x: object) -> object:
        unused(x)
        return keras.ops.relu(used(x))

    proto = keras_internals.convert_function(function.get_concrete_function(), 18)
    assert [node.op_type for node in proto.graph.node].count("Conv") == 1


@pytest.mark.slow
def test_once_tensorflow_is_loaded_garbage_is_collected_and_kerasbn_can_warn() -> None:
    code = """
import gc, sys, warnings
from kerasbn.common.keras_internals import quiet_tensorflow
quiet_tensorflow()
assert gc.isenabled()
for module in ("keras.src.models.model", "keras", "kerasbn.runs"):
    warnings.warn_explicit(f"from {module}", RuntimeWarning, "file.py", 1, module)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "kerasbn.runs" in done.stderr
    assert "from keras" not in done.stderr.replace("kerasbn", "")


def test_hide_package_makes_an_import_fail_within_the_block() -> None:
    sys.modules.pop("this", None)
    with keras_internals.hide_package("this"), pytest.raises(ImportError):
        import_module("this")
    assert "this" not in sys.modules
    with keras_internals.hide_package("sys"):
        assert import_module("sys") is sys


def test_restore_layer_state_restores_what_is_not_in_variables() -> None:
    x = np.array([[1.0], [3.0]], "float32")
    old, new = keras.layers.Normalization(), keras.layers.Normalization()
    old.adapt(x)
    new.build((None, 1))
    new.set_weights(old.get_weights())
    keras_internals.restore_layer_state(new, old)
    np.testing.assert_array_equal(new(x), old(x))
    words = np.array(["cat", "dog"])
    lookup, copy = keras.layers.StringLookup(), keras.layers.StringLookup()
    lookup.adapt(words)
    keras_internals.restore_layer_state(copy, lookup)
    assert copy.get_vocabulary() == lookup.get_vocabulary()


def test_record_calls_sees_every_call_and_restores_the_layer() -> None:
    shared = keras.layers.Dense(2, name="shared")
    given = keras.Input((2,))
    model = keras.Model(given, shared(shared(given)))
    with keras_internals.record_calls([shared]) as calls:
        output = model(keras.ops.ones((1, 2)))
    assert [layer for layer, _, _ in calls] == [shared, shared]
    assert calls[0][1].shape == (1, 2)
    assert "call" not in vars(shared)
    model(output)
    assert len(calls) == 2


def test_nodes_in_order_gives_calls_with_their_tensors() -> None:
    model = nested_model()
    *_, node = keras_internals.nodes_in_order(model)
    assert node.operation is model.get_layer("each")
    assert (node.input_tensors, node.outputs) == ([node.arguments.args[0]], model.outputs)
    assert node.arguments.kwargs.get("mask") is None
    block = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.ReLU()])
    assert [node.operation for node in keras_internals.nodes_in_order(block)] == block.layers


def test_functional_class_is_that_of_functional_models_alone() -> None:
    assert isinstance(nested_model(), keras_internals.functional_class())
    assert not isinstance(keras.Sequential(), keras_internals.functional_class())


def test_operation_class_tells_functions_apart() -> None:
    relu = keras_internals.operation_class(keras.ops.relu)
    assert relu is keras_internals.operation_class(lambda x: keras.ops.relu(x))
    assert relu is not keras_internals.operation_class(keras.ops.relu6)


def test_own_variables_leaves_out_layers_inside() -> None:
    outer = keras.layers.Bidirectional(keras.layers.LSTM(2))
    outer.build((None, 3, 4))
    assert keras_internals.own_variables(outer) == []
    assert len(keras_internals.own_variables(outer.forward_layer.cell)) >= 3
    (seed,) = keras_internals.own_variables(keras.layers.Dropout(0.5, seed=1))
    assert tuple(seed.shape) == (2,)


def test_attention_projections_are_the_layers_with_the_weights() -> None:
    layer = keras.layers.MultiHeadAttention(2, 3)
    layer.build((None, 5, 4), (None, 6, 4))
    found = keras_internals.attention_projections(layer)
    kernels = [dense.kernel for each in found.values() for dense in each]
    assert {id(kernel) for kernel in kernels} == {
        id(variable) for variable in layer.variables if variable.name == "kernel"
    }


def test_lambda_output_shape_is_the_argument() -> None:
    layer = keras.layers.Lambda(lambda x: x, output_shape=(3,))
    assert keras_internals.lambda_output_shape(layer) == (3,)


def test_normalization_statistics_are_none_where_they_were_given() -> None:
    given = keras.layers.Normalization(mean=1.0, variance=2.0)
    assert keras_internals.normalization_statistics(given) is None
    assert (given.input_mean, given.input_variance) == (1.0, 2.0)
    adapted = keras.layers.Normalization()
    adapted.adapt(np.array([[1.0], [3.0]]))
    found = keras_internals.normalization_statistics(adapted)
    assert found is not None
    assert [float(variable[0]) for variable in found] == [2.0, 1.0]


def test_operations_are_deterministic_within_a_block() -> None:
    from tensorflow.python.framework.config import is_op_determinism_enabled

    with keras_internals.deterministic_operations(False):
        assert not is_op_determinism_enabled()
    with keras_internals.deterministic_operations(True):
        with keras_internals.deterministic_operations(True):
            assert is_op_determinism_enabled()
        assert is_op_determinism_enabled()
    assert not is_op_determinism_enabled()
