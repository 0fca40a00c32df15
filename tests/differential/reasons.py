"""Every reason to keep a layer, and how it is shown to be true.

A reason is shown on the Keras model or on the layers themselves, never by the package's formulas.
Some reasons are limits of what folding tries: a cleverer fold is conceivable. They are marked as
such, with what is shown nevertheless. A reason that is not in this table fails the run.
"""

import keras
import numpy as np

from kerasbn.folding.affine import Affine
from kerasbn.folding.graph import Value
from kerasbn.folding.keras.pass_through_layers import PASS_THROUGH_LAYERS

from . import evidence, surroundings
from .kept import LINEAR, NAME, Kept, Reason
from .refusals import name_of

# -- what the layer itself does --------------------------------------------------------------------


def _not_finite(kept: Kept) -> bool:
    return not all(np.isfinite(np.array(v)).all() for v in kept.layer.variables)


def _trains(kept: Kept) -> bool:
    """The same example, in another batch, comes out otherwise."""
    spec = kept.layer.input_spec  # the only thing a layer inside another one knows of its input
    lengths = {axis % spec.ndim: n for axis, n in spec.axes.items()}
    shape = tuple(lengths.get(axis, evidence.LENGTH) for axis in range(1, spec.ndim))
    one, two = (np.random.default_rng(n).normal(size=(3, *shape)) for n in (1, 2))
    two[0] = one[0]
    state = [np.array(v) for v in kept.layer.variables]
    first, second = (np.array(kept.layer(x, training=True))[0] for x in (one, two))
    for variable, values in zip(kept.layer.variables, state, strict=True):
        variable.assign(values)
    return kept.layer.trainable and not np.allclose(first, second, rtol=1e-6)


def _along_batch(kept: Kept) -> bool:
    """Two equal examples come out otherwise."""
    shape = tuple(kept.layer.input.shape)
    same = np.array(kept.layer(np.ones(shape)))
    return not np.allclose(same, same[:1], rtol=1e-9)


def _grows(kept: Kept) -> bool:
    """Some inputs, such as those with length 1 along axes of unknown length, get another shape."""
    (call,) = kept.graph.named(kept.name)
    shape = [n or 1 for n in call.node.input_tensors[0].shape]
    args, kwargs = keras.tree.map_structure(
        lambda leaf: np.ones(shape) if isinstance(leaf, keras.KerasTensor) else leaf,
        (call.node.arguments.args, call.node.arguments.kwargs),
    )
    return list(call.layer(*args, **kwargs).shape) != shape


def _gains_axes(kept: Kept) -> bool:
    example = np.ones([n or 3 for n in kept.layer.input.shape])  # as random inputs have
    return len(kept.layer(example).shape) > example.ndim


# -- what a neighboring layer does -----------------------------------------------------------------


def _goes_nowhere(kept: Kept) -> bool:
    """No map follows the layer for those that reach it, or precedes it for the one behind it."""
    if kept.refusal.step == "forward":
        return not evidence.map_goes_on(kept.call, kept.refusal.maps)
    return not evidence.map_comes_from(kept.call, kept.refusal.maps[0])


def _mixes(kept: Kept) -> bool:
    """A limit: a layer that copies, or averages windows that do not overlap, could pass it on.

    So could one that averages, where only t varies.
    """
    layer = kept.call.layer
    apart = getattr(layer, "strides", None) == getattr(layer, "pool_size", ())
    only_t_varies = not _s_varies_by_position(kept)
    return apart or evidence.copies(kept.call) or only_t_varies or _goes_nowhere(kept)


def _s_varies_by_position(kept: Kept) -> bool:
    s = np.atleast_1d(kept.refusal.maps[0].s)
    channels = 0 if getattr(kept.call.layer, "data_format", "") == "channels_first" else -1
    return bool(np.ptp(np.moveaxis(s, channels, 0).reshape(s.shape[channels], -1), axis=1).any())


def _takes_extreme(kept: Kept) -> bool:
    """A limit: the extreme of one value, or of a tensor and itself, is that value.

    Another: where s is 0, the inputs are constants, and so is their extreme. Where s varies between
    positions, there is one more obstacle, which is not reported.
    """
    if len(set(kept.call.data)) < len(kept.call.data) or evidence.only_reshapes(kept.call):
        return True
    if kept.refusal.step == "backward" and _s_varies_by_position(kept):
        return True
    if kept.refusal.step == "forward":
        first, *others = kept.refusal.maps
        if all(
            ((each.s == first.s) & ((each.t == first.t) | (first.s == 0))).all() for each in others
        ):
            return True
        return not evidence.map_goes_on(kept.call, kept.refusal.maps)
    sign = -1 if "Minimum" in kept.call.type_name else 1
    return not evidence.is_convex(kept.call, kept.refusal.maps[0], sign)


def _activates(kept: Kept) -> bool:
    if _is_special(kept):
        return True
    if kept.refusal.step == "forward":  # a limit: a map that changes would take a clip along
        return not (kept.clips and evidence.map_goes_on(kept.call, kept.refusal.maps))
    run, _ = evidence.runner(kept.call)
    a = kept.refusal.maps[0]
    return not evidence.activation_takes(run, a, _lengths(kept.call.inputs[0], a))


def _has_activation(kept: Kept) -> bool:
    if _is_special(kept):
        return True
    if kept.refusal.step == "forward":
        return not evidence.map_goes_on(kept.call, kept.refusal.maps)
    function = kept.call.layer.activation  # of an Activation layer, or of a linear one

    def run(x: np.ndarray) -> np.ndarray:
        return np.array(keras.ops.convert_to_numpy(function(x)))

    a = kept.refusal.maps[0]
    return not evidence.activation_takes(run, a, _lengths(kept.call.outputs[0], a))


def _is_special(kept: Kept) -> bool:
    """Limits: an odd function would let signs pass, and so would a sigmoid, with an offset.

    Any function lets a constant pass, if it reaches it.
    """
    a = kept.refusal.maps[0]
    signs = (np.abs(a.s) == 1).all() and not a.t.any()
    return bool(signs or not a.s.any())


def _lengths(value: Value, a: Affine) -> tuple[int, ...]:
    """A shape of a tensor that has the axes of a map, those of time steps included or not."""
    return tuple(n or evidence.LENGTH for n in value.example[len(value.example) - len(a.shape) :])


def _weights_refuse(kept: Kept) -> bool:
    """A limit: a map that the layer undoes could be left out."""
    edit = kept.refusal.edit
    assert edit is not None
    if edit.side == "before" and evidence.makes_no_difference(kept.call, edit.affine):
        return True
    return not evidence.weights_take(kept.call, edit.side, edit.affine, edit.argument)


def _pads_in(kept: Kept) -> bool:
    """A limit: a t that is 0 at the border could go on to a Dense layer behind a Flatten.

    What is padded does not depend on the input, and has to stay as it is.
    """
    if _unknown_length(kept):
        return True  # how much is padded is not known
    run, shapes = evidence.runner(kept.call)
    zero, one = (np.full((1, *shapes[0]), value) for value in (0.0, 1.0))
    made = run(zero)
    share = run(one) - made  # of each output that comes from the input
    padded = ~np.isclose(share, 1)
    if not padded.any():
        return False
    a = kept.refusal.maps[0]
    if kept.refusal.step == "forward":
        filled = np.full_like(zero, (made[padded] / (1 - share[padded])).flat[0])
        return not np.allclose(run(evidence.mapped(a, filled)), run(filled))
    moved = evidence.mapped(a, made)[padded]
    return not np.allclose(moved, made[padded])


def _saturates(kept: Kept) -> bool:
    """Saturated states are among a few numbers for any weights, and the map's values are not."""
    if _is_special(kept):
        return True
    run, shapes = evidence.runner(kept.call)
    made = run(1e9 * evidence.examples([shapes[0]], 3)[0])
    changed = evidence.mapped(kept.refusal.maps[0], made)
    states = np.array([0, 1, np.tanh(1)])
    if getattr(kept.call.layer, "merge_mode", "") == "sum":  # of both directions
        states = np.append(states, [2, 1 + np.tanh(1)])
    return bool((np.abs(np.abs(changed)[..., None] - states).min(-1) > 1e-6).any())


def _multiplies(kept: Kept) -> bool:
    """(a*x + b) * (c*y + d) has the terms x, y and 1 only where it has no x*y."""
    if len(set(kept.call.data)) == 1:
        return True  # a limit: divided by itself, a tensor is 1
    if kept.refusal.step == "forward":
        return not evidence.map_goes_on(kept.call, kept.refusal.maps)
    return bool(np.logical_and(kept.refusal.maps[0].s, kept.refusal.maps[0].t).any())


def _is_noisy(kept: Kept) -> bool:
    """It is called so, and then the same input comes out otherwise each time."""
    if not any(call.training for call in kept.graph.named(kept.names[0])):
        return False
    run, shapes = evidence.runner(kept.call, training=True)
    arrays = evidence.examples(shapes, 8)
    return not np.array_equal(run(*arrays), run(*arrays))


def _differs_by_step(kept: Kept) -> bool:
    """The maps of two steps differ, while the layer has one kernel for all, or no weights."""
    steps = [kept.refusal.maps[0].varies_along(axis) for axis in range(kept.call.wraps)]
    return any(steps) and (_linear(kept) or type(kept.call.layer) in PASS_THROUGH_LAYERS)


def _too_small(kept: Kept) -> bool:
    return bool((np.abs(np.array(kept.layer.gamma)) < 1e-199).any())


# -- limits ----------------------------------------------------------------------------------------


def _linear(kept: Kept) -> bool:
    return isinstance(kept.call.layer, LINEAR)


def _unknown_length(kept: Kept) -> bool:
    return any(None in value.example for value in [*kept.call.inputs, *kept.call.outputs])


def _reads_constant(kept: Kept) -> bool:
    given = keras.tree.flatten(kept.call.node.arguments.args)
    return any(not isinstance(leaf, keras.KerasTensor) for leaf in given)


# The classes that neither take a map nor pass one, so far as folding knows.
UNKNOWN = {
    "Softmax", "UnitNormalization", "ops.Exp", "Block", "Doubled",
}  # fmt: skip
CLIPS = {"ops.Relu6", "ops.HardSigmoid"}


def _takes_no_map(kept: Kept) -> bool:
    """The layer is none that folding knows, or it can represent only some maps of its own kind."""
    layer, step, name = kept.call.layer, kept.refusal.step, name_of(type(kept.call.layer))
    if kept.call.kind:
        return True
    if isinstance(layer, LINEAR + tuple(PASS_THROUGH_LAYERS)):
        return False
    if name in CLIPS and step == "asked":
        return _activates(kept)
    return name in UNKNOWN | CLIPS


# -- the table -------------------------------------------------------------------------------------


TENSOR = "(?:its input|the output of `[^`]+`|a model input)"
REASONS = [
    Reason(f"{TENSOR} is also read by {NAME}", surroundings.also_read),
    Reason(f"{TENSOR} is also a model output", surroundings.is_output),
    Reason(f"{TENSOR} would need two different scales", surroundings.requested_twice),
    Reason(f"{TENSOR} is broadcast before it is scaled", surroundings.is_broadcast),
    Reason("it follows a model input", surroundings.follows_input),
    Reason(f"(?:its output|the output of {NAME}) is a model output", surroundings.reaches_output),
    Reason("its statistics are not finite", _not_finite),
    Reason("it uses batch statistics at inference: .*", _trains),
    Reason("it normalizes along the batch axis", _along_batch),
    Reason("its scale or offset has more axes than its input", _gains_axes),
    Reason(f"{NAME} is called both with and without training=True, .*", surroundings.changes),
    Reason(f"{NAME} has several outputs", surroundings.has_outputs),
    Reason(f"{NAME} is shared, and its calls need different maps", surroundings.is_shared),
    Reason(f"{NAME} is shared, and its calls need other clips", surroundings.is_shared),
    Reason(f"{NAME} is shared, and also reads other tensors", surroundings.is_shared),
    Reason(f"{NAME} reads it as a second argument", surroundings.reads_second),
    Reason(f"{NAME} reads it as an argument that no kernel multiplies", surroundings.reads_second),
    Reason(f"{NAME} mixes positions between which s and t vary", _mixes),
    Reason(f"{NAME} takes the maximum, .*", _takes_extreme),
    Reason(f"{NAME} compares its inputs, whose order a negative s would reverse", _takes_extreme),
    Reason(f"{NAME} compares it to a tensor with another scale", _takes_extreme),
    Reason(f"{NAME} adds it to a tensor with another scale", _goes_nowhere),
    Reason(f"{NAME} pads with zeros, which would miss the offset t", _pads_in),
    Reason(f"{NAME} pads with .*, which s and t change", _pads_in),
    Reason(f"{NAME} repeats its input, .*", _goes_nowhere),
    Reason(f"{NAME} cancels the offset t", _goes_nowhere),
    Reason(f"{NAME} multiplies its inputs, which would scale the offset t", _multiplies),
    Reason(f"{NAME} divides by it, and some s is 0", _multiplies),
    Reason("its constant broadcasts its input to another shape", _grows),
    Reason(f"{NAME} has a kink .*", _activates),
    Reason(
        f"{NAME} has the activation '.*', which this map does not pass through", _has_activation
    ),
    Reason(f"{NAME} lets no map pass unchanged", _activates),
    Reason(f"{NAME} is active: it is called with training=True", _is_noisy),
    Reason(f"{NAME} drops part of its input, because it is called with training=True", _is_noisy),
    Reason(f"{NAME} has no bias for the offset t", _weights_refuse),
    Reason(f"{NAME} shares its kernel along an axis where s and t vary", _weights_refuse),
    Reason(f"{NAME} pads its input with zeros, which would miss the offset t", _weights_refuse),
    Reason(f"{NAME} applies other kernel taps at each position, .*", _weights_refuse),
    Reason(
        f"{NAME} cannot fold a map that precedes it",
        lambda kept: bool(np.all(np.abs(kept.refusal.maps[0].s) == 1)) or _weights_refuse(kept),
        "gamma could take a sign, and the mean takes t away",
    ),
    Reason(f"{NAME} cannot fold a map that follows it", _saturates),
    Reason(
        f"{NAME} is the same for all time steps, while s and t vary .*",
        _differs_by_step,
        "a layer without weights could pass each step's map on",
    ),
    Reason(f"{NAME} would need a kernel too small for float64, because some s is tiny", _too_small),
    Reason(f"{NAME} would need a bound too large for float64, because some s is tiny", _too_small),
    Reason(
        f"{NAME} is an? \\w+, which no map folds into",
        _takes_no_map,
        "its class could be learned, and one that only multiplies could pass s on",
    ),
    Reason(
        f"{NAME} (?:reshapes axes|rearranges axes|has an input with an axis) of unknown length",
        _unknown_length,
        "the values of s and t for each position of an unknown number cannot be written out",
    ),
    Reason(f"{NAME} concatenates axes of unknown length", _unknown_length, "as above"),
    Reason(f"{NAME} combines it with a constant", _reads_constant, "the constant could be changed"),
    Reason(
        f"{NAME} combines tensors of different rank",
        lambda kept: len({len(value.example) for value in kept.call.inputs}) > 1,
        "an operation broadcasts one over the batch of the other, which could pass an even map",
    ),
    Reason(
        f"{NAME} concatenates along the batch axis",
        lambda kept: kept.call.layer.axis in (0, -1 - len(kept.call.outputs[0].example)),
        "the same map on all parts could pass",
    ),
    Reason(
        f"{NAME} sums over an axis of unknown length, which t would be multiplied by",
        _unknown_length,
        "as it says",
    ),
    Reason(
        f"{NAME} computes '.*', which does not keep the batch axis apart",
        lambda kept: kept.call.layer.equation.split(",")[1].startswith("a"),
        "the kernel has a row for each example of a batch of fixed size",
    ),
    Reason(
        f"{NAME} has a custom cell",
        lambda kept: type(kept.call.layer.forward_layer.cell).__module__.split(".")[0] != "keras",
        "what the cell computes is not known",
    ),
    Reason(
        f"{NAME} is quantized or has LoRA enabled",
        lambda kept: bool(kept.call.layer.lora_enabled),
        "LoRA could be merged first",
    ),
    Reason(
        f"{NAME} multiplies its input by itself",
        lambda kept: len(set(kept.call.data)) == 1,
        "each could take the root of s",
    ),
    Reason(
        f"{NAME} compares it to a number",
        lambda kept: kept.call.layer.initial is not None,
        "the number could be moved along",
    ),
    Reason(
        f"{NAME} rounds to whole numbers",
        lambda kept: "int" in kept.call.outputs[0].dtype,
        "whole numbers could be scaled by whole numbers",
    ),
    Reason(
        f"{NAME} pads with a value that it reads",
        lambda kept: len(kept.call.inputs) > 1,
        "the value could carry the same map",
    ),
    Reason(
        f"{NAME} (?:moves values from one example to another|moves the batch axis|"
        "works along the batch axis|takes a part of the batch|stacks along the batch axis)",
        lambda kept: isinstance(kept.call.layer, keras.Operation),
        "a map that is the same all over an example would pass",
    ),
    Reason(
        f"{NAME} is indexed by something other than numbers and slices",
        _reads_constant,
        "a new axis could be inserted into the map",
    ),
]
HIDDEN = [
    Reason(
        "it is inside the .* layer `.*`",
        lambda kept: True,
        "what the layer around it computes is not known",
    ),
    Reason("the arithmetic of its class .* is not known", lambda kept: True, "as it says"),
]
