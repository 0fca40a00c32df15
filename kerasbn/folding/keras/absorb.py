"""What a linear layer is asked to absorb, whether it can, and the weights it then has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from kerasbn.folding.affine import Affine, Array, CannotFold, affine, same
from kerasbn.folding.keras.linear_layers import LAWS, Example, Layer, Part, after, before
from kerasbn.folding.keras.pass_through_layers import crosses_function


@dataclass(frozen=True, eq=False)
class Edit:
    """An affine that a layer is to absorb.

    Attributes:
        side: whether the affine comes after the layer or before it.
        affine: on an example going out, or coming in.
        example: the shape of an example coming in.
        argument: which argument it comes in by, for layers that absorb by several.
        training: whether that call of the layer runs with training=True.
    """

    side: Literal["after", "before"]
    affine: Affine
    example: Example
    argument: str = ""
    training: bool = False

    def agrees(self, other: "Edit") -> bool:
        """Whether both ask the same of a layer."""
        return (
            (self.side, self.argument) == (other.side, other.argument)
            and len(self.example) == len(other.example)
            and same(self.affine, other.affine)
        )


def is_linear(layer: Layer) -> bool:
    """Whether there is a law for layers of its class."""
    return type(layer) in LAWS


def check(layer: Layer, edit: Edit) -> None:
    """Raise `CannotFold` if the layer cannot absorb that; the reason begins with a verb."""
    law = LAWS[type(layer)]
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        raise CannotFold("is quantized or adapted by LoRA")
    if not (law.follows if edit.side == "after" else law.precedes):
        where = "follows" if edit.side == "after" else "precedes"
        raise CannotFold(f"absorbs nothing that {where} it")
    parts = law.parts(layer, edit.example, edit.argument)
    if edit.side == "after":
        activation = getattr(layer, "activation", None)
        if activation is not None and not crosses_function(activation, edit.affine):
            raise CannotFold(f"ends in the activation '{_name(activation)}'")
        _fits(edit.affine, parts[-1].outputs)
        if parts[-1].bias is None and not parts[-1].one_hot and not edit.affine.only_scales():
            raise CannotFold("has no bias to take the offset t")
        return
    for part in parts[:1] if law.chained else parts:
        _fits(edit.affine, part.inputs)
    if not edit.affine.only_scales() and law.uneven(layer, edit.example, edit.training):
        raise CannotFold(law.how)


def _fits(a: Affine, tensor: tuple[str, ...]) -> None:
    """Refuse an affine that differs along an axis which the kernel does not know."""
    for axis, names in enumerate(tensor):
        if not names and a.varies_along(axis):
            raise CannotFold(
                f"has one kernel for all of axis {axis + 1}, along which s and t differ"
            )


def _name(activation: Any) -> str:  # noqa: ANN401 - a function or a layer
    return str(getattr(activation, "__name__", type(activation).__name__))


@dataclass(frozen=True, eq=False)
class Weights:
    """The kernel and bias of each part of a layer; `edit` tells which parts are meant."""

    edit: Edit
    arrays: list[tuple[Array, Array]]

    def parts(self, layer: Layer) -> list[Part]:
        """The parts of `layer` (the edited one or its copy) that these belong to."""
        return LAWS[type(layer)].parts(layer, self.edit.example, self.edit.argument)


def absorbed(layer: Layer, edits: Sequence[Edit]) -> list[Weights]:
    """The weights of a layer after all edits, in float64; the layer stays as it is."""
    law = LAWS[type(layer)]
    arrays: dict[tuple[int, str], tuple[Array, Array]] = {}
    touched: dict[str, Edit] = {}

    def key(part: Part) -> tuple[int, str]:
        return id(part.owner), part.kernel

    for edit in edits:
        touched.setdefault(edit.argument, edit)
        parts = law.parts(layer, edit.example, edit.argument)
        for part in parts:
            arrays.setdefault(key(part), part.read())
        a = edit.affine
        if edit.side == "after":
            arrays[key(parts[-1])] = after(parts[-1], *arrays[key(parts[-1])], a)
            continue
        for part in parts:
            k, b = arrays[key(part)]
            arrays[key(part)] = k, moved = before(part, k, b, a)
            if law.chained and part.bias is None:  # its offset goes on to the part that follows
                arrays[key(part)] = k, b
                a = affine(np.ones_like(moved), moved)
    weights = [Weights(edit, []) for edit in touched.values()]
    for one in weights:
        one.arrays.extend(arrays[key(part)] for part in one.parts(layer))
    return weights


def assign(layer: Layer, weights: Sequence[Weights]) -> None:
    """Put weights into the variables of a layer that has room for them."""
    for one in weights:
        for part, (k, b) in zip(one.parts(layer), one.arrays, strict=True):
            part.write(k, b)


def settings(layer: Layer, weights: Sequence[Weights]) -> dict[str, Any]:
    """The changes to a layer's configuration that make room: a bias where it had none."""
    changes: dict[str, Any] = {}
    for one in weights:
        for part, (_, b) in zip(one.parts(layer), one.arrays, strict=True):
            if isinstance(layer, keras.layers.EinsumDense):
                changes |= _bias_axes(layer, b)
            elif part.lacks_bias() and b.any():
                changes |= dict(LAWS[type(layer)].settings)
            if part.lacks_kernel():
                changes |= dict(LAWS[type(layer)].settings)
    return changes


def _bias_axes(layer: Layer, b: Array) -> dict[str, Any]:
    """The bias of an EinsumDense runs along the axes that are named for it."""
    if layer.bias is None and not b.any():
        return {}
    outgoing = layer.equation.replace(" ", "").replace(".", "").split("->")[1]
    labels = outgoing[max(0, len(outgoing) - b.ndim) :]
    along = {c for c, n in zip(labels[::-1], b.shape[::-1], strict=False) if n > 1}
    along |= set(layer.bias_axes or labels[-1])
    return {"bias_axes": "".join(c for c in labels if c in along), "bias_initializer": "zeros"}
