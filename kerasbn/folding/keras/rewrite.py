"""Carry out a plan: build a new model of plain Keras layers. The given model is not changed."""

from collections import Counter
from typing import Any

import keras

from kerasbn.common.keras_internals import nodes_in_order, takes_argument
from kerasbn.folding.affine import Array
from kerasbn.folding.clips import Clip
from kerasbn.folding.graph import Graph, Layer
from kerasbn.folding.keras.activations import build_clip
from kerasbn.folding.keras.affine_layers import AFFINE_LAYERS, merged
from kerasbn.folding.keras.clone import clone_input, clone_layer, copy_state, float_dtype
from kerasbn.folding.keras.graph import input_structure, is_graph, require_graph, unwrap
from kerasbn.folding.keras.linear_layers import LayerWeights, assign, fold_into, settings_for
from kerasbn.folding.keras.running import walk
from kerasbn.folding.plan import Plan


def rewrite(model: keras.Model, plan: Plan) -> keras.Model:
    """Return a copy of a model with the folds of its plan. An empty plan gives a plain copy.

    Layers keep their names, shared layers stay shared, and nested models stay nested. Weights are
    computed in float64 and rounded once, to the dtype of each variable.

    Raises:
        InputError: if the model is not functional or sequential, or a layer cannot be rebuilt.
    """
    require_graph(model)
    return Rewriter(plan.graph).model(model)


def as_functional(model: keras.Model) -> keras.Model:
    """Return the model itself or, of a subclassed one that was built, a model of it as one layer.

    Its inputs have the shapes that it was built with, except for the batch.
    """
    shape = None if is_graph(model) else (model.get_build_config() or {}).get("input_shape")
    if shape is None:
        return model
    inputs = keras.tree.map_shape_structure(lambda axes: keras.Input(axes[1:]), shape)
    layer = clone_layer(model, None, {})
    made = keras.Model(inputs, layer(inputs), name=model.name)
    copy_state(model, layer)
    return made


class Rewriter:
    """Builds a new layer for each old one, once, with what changes in the graph.

    With a float `dtype`, all new layers have that one.
    """

    def __init__(self, graph: Graph, dtype: str | None = None) -> None:
        self.graph = graph
        self.dtype = dtype
        self.new: dict[int, Layer] = {}
        self.filled: set[int] = set()
        self.weights: dict[
            int, LayerWeights
        ] = {}  # of the linear layers that something is folded into
        self.variables: dict[int, dict[str, Array]] = {}  # of affine layers, likewise
        self.clip_names: Counter[str] = Counter()

    def model(self, old: keras.Model) -> keras.Model:
        """Return the new model for an old one."""
        if isinstance(old, keras.Sequential) and not self._needs_operations(old):
            return self._sequential(old)
        inputs = [clone_input(tensor, self.dtype) for tensor in old.inputs]
        outputs = walk(old, inputs, self.call)
        structure = old.outputs[0] if isinstance(old, keras.Sequential) else old.output
        return keras.Model(
            keras.tree.pack_sequence_as(input_structure(old), inputs),
            keras.tree.pack_sequence_as(structure, outputs),
            name=old.name,
        )

    def _sequential(self, old: keras.Sequential) -> keras.Sequential:
        left = [layer for layer in old.layers if not self._is_dropped(layer)]
        new = [self._layer(layer) for layer in left]
        model = keras.Sequential([clone_input(old.inputs[0], self.dtype), *new], name=old.name)
        for before, after in zip(left, new, strict=True):
            self._fill(before, after)
        return model

    def _needs_operations(self, old: keras.Sequential) -> bool:
        """Return whether folding leaves a cast or a clip, which a Sequential model cannot hold."""
        nodes = nodes_in_order(old)
        casts = any(
            node.input_tensors[0].dtype != node.outputs[0].dtype
            for node in nodes
            if self._is_dropped(node.operation)
        )
        return casts or any(self._clip_of(node) for node in nodes)

    def changes(self, node: Any) -> bool:  # noqa: ANN401 - a node of Keras's graph
        """Return whether a node may become anything but a call of an equal layer."""
        layer, _ = unwrap(node.operation)
        changed = id(layer) in self.graph.edits or id(layer) in self.graph.dropped
        return changed or self._clip_of(node) is not None or is_graph(layer)

    def _clip_of(self, node: Any) -> Clip | None:  # noqa: ANN401 - a node of Keras's graph
        """Return the clip that replaces a node, or the activation of its linear layer."""
        clips = self.graph.clips
        return clips.get(id(node)) or clips.get(id(unwrap(node.operation)[0]))

    def call(self, node: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as Keras has them
        """Return what a node becomes: a call of the new layer, its input, or a clip."""
        old, clip = node.operation, self._clip_of(node)
        is_clip = id(node) in self.graph.clips
        if is_clip or self._is_dropped(old):
            leaves = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
            pairs = zip(leaves, keras.tree.flatten((args, kwargs)), strict=False)
            read = next(new for leaf, new in pairs if isinstance(leaf, keras.KerasTensor))
            if clip:
                return build_clip(read, clip, old.name, self._free_name)
            wanted = float_dtype(node.outputs[0].dtype, self.dtype)
            is_wanted = keras.backend.standardize_dtype(read.dtype) == wanted
            return read if is_wanted else keras.ops.cast(read, wanted)
        if id(node) in self.graph.training and takes_argument(old, "training"):
            kwargs = {**kwargs, "training": self.graph.training[id(node)]}
        made = self.call_layer(old, args, kwargs)
        return build_clip(made, clip, old.name, self._free_name) if clip else made

    def call_layer(self, old: Layer, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as Keras has them
        """Return what the new layer for an old one makes of symbolic tensors."""
        new = self._layer(old)
        made = new(*args, **kwargs)  # the first call builds it
        self._fill(old, new)
        return made

    def _free_name(self, name: str) -> str:
        """Return `name`, with a number if a clip has that name already."""
        self.clip_names[name] += 1
        n = self.clip_names[name]
        return name if n == 1 else f"{name}_{n}"

    def _is_dropped(self, layer: Layer) -> bool:
        """Return whether a layer was folded, or is a model of which nothing is left."""
        layer, _ = unwrap(layer)
        if id(layer) in self.graph.dropped:
            return True
        if not is_graph(layer) or not self.graph.dropped:
            return False
        nodes = nodes_in_order(layer)
        return bool(nodes) and all(self._is_dropped(node.operation) for node in nodes)

    def _layer(self, old: Layer) -> Layer:
        """Return the new layer for an old one, not built yet."""
        if id(old) not in self.new:
            if is_graph(old):
                new = self.model(old)
            elif type(old) is keras.layers.TimeDistributed:
                new = clone_layer(old, self.dtype, {"layer": self._layer(old.layer)})
            else:
                new = clone_layer(old, self.dtype, self._settings(old))
            self.new[id(old)] = new
        return self.new[id(old)]

    def _settings(self, old: Layer) -> dict[str, Any]:
        """Return the configuration that changes where something is folded into a layer."""
        edits = self.graph.edits.get(id(old), [])
        without = {"activation": "linear"} if id(old) in self.graph.clips else {}
        if not edits:
            return without
        if type(old) not in AFFINE_LAYERS:
            self.weights[id(old)] = fold_into(old, edits)
            return settings_for(old, self.weights[id(old)]) | without
        call = self.graph.calls_of(old)[0]
        settings, self.variables[id(old)] = merged(old, call.lower(self.graph.affine_of(call)))
        return settings

    def _fill(self, old: Layer, new: Layer) -> None:
        """Assign the weights of a new layer, once."""
        if id(old) in self.filled or is_graph(old) or not isinstance(old, keras.layers.Layer):
            return
        self.filled.add(id(old))
        if type(old) is keras.layers.TimeDistributed:
            self._fill(old.layer, new.layer)
            return
        copy_state(old, new, lenient=id(old) in self.graph.edits)
        assign(new, self.weights.pop(id(old), {}))
        for name, values in self.variables.pop(id(old), {}).items():
            getattr(new, name).assign(values)
