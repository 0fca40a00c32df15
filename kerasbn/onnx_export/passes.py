"""The passes that turn a converted graph into one node per layer, without changing any value.

Generic clean-up comes from onnx_ir and onnxscript: unused, equal and idle nodes, constant folding,
padding into convolutions. The rules in `linear` and `layout` are those that neither has.
"""

from collections.abc import Callable
from copy import copy

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import RewritePass, RewriteRule, RewriteRuleSet
from onnxscript.rewriter.rules import common as library

from kerasbn.onnx_export import functions, layout, linear
from kerasbn.onnx_export.linear import Array, constant

# A folded constant may not swell the file.
_LARGEST_CONSTANT = 1 << 24
# Constants up to this size are compared with each other, which copies them. A large kernel of a
# shared layer is one constant already.
_LARGEST_COPY = 1 << 20
# Passes are repeated until none changes anything; this many times is a defect of a pass.
_MOST_ROUNDS = 50


def _though_read_elsewhere(rule: RewriteRule) -> RewriteRule:
    """Return a rule that also applies where the inner node has further readers, and stays."""
    rule = copy(rule)
    rule.remove_nodes = False
    return rule


LIBRARY_RULES = (
    library.cast_cast_rule,
    library.no_op_cast_rule,
    library.no_op_expand_rule,
    library.no_op_transpose_rule,
    _though_read_elsewhere(library.transpose_transpose_rule),
    library.materialize_reshape_shape_rule,
    library.fuse_pad_into_conv_rule,
)

OWN_RULES = (
    linear.matmul_of_reshape,
    linear.idle_reshape,
    linear.idle_pad,
    linear.flatten,
    linear.einsum_to_matmul,
    linear.bias,
    layout.unsqueeze_behind_transpose,
    layout.squeeze_ahead_of_transpose,
    layout.slice_of_conv_transpose,
    *map(layout.squeeze_ahead_of_convolution, linear.CONVOLUTIONS),
    layout.squeeze_of_unsqueeze,
    *map(layout.reduction_ahead_of_transpose, layout.REDUCTIONS),
    *map(linear.one_bound, ("Max", "Min")),
    linear.both_bounds,
)


def fold_constants(model: ir.Model) -> ir.passes.PassResult:
    """Replace nodes that read only constants by the constant they compute.

    onnxscript leaves out Split.
    """
    result = fold_constants_ir(
        model,
        input_size_limit=_LARGEST_CONSTANT,
        output_size_limit=_LARGEST_CONSTANT,
        should_fold=lambda node: len(node.outputs) == 1,
    )
    modified = bool(result)
    for node in model.graph:
        whole = constant(node.inputs[0]) if node.op_type == "Split" else None
        if whole is not None and any(value.uses() for value in node.outputs):
            sizes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
            places = len(node.outputs) if sizes is None else np.cumsum(sizes)[:-1]
            parts = np.array_split(whole, places, node.attributes.get_int("axis", 0))
            for value, part in zip(node.outputs, parts, strict=True):
                make_constant(model.graph, value, part)
            modified = True
    return ir.passes.PassResult(model, modified)


def make_constant(graph: ir.Graph, value: ir.Value, array: Array) -> None:
    """Let everything that reads a value read a constant instead."""
    name = f"{value.name} constant"
    made = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(made)
    value.replace_all_uses_with(made)


def settle_shapes(model: ir.Model) -> ir.passes.PassResult:
    """Make constants of values that are computed from shapes and are equal for all sizes.

    tf2onnx computes the bounds of a Slice from shapes at run time. onnxscript folds them only where
    the whole shape is fixed. Here every free axis takes three sizes in turn.
    """
    if not any(node.op_type == "Shape" for node in model.graph):
        return ir.passes.PassResult(model, modified=False)
    first, *others = (_constants_at(model, smallest) for smallest in (2, 37, 101))
    settled = {
        name: array
        for name, array in first.items()
        if all(name in each and np.array_equal(array, each[name]) for each in others)
    }
    modified = False
    for value in [value for node in model.graph for value in node.outputs]:
        if value.name in settled and value.uses() and not value.is_graph_output():
            make_constant(model.graph, value, settled[value.name])
            modified = True
    return ir.passes.PassResult(model, modified)


def _constants_at(model: ir.Model, smallest: int) -> dict[str, Array]:
    """Return the constants that there are if the free axes have sizes from `smallest` on."""
    copy = model.clone()
    sizes: dict[object, int] = {}
    for node in list(copy.graph):
        source = node.inputs[0] if node.op_type == "Shape" and not node.attributes else None
        if source is not None and source.shape is not None:
            shape = [
                size if isinstance(size, int)
                else sizes.setdefault(size.value or (source, at), smallest + len(sizes))
                for at, size in enumerate(source.shape)
            ]  # fmt: skip
            make_constant(copy.graph, node.outputs[0], np.array(shape, np.int64))
    fold_constants(copy)
    found = ((name, constant(value)) for name, value in copy.graph.initializers.items())
    return {name: array for name, array in found if array is not None}


def drop_zero_state(model: ir.Model) -> ir.passes.PassResult:
    """``LSTM(x, ..., h=0, c=0)`` -> ``LSTM(x, ...)``, also for GRU and RNN: the default is zero."""
    modified = False
    for node in model.graph:
        states = node.inputs[5:7] if node.op_type in ("LSTM", "GRU", "RNN") else ()
        if any(state is not None for state in states) and all(map(_is_zero, states)):
            for at, _ in enumerate(states, 5):
                node.replace_input_with(at, None)
            modified = True
    return ir.passes.PassResult(model, modified)


def _is_zero(value: ir.Value | None) -> bool:
    """Return whether a value is absent or has only zeros, in whatever shape."""
    if value is None:
        return True
    array, node = constant(value), value.producer()
    if array is not None or node is None:
        return array is not None and not np.any(array)
    if node.op_type not in ("Expand", "Unsqueeze", "Squeeze", "Reshape", "Concat"):
        return False
    return all(map(_is_zero, node.inputs if node.op_type == "Concat" else node.inputs[:1]))


def rules(*each: RewriteRule) -> RewritePass:
    """Return a pass that applies rewrite rules, whichever way round an Add or Max reads."""
    return RewritePass(RewriteRuleSet(each, commute=True))


def fuse_functions(model: ir.Model) -> ir.passes.PassResult:
    """Apply the rules of `functions`, in the order that the converter writes operands."""
    known = (model.opset_imports.get("", 0) or 0) >= functions.LAYER_NORMALIZATION_OPSET
    found = (functions.exact_gelu, *(functions.layer_normalization if known else ()))
    result: ir.passes.PassResult = RewritePass(RewriteRuleSet(found))(model)
    return result


infer_shapes = common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)
CLEAN_UP: tuple[Callable[[ir.Model], ir.passes.PassResult], ...] = (
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common.LiftSubgraphInitializersToMainGraphPass(),
    common.IdentityEliminationPass(),
    settle_shapes,
    fold_constants,
    drop_zero_state,
    common.RemoveUnusedNodesPass(),
    common.DeduplicateInitializersPass(size_limit=_LARGEST_COPY),
    common.CommonSubexpressionEliminationPass(),
)


def simplify(model: ir.Model) -> None:
    """Apply all passes, in place, until none changes anything.

    The names, types and shapes of inputs and outputs stay as they are.
    """
    outputs = [(value.name, value.type, value.shape) for value in model.graph.outputs]
    for late in ((), (linear.matmul_to_gemm,)):
        whole = (fuse_functions,) if late else ()
        _settle(model, *CLEAN_UP, rules(*LIBRARY_RULES, *OWN_RULES, *late), *whole)
    common.OutputFixPass()(model)
    # What is behind an output may have changed, and an Identity may be new.
    for value, (name, type_, shape) in zip(model.graph.outputs, outputs, strict=True):
        value.name, value.type, value.shape = name, type_, shape


def _settle(model: ir.Model, *passes: Callable[[ir.Model], ir.passes.PassResult]) -> None:
    """Infer shapes and apply the passes, in place, until they change nothing."""
    for _ in range(_MOST_ROUNDS):
        infer_shapes(model)
        changed = [step(model).modified for step in passes]
        if not any(changed):
            return
    raise AssertionError("two passes undo each other")
