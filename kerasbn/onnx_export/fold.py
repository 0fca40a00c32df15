"""Fold what a Keras graph does not show: custom layers, `keras.ops`, layers with several calls."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import onnx_ir as ir

from kerasbn.folding.graph import Call, Kind
from kerasbn.folding.onnx.affine_nodes import kind_of
from kerasbn.folding.onnx.fold import fold_model
from kerasbn.folding.plan import Fold, Kept, Plan
from kerasbn.onnx_export.canonical import LAYER, sort_and_name
from kerasbn.onnx_export.linear import Array
from kerasbn.onnx_export.passes import simplify


def fold_nodes(
    model: ir.Model, plan: Plan, inputs: Sequence[Array], *, clip: bool
) -> tuple[ir.Model, Plan]:
    """Return a simplified model with its affine nodes folded, and the plan of all folds.

    Args:
        model: The nodes of a folded Keras model, each with its layer in its metadata under `LAYER`.
        plan: The plan of the Keras model.
        inputs: An array for each input, to check the folds with.
        clip: Whether a ReLU may become a clip.
    """
    paths = {path for node in model.graph.all_nodes() for path in _paths([node])}
    if not any(map(kind_of, model.graph)):
        return model, joined(plan, Plan(), paths)
    sort_and_name(model.graph)
    folded, found = fold_model(model, clip=clip, inputs=inputs)
    if found.folds():
        simplify(folded)
    return folded, joined(plan, found, paths)


def joined(plan: Plan, found: Plan, paths: Iterable[str]) -> Plan:
    """Return the plan of a Keras model, with what was found out later about its nodes.

    A layer that was kept is folded if all its nodes were. If it is inside another layer, its nodes
    say why it was kept, and without nodes it is not called, or does nothing. Other nodes are
    arithmetic, which has a decision only where it was folded. `paths` are those of the layers that
    all nodes belong to.
    """
    layers = {call.name: _layers(call) for call in _calls(found)}
    kept = {decision.layer for decision in plan.kept()}
    hidden = {name for name, *_ in plan.graph.hidden.values()}
    of_layer: dict[str, list[Fold | Kept]] = defaultdict(list)
    arithmetic: list[Fold] = []
    present = {_owner(path, kept) for path in paths}
    names = {part for path in paths if not _owner(path, kept) for part in path.split("/")}
    for node in found:
        owners = {_owner(path, kept) for path in layers.get(node.layer, ())} - {""}
        for owner in owners:
            of_layer[owner].append(node)
        if not owners and isinstance(node, Fold):
            arithmetic.append(_folded(node.layer, node.kind, [node], layers))

    def decide(decision: Fold | Kept) -> Fold | Kept:
        if isinstance(decision, Fold):
            return decision
        nodes = of_layer[decision.layer]
        folds = [node for node in nodes if isinstance(node, Fold)]
        reasons = [node.reason for node in nodes if isinstance(node, Kept)]
        if folds and not reasons:
            return _folded(decision.layer, decision.kind, folds, layers)
        if reasons and decision.layer in hidden:
            return replace(decision, reason=reasons[0])
        is_gone = decision.layer not in present and decision.layer.split("/")[-1] not in names
        if is_gone and decision.layer in hidden:
            return Fold(decision.layer, (), "backward", kind=decision.kind)
        return decision

    result = Plan([*map(decide, plan), *arithmetic], plan.graph)
    result.added_bytes = found.added_bytes
    return result


def _folded(layer: str, kind: Kind, folds: Sequence[Fold], layers: dict[str, list[str]]) -> Fold:
    """Return the decision for a layer from those for its nodes, of which it names the layers."""
    into, through, clips = (
        _unique(path for fold in folds for name in getattr(fold, names) for path in layers[name])
        for names in ("into", "through", "clips")
    )
    # Those in the same layers are changes of layout, and activations, which matter as clips.
    through = tuple(name for name in through if name not in into or name in clips)
    return Fold(layer, into, folds[0].direction, through, clips, kind)


def _calls(plan: Plan) -> list[Call]:
    """Return the calls of the planned model, those that were dropped included."""
    return [*plan.graph.calls, *(call for calls in plan.graph.dropped.values() for call in calls)]


def _layers(call: Call) -> list[str]:
    """Return the paths of the layers that the nodes of a call belong to, or its name."""
    return _paths(filter(None, (call.layer, getattr(call, "offset", None))))


def _paths(nodes: Iterable[ir.Node]) -> list[str]:
    return [*_unique(node.metadata_props.get(LAYER) or str(node.name) for node in nodes)]


def _owner(path: str, layers: Iterable[str]) -> str:
    """Return the layer that a path belongs to, "" if to none.

    A layer within another is called `block/bn`, whatever stands between the two in its path.
    """
    parts = path.split("/")
    found = [name for name in layers if _is_within(name.split("/"), parts)]
    return max(found, key=len, default="")


def _is_within(name: Sequence[str], path: Sequence[str]) -> bool:
    """Return whether the parts of a name occur in a path in their order, from the first on."""
    left = iter(path)
    return name[0] == path[0] and all(part in left for part in name)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
