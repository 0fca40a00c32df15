"""Compute a Keras model in float64, layer by layer, as it is or as a plan changes it.

Building a model of that dtype takes longer than computing it. So the layers that folding knows are
not built: their own code runs on a stand-in, whose variables are in float64. Other layers, such as
those with layers inside, are cloned.
"""

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasbn.common.keras_internals import all_layers, has_mask
from kerasbn.folding.graph import Graph, Layer
from kerasbn.folding.keras.affine_layers import AFFINE_LAYERS
from kerasbn.folding.keras.clone import SINGLE_ONLY, float_dtype, is_builtin
from kerasbn.folding.keras.graph import is_graph, training_at_inference, unwrap
from kerasbn.folding.keras.linear_layers import LINEAR_LAYERS, attributes_for, fold_into
from kerasbn.folding.keras.pass_through_layers import PASS_THROUGH_LAYERS
from kerasbn.folding.keras.rewrite import Rewriter
from kerasbn.folding.keras.running import as_inputs, compute, run, to_numpy

_CONVOLUTIONS = keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D
_DTYPES = ("compute_dtype", "dtype", "variable_dtype")


def predict_in_float64(model: keras.Model, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of a model at inference, with all its arithmetic in float64."""
    made = run(model, as_inputs(model, arrays, "float64"), InFloat64(model, Graph()).call)
    return list(map(to_numpy, made))


class InFloat64(Rewriter):
    """Computes the layers of a model, with what changes in its graph, instead of building one."""

    def __init__(self, model: keras.Model, graph: Graph) -> None:
        super().__init__(graph, "float64")
        # Where a layer trains at inference, Keras decides by the calls before which others do.
        self.trains = training_at_inference(model) is None
        self.stand_ins: dict[int, _StandIn | None] = {}

    def call_layer(self, old: Layer, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as Keras has them
        """Return what a layer makes of tensors."""
        leaves = keras.tree.flatten((args, kwargs))
        if any(isinstance(leaf, keras.KerasTensor) for leaf in leaves):  # of a model inside
            return super().call_layer(old, args, kwargs)
        if not self.trains and not any(map(has_mask, leaves)):
            if id(old) not in self.stand_ins:
                self.stand_ins[id(old)] = self._stand_in(old)
            if stand_in := self.stand_ins[id(old)]:
                return compute(stand_in, *keras.tree.map_structure(_in_float64, (args, kwargs)))
        new = self._layer(old)
        self._build(old, new, args, kwargs)
        self._fill(old, new)
        return compute(new, args, kwargs)

    def _stand_in(self, old: Layer) -> "_StandIn | None":
        known = (
            type(old) in LINEAR_LAYERS.keys() | AFFINE_LAYERS.keys() | PASS_THROUGH_LAYERS.keys()
        )
        is_layer = isinstance(old, keras.layers.Layer)
        if not known or not is_layer or type(old) in SINGLE_ONLY or len(all_layers(old)) > 1:
            return None
        edits = self.graph.edits.get(id(old), [])
        if edits and type(old) not in LINEAR_LAYERS:
            return None
        attributes = attributes_for(old, fold_into(old, edits)) if edits else {}
        if attributes is None:
            return None
        if id(old) in self.graph.clips:
            attributes["activation"] = keras.activations.linear
        if getattr(old, "groups", 1) > 1 and isinstance(old, _CONVOLUTIONS):
            attributes["convolution_op"] = _by_groups(old)
        return _StandIn(old, attributes)

    def _build(self, old: Layer, new: Layer, args: Any, kwargs: Any) -> None:  # noqa: ANN401 - as Keras has them
        """Create the variables of a new layer, which only its first call would create."""
        if id(old) in self.filled or getattr(new, "built", True) or is_graph(old):
            return
        if is_builtin(unwrap(old)[0]):
            new.build_from_config(old.get_build_config())
        else:
            args, kwargs = keras.tree.map_structure(_as_symbolic, (args, kwargs))
            new(*args, **kwargs)


class _StandIn:
    """Runs the `call` of a layer with itself in the place of the layer.

    Its variables are those of the layer in float64, except for the given attributes.
    """

    def __init__(self, layer: Layer, attributes: dict[str, Any]) -> None:
        self._layer = layer
        vars(self).update(attributes)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the layer has them
        return type(self._layer).call(self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - an attribute of the layer
        if name in _DTYPES:
            return "float64"
        value = _in_float64(getattr(self._layer, name))
        if isinstance(value, MethodType) and value.__self__ is self._layer:
            return MethodType(value.__func__, self)
        return value


def _by_groups(layer: Layer) -> Callable[..., Any]:
    """Return the convolution of a layer as one for each group of channels.

    Keras computes all groups in one operation by XLA on a CPU, which it compiles in every call and
    which takes minutes for a model with hundreds of groups in each layer.
    """
    axis = 1 if layer.data_format == "channels_first" else -1

    def convolution_op(inputs: Any, kernel: Any) -> Any:  # noqa: ANN401 - tensors
        parts = (
            keras.ops.split(inputs, layer.groups, axis),
            keras.ops.split(kernel, layer.groups, -1),
        )
        return keras.ops.concatenate(list(map(layer.convolution_op, *parts)), axis)

    return convolution_op


def _in_float64(value: Any) -> Any:  # noqa: ANN401 - an argument or attribute of any kind
    """Return a variable or tensor of floats in float64, anything else unchanged."""
    if not isinstance(value, keras.Variable | tf.Tensor):
        return value
    dtype = keras.backend.standardize_dtype(value.dtype)
    return keras.ops.cast(value, float_dtype(dtype, "float64"))


def _as_symbolic(leaf: Any) -> Any:  # noqa: ANN401 - an argument of any kind
    is_tensor = keras.ops.is_tensor(leaf)
    return keras.KerasTensor(leaf.shape, leaf.dtype) if is_tensor else leaf
