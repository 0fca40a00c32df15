"""Show on the Keras layers themselves that a refused map has no place to go.

Nothing here uses the package's formulas: a layer is run on numbers, and what could hold of its
results for some map, or for some weights, is solved for by least squares.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import least_squares

from kerasbn.common.keras_internals import attention_projections
from kerasbn.folding.affine import Affine
from kerasbn.folding.graph import Call

from .layers import L

Array = np.ndarray
CLOSE = 1e-8
LARGEST = 300_000  # entries of a matrix that is probed
LENGTH = 5  # for an unknown one; strides of 2, 3 and 4 leave a rest
Run = Callable[..., Array]


def runner(call: Call, **more: Any) -> tuple[Run, list[tuple[int, ...]]]:
    """The layer of a call as a function of one array per tensor that it reads, and their shapes."""
    values = list(dict.fromkeys(call.inputs))
    places = [values.index(value) for value in call.inputs]
    arguments = call.node.arguments
    options = {**arguments.kwargs, **more}
    if call.wraps:
        options.pop("mask", None)  # TimeDistributed takes one, the layer inside need not

    def run(*arrays: Array) -> Array:
        given = {
            id(tensor): arrays[place]
            for tensor, place in zip(call.node.input_tensors, places, strict=True)
        }

        def fill(leaf: Any) -> Any:
            return given[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

        args = keras.tree.map_structure(fill, arguments.args)
        kwargs = keras.tree.map_structure(fill, options)
        try:
            made = call.layer(*args, **kwargs)
        except tf.errors.NotFoundError:  # TensorFlow has no kernel for float64, XLA has
            made = tf.function(lambda: call.layer(*args, **kwargs), jit_compile=True)()
        return np.array(keras.ops.convert_to_numpy(keras.tree.flatten(made)[0]), np.float64)

    return run, [tuple(n or LENGTH for n in call.seen(value)) for value in values]


def examples(shapes: list[tuple[int, ...]], n: int) -> list[Array]:
    """Random examples, some small and some large."""
    rng = np.random.default_rng(0)
    size = 10 ** rng.uniform(-1, 1.5, n)
    return [size.reshape(n, *[1] * len(s)) * rng.normal(size=(n, *s)) for s in shapes]


def mapped(a: Affine, x: Array) -> Array:
    return np.asarray(a.s * x + a.t)


def map_goes_on(call: Call, incoming: list[Affine]) -> bool:
    """Whether L(a(x)) is, element by element, an affine function of L(x)."""
    run, shapes = runner(call)
    arrays = examples(shapes, call.node.input_tensors[0].shape[0] or 24)
    values = list(dict.fromkeys(call.inputs))
    maps = dict(zip(call.data, incoming, strict=True))
    changed = [
        mapped(maps[value], x) if value in maps else x
        for value, x in zip(values, arrays, strict=True)
    ]
    before, after = run(*arrays), run(*changed)
    w, v = (part.reshape(len(part), -1) for part in (before, after))
    w, level = w - w.mean(0), np.abs(v).max(0)
    v = v - v.mean(0)
    slope = (w * v).sum(0) / np.maximum((w * w).sum(0), 1e-300)
    return bool((np.abs(v - slope * w).max(0) <= CLOSE * np.maximum(level, 1e-300)).all())


def map_comes_from(call: Call, outgoing: Affine) -> bool:
    """Whether some maps on the inputs of a linear layer L make b(L(x)).

    L is a matrix M, so that M diag(s') = diag(s) M and M t' = t have to have a solution.
    """
    run, shapes = runner(call)
    sizes = [int(np.prod(shape)) for shape in shapes]
    basis = np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
    made = run(*[part.reshape(-1, *shape) for part, shape in zip(basis, shapes, strict=True)])
    zero = run(*[np.zeros((1, *shape)) for shape in shapes])
    assert not zero.any(), "not linear"
    m = made.reshape(sum(sizes), -1).T
    s, t = (np.broadcast_to(values, made.shape[1:]).ravel() for values in (outgoing.s, outgoing.t))
    used = np.abs(m) > 0
    highest = np.where(used, s[:, None], -np.inf).max(0)
    lowest = np.where(used, s[:, None], np.inf).min(0)
    reached = used.any(0)
    if not np.allclose(highest[reached], lowest[reached], rtol=CLOSE, atol=0):
        return False
    solved = np.linalg.lstsq(m, t, rcond=None)[0]
    return bool(np.abs(m @ solved - t).max() <= CLOSE * max(np.abs(t).max(), 1e-300))


def copies(call: Call) -> bool:
    """Whether a layer only moves and repeats the values of its input, and adds constants."""
    run, shapes = runner(call)
    x = examples(shapes[:1], 1)[0]
    made, constants = run(x), run(np.zeros_like(x))
    return bool(
        (np.isin(made.astype(np.float32), x.astype(np.float32)) | (made == constants)).all()
    )


def only_reshapes(call: Call) -> bool:
    """Whether the values that come out are those that go in, in the same order."""
    run, shapes = runner(call)
    x = examples(shapes, 1)[0]
    return len(shapes) == 1 and np.array_equal(run(x).ravel(), x.ravel())


def makes_no_difference(call: Call, a: Affine) -> bool:
    """Whether L(a(x)) = L(x), as where L subtracts the mean, or multiplies by zeros."""
    run, shapes = runner(call)
    arrays = examples(shapes, call.node.input_tensors[0].shape[0] or 8)
    return bool(np.allclose(run(*[mapped(a, x) for x in arrays]), run(*arrays), rtol=CLOSE))


def is_convex(call: Call, outgoing: Affine, sign: int) -> bool:
    """Whether sign * b(L(x)) is convex, as sign * L(a(x)) is for every a, L being an extreme."""
    run, shapes = runner(call)
    x, y = examples(shapes, 24), [part[::-1] for part in examples(shapes, 24)]
    middle = [(a + b) / 2 for a, b in zip(x, y, strict=True)]
    at_x, at_y, between = (sign * mapped(outgoing, run(*part)) for part in (x, y, middle))
    bend = between - (at_x + at_y) / 2
    return bool(bend.max() <= CLOSE * np.abs(at_x).max())


def activation_takes(function: Callable[[Array], Array], a: Affine, shape: Any) -> bool:
    """Whether f(s'*x + t') = s*f(x) + t has a solution s', t', for each s and t in an example."""
    wide = [np.broadcast_to(values, shape).reshape(-1) for values in (a.s, a.t)]
    worst = [np.argmax(np.abs(wide[0])), np.argmax(wide[0]), np.argmin(wide[0])]
    worst.append(np.argmax(np.abs(wide[1])))
    return all(_takes(function, shape, at, wide[0][at], wide[1][at]) for at in map(int, worst))


def _takes(function: Callable[[Array], Array], shape: Any, at: int, s: float, t: float) -> bool:
    x = np.linspace(-9, 9, 1801)  # close enough for the thresholds of the random models

    def f(z: Array) -> Array:
        full = np.broadcast_to(z.reshape(-1, *[1] * len(shape)), (len(z), *shape))
        return function(full).reshape(len(z), -1)[:, at]

    want = s * f(x) + t
    starts = [(u, v) for u in (s, -s, 0.3, -0.3, 2.0) for v in (0.0, t, -2.0)]
    best = min(np.abs(f(u * x + v) - want).max() for u, v in starts)
    if best > CLOSE:
        ranked = sorted(starts, key=lambda p: float(((f(p[0] * x + p[1]) - want) ** 2).sum()))
        for start in ranked[:3]:
            found = least_squares(lambda p: f(p[0] * x + p[1]) - want, start, xtol=1e-14)
            best = min(best, np.abs(found.fun).max())
    return bool(best <= CLOSE * max(np.abs(want).max(), 1e-300))


def weights_take(call: Call, side: str, a: Affine, argument: str) -> bool:
    """Whether the layer of a call has weights W with L_W(x) = a(L(x)), or = L(a(x)).

    L_W(x) is linear in W, so that trying each weight alone gives the equations to solve.
    """
    layer = _linear_in_weights(call.layer, argument)
    example = tuple(n or LENGTH for n in call.seen(call.inputs[0]))
    if isinstance(call.layer, L.MultiHeadAttention) and not argument:
        example = (*example[:-1], *layer.kernel.shape[:2])  # heads, and the values of each
    fixed = call.node.input_tensors[0].shape[0]
    in_attention = isinstance(call.layer, L.MultiHeadAttention)
    free = _with_every_variable(layer, (fixed, *example), in_attention)
    columns, variables = [], free.trainable_variables

    def run(x: Array) -> Array:
        return np.array(keras.ops.convert_to_numpy(free(x)), np.float64)

    def draw(n: int) -> Array:
        if isinstance(layer, L.Embedding):
            return np.random.default_rng(0).integers(0, layer.input_dim, (n, *example))
        return examples([example], n)[0]

    unknowns = sum(int(np.prod(v.shape)) for v in variables)
    each = run(draw(fixed or 1)).size  # equations that an example gives
    known = draw(fixed or max(8, 3 * unknowns // each + 1))
    made = run(known)
    if made.size * unknowns > LARGEST:
        return False  # too large to be shown here; smaller ones are
    target = mapped(a, made) if side == "after" else run(mapped(a, known))
    old = [keras.ops.convert_to_numpy(v) for v in variables]
    for variable in variables:
        variable.assign(np.zeros(variable.shape))
    for variable in variables:
        for at in np.ndindex(*variable.shape):
            one = np.zeros(variable.shape)
            one[at] = 1.0
            variable.assign(one)
            columns.append(run(known).ravel())
        variable.assign(np.zeros(variable.shape))
    for variable, values in zip(variables, old, strict=True):
        variable.assign(values)
    matrix = np.stack(columns, 1)
    solved = np.linalg.lstsq(matrix, target.ravel(), rcond=None)[0]
    error = np.abs(matrix @ solved - target.ravel()).max()
    return bool(error <= CLOSE * np.abs(target).max())


def _linear_in_weights(layer: Any, argument: str) -> Any:
    if isinstance(layer, L.MultiHeadAttention):
        return attention_projections(layer)[argument][0]
    return layer.forward_layer if isinstance(layer, L.Bidirectional) else layer


def _with_every_variable(layer: Any, shape: tuple[int | None, ...], in_attention: bool) -> Any:
    """A copy of a linear layer with a bias and no activation, or one that can do more than it."""
    if isinstance(layer, L.RNN):
        cell = layer.cell.cells[0] if isinstance(layer.cell, L.StackedRNNCells) else layer.cell
        free: Any = L.Dense(cell.kernel.shape[-1])
        free.build(shape)
        free.kernel.assign(cell.kernel)
        return free
    kept = layer.get_config()
    if isinstance(layer, L.SeparableConv1D | L.SeparableConv2D):
        kind = L.Conv1D if isinstance(layer, L.SeparableConv1D) else L.Conv2D
        names = "filters", "kernel_size", "strides", "padding", "dilation_rate"
        free = kind(**{name: kept[name] for name in names})
        free.build(shape)
        depthwise, pointwise = (np.array(v) for v in layer.trainable_variables[:2])
        pointwise = pointwise.reshape(*depthwise.shape[-2:], -1)
        free.kernel.assign(np.einsum("...im,imo->...io", depthwise, pointwise))
        return free
    if isinstance(layer, L.EinsumDense):
        kernel, output = layer.equation.split(",")[1].split("->")
        free_axes = output.replace(".", "")[not output.startswith("...") :]
        if in_attention or "..." in output:  # a bias for each position is no choice
            free_axes = "".join(axis for axis in free_axes if axis in kernel)
        kept["bias_axes"] = free_axes
        lengths = kept["output_shape"]  # those of the sequence are None in attention
        if isinstance(lengths, list | tuple):
            kept["output_shape"] = [
                n or m for n, m in zip(lengths, [*shape[1:], *lengths], strict=False)
            ]
    more = {"activation": None, "use_bias": True, "center": True, "scale": True}
    free = type(layer).from_config({**kept, **{k: v for k, v in more.items() if k in kept}})
    free.build(shape)
    for variable in free.trainable_variables:
        known = [v for v in layer.trainable_variables if v.name == variable.name]
        if known and known[0].shape == variable.shape:
            variable.assign(known[0])  # otherwise it stays neutral: zeros, or ones for a gamma
    return free
