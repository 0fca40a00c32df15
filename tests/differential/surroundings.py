"""Reasons to keep a layer that lie in other layers, shown on the model itself."""

import re

import keras
import numpy as np

from kerasbn.folding.affine import Affine

from .flat_graph import FlatCall, FlatGraph
from .kept import AFFINE, LINEAR, Kept
from .refusals import name_of


def _tensors(kept: Kept) -> list[int]:
    """The tensors that "its input" or "the output of ..." may be, from which the layer is made."""
    if kept.words.startswith("its input"):
        calls = [call for call in kept.graph.calls if isinstance(call.layer, AFFINE)]
        found = [call.reads[0] for call in calls if len(call.reads) == 1]
    else:
        name = next(iter(re.findall("^the output of `([^`]+)`", kept.words)), None)
        makers = kept.graph.named(name) if name else []
        found = [t for call in makers for t in call.makes] if name else kept.graph.inputs
    reads = set(kept.reads())
    return [t for t in found if kept.graph.behind([t]) & reads or kept.graph.is_shared(t)]


def also_read(kept: Kept) -> bool:
    found = _tensors(kept)
    casts = [call for t in found for call in kept.graph.readers(t) if _is_cast(call)]
    found += [t for call in casts for t in call.makes]  # a folded layer may have been what casts
    others = [call for t in found for call in kept.graph.readers(t)]
    others = [call for call in others if call.name != kept.name]
    known = kept.graph.named(kept.names[-1])  # none if a clip without finite bounds is left out
    named = [call for call in others if call in known] if known else others
    return any(not _computes(call, kept.refusal.maps[0]) for call in named)


def _is_cast(call: FlatCall) -> bool:
    return name_of(type(call.layer)) == "ops.Cast"


def _computes(call: FlatCall, a: Affine) -> bool:
    """Whether a layer computes a map, as running it shows."""
    layer = call.node.operation  # what applies it to each time step included
    if type(call.layer) not in AFFINE or call.training or len(call.reads) > 1:
        return False
    shape = tuple(n or 1 for n in call.node.input_tensors[0].shape[1:])
    if len(shape) != len(a.shape):
        return False
    arguments = call.node.arguments.args, call.node.arguments.kwargs

    def run(value: float) -> np.ndarray:
        x = np.full((1, *shape), value)
        args, kwargs = keras.tree.map_structure(
            lambda leaf: x if isinstance(leaf, keras.KerasTensor) else leaf, arguments
        )
        return np.asarray(np.array(layer(*args, **kwargs), np.float64)[0])

    zero, one = run(0.0), run(1.0)
    return bool(
        np.allclose(zero, a.t, rtol=1e-12) and np.allclose(one - zero, a.s, rtol=1e-9, atol=1e-12)
    )


def is_output(kept: Kept) -> bool:
    return bool(set(_tensors(kept)) & set(kept.graph.outputs))


def reaches_output(kept: Kept) -> bool:
    behind = kept.graph.behind(kept.makes(), LINEAR)
    return bool(behind & set(kept.graph.outputs))


def follows_input(kept: Kept) -> bool:
    return bool(kept.graph.behind(kept.graph.inputs, LINEAR) & set(kept.reads()))


def requested_twice(kept: Kept) -> bool:
    """Two paths lead from the tensor to affine layers."""
    return any(
        len(kept.graph.readers(t)) > 1 or _is_read_twice(kept.graph, t) for t in _tensors(kept)
    )


def _is_read_twice(graph: FlatGraph, tensor: int) -> bool:
    behind = graph.behind([tensor])
    return any(
        len(set(call.reads) & behind) > 1 or call.reads.count(tensor) > 1 for call in graph.calls
    )


def is_broadcast(kept: Kept) -> bool:
    assert kept.refusal.value is not None
    shape, a = kept.refusal.value.example, kept.refusal.maps[0]
    return any(n == 1 < m for n, m in zip(shape, a.shape, strict=True))


def has_outputs(kept: Kept) -> bool:
    return any(len(call.makes) > 1 for call in kept.graph.named(kept.names[0]))


def is_shared(kept: Kept) -> bool:
    return len(kept.graph.named(kept.names[0])) > 1


def changes(kept: Kept) -> bool:
    """The layer is called twice, and a flag is set that Keras hands on from call to call."""
    flags = [call.training for call in kept.graph.calls]
    return len(kept.graph.named(kept.names[0])) > 1 and True in flags


def reads_second(kept: Kept) -> bool:
    carried = kept.graph.behind(kept.makes(), LINEAR)
    return any(carried & set(call.reads[1:]) for call in kept.graph.named(kept.names[0]))
