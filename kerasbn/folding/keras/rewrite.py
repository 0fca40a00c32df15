"""Carries a plan out: a new model of plain Keras layers; the given one stays as it is."""

from collections import Counter
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasbn.folding.affine import Affine, compose
from kerasbn.folding.clips import CLIP, MAXIMUM, MINIMUM, Clip
from kerasbn.folding.keras.absorb import Weights, absorbed, assign, settings
from kerasbn.folding.keras.affine_layers import affine_of, is_norm, merged
from kerasbn.folding.keras.clone import copied_state, renewed, renewed_input, retyped
from kerasbn.folding.keras.graph import is_graph, ordered_nodes, require_graph, unwrap
from kerasbn.folding.plan import Plan

Layer = Any  # Keras ships no types


def rewrite(model: keras.Model, plan: Plan, dtype: str | None = None) -> keras.Model:
    """A copy of `model` with the folds of `plan` made.

    Layers keep their names, shared layers stay shared, nested models stay nested. Arithmetic is
    in float64, rounded once to the dtype of each variable.

    Args:
        model: the network that the plan was made for.
        plan: what to fold; an empty plan gives a plain copy.
        dtype: the float dtype of the copy, such as "float64"; by default each layer's own.

    Raises:
        InputError: if `model` is no functional or sequential network, or one of its layers cannot
            be built anew.
    """
    require_graph(model)
    return _Rewriting(plan, dtype).model(model)


class _Rewriting:
    """New layers for old ones, each made once."""

    def __init__(self, plan: Plan, dtype: str | None) -> None:
        self.changes = plan.changes
        self.dtype = dtype
        self.new: dict[int, Layer] = {}
        self.filled: set[int] = set()
        self.weights: dict[int, list[Weights]] = {}
        self.clip_names: Counter[str] = Counter()

    def model(self, old: keras.Model) -> keras.Model:
        """The new model for an old one."""
        if isinstance(old, keras.Sequential) and not self._needs_operations(old):
            return self._sequential(old)
        inputs = [renewed_input(tensor, self.dtype) for tensor in old.inputs]
        table = {id(tensor): new for tensor, new in zip(old.inputs, inputs, strict=True)}

        def translated(leaf: Any) -> Any:  # noqa: ANN401 - an argument of any kind
            return table[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

        for node in ordered_nodes(old):
            args = keras.tree.map_structure(translated, node.arguments.args)
            kwargs = keras.tree.map_structure(translated, node.arguments.kwargs)
            made = keras.tree.flatten(self._called(node, args, kwargs))
            table.update({id(t): new for t, new in zip(node.outputs, made, strict=True)})
        outputs = [table[id(tensor)] for tensor in old.outputs]
        if isinstance(old, keras.Sequential):
            return keras.Model(inputs[0], outputs[0], name=old.name)
        return keras.Model(
            keras.tree.pack_sequence_as(old.input, inputs),
            keras.tree.pack_sequence_as(old.output, outputs),
            name=old.name,
        )

    def _sequential(self, old: keras.Sequential) -> keras.Sequential:
        left = [layer for layer in old.layers if not self._is_gone(layer)]
        new = [self._layer(layer) for layer in left]
        model = keras.Sequential([renewed_input(old.inputs[0], self.dtype), *new], name=old.name)
        for before, after in zip(left, new, strict=True):
            self._fill(before, after)
        return model

    def _needs_operations(self, old: keras.Sequential) -> bool:
        """Whether a fold leaves a change of dtype or a clip, for which Sequential has no place."""
        return any(
            id(node) in self.changes.clips
            or (
                self._is_gone(node.operation)
                and node.input_tensors[0].dtype != node.outputs[0].dtype
            )
            for node in ordered_nodes(old)
        )

    def _called(self, node: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as Keras has them
        """What a node comes to: the call of the new layer, or what it read if the layer is gone."""
        old = node.operation
        if self._is_gone(old):
            (read, *_) = keras.tree.flatten((args, kwargs))
            wanted = retyped(node.outputs[0].dtype, self.dtype)
            return read if read.dtype == wanted else keras.ops.cast(read, wanted)
        if id(node) in self.changes.clips:
            (read, *_) = keras.tree.flatten((args, kwargs))
            return self._clipped(read, self.changes.clips[id(node)], old.name)
        new = self._layer(old)
        if id(node) in self.changes.training and old._call_has_training_arg:
            kwargs = {**kwargs, "training": self.changes.training[id(node)]}
        made = new(*args, **kwargs)  # the first call builds it
        self._fill(old, new)
        return made

    def _clipped(self, x: keras.KerasTensor, clip: Clip, name: str) -> keras.KerasTensor:
        """``min(max(x, lower), upper)``, without the bounds that are infinite everywhere.

        A bound is an array of the tensor's own dtype: another would change that of the result.
        """
        lower, upper = (bound.astype(np.dtype(x.dtype)) for bound in (clip.lower, clip.upper))
        below, above = np.isfinite(lower).any(), np.isfinite(upper).any()
        if below and above and _is_one_number(lower) and _is_one_number(upper):
            ends = float(lower.flat[0]), float(upper.flat[0])
            return CLIP(*ends, name=self._free_name(f"{name}_clip"))(x)
        if below:
            x = MAXIMUM(name=self._free_name(f"{name}_max"))(x, lower)
        if above:
            x = MINIMUM(name=self._free_name(f"{name}_min"))(x, upper)
        return x

    def _free_name(self, name: str) -> str:
        """`name`, or with a number behind it if a clip has that name."""
        self.clip_names[name] += 1
        n = self.clip_names[name]
        return name if n == 1 else f"{name}_{n}"

    def _is_gone(self, layer: Layer) -> bool:
        """Whether a layer was folded, or is a model of which nothing is left."""
        layer, _ = unwrap(layer)
        if id(layer) in self.changes.dropped:
            return True
        if not is_graph(layer) or not self.changes.dropped:
            return False
        nodes = ordered_nodes(layer)
        return bool(nodes) and all(self._is_gone(node.operation) for node in nodes)

    def _layer(self, old: Layer) -> Layer:
        """The new layer for an old one, not built yet."""
        if id(old) not in self.new:
            if is_graph(old):
                new = self.model(old)
            elif type(old) is keras.layers.TimeDistributed:
                new = renewed(old, self.dtype, {"layer": self._layer(old.layer)})
            else:
                new = renewed(old, self.dtype, self._settings(old))
            self.new[id(old)] = new
        return self.new[id(old)]

    def _settings(self, old: Layer) -> dict[str, Any]:
        """What changes in the configuration of a layer that absorbs something."""
        edits = self.changes.edits.get(id(old))
        if not edits:
            return {}
        if is_norm(old):
            return merged(old, self._merged_affine(old))[0]
        self.weights[id(old)] = absorbed(old, edits)
        return settings(old, self.weights[id(old)])

    def _fill(self, old: Layer, new: Layer) -> None:
        """Give a new layer its weights, once."""
        if id(old) in self.filled or is_graph(old) or not isinstance(old, keras.layers.Layer):
            return
        self.filled.add(id(old))
        if type(old) is keras.layers.TimeDistributed:
            self._fill(old.layer, new.layer)
            return
        edited = id(old) in self.changes.edits
        copied_state(old, new, lenient=edited)
        if edited and is_norm(old):
            for name, values in merged(old, self._merged_affine(old))[1].items():
                getattr(new, name).assign(values)
        elif edited:
            assign(new, self.weights.pop(id(old)))

    def _merged_affine(self, old: Layer) -> Affine:
        """The affine of a normalization together with those that were merged into it."""
        edits = self.changes.edits[id(old)]
        a = affine_of(old, len(edits[0].example), training=False)
        for edit in edits:
            a = compose(edit.affine, a) if edit.side == "after" else compose(a, edit.affine)
        return a


def _is_one_number(bound: NDArray[Any]) -> bool:
    return bool((bound == bound.flat[0]).all())
