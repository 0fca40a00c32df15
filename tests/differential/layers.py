"""One entry for each layer and operation that folding knows, and for some that it doesn't.

An entry creates a layer for an example of a given shape, with random options. `ENTRIES` has the
layers of one input by class, `MERGES` those of several inputs. A layer that is in a table of the
package but not here fails the run, because then no model has it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from dice import Dice

from kerasbn.common.keras_internals import operation_class

L = keras.layers
Tensor = Any  # Keras ships no types
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Entry:
    """How to create a layer for an example of a shape. Raises `ValueError` where none fits."""

    create: Callable[[Dice, Shape], Any]
    ranks: tuple[int, ...] = (1, 2, 3, 4)  # of the examples that it takes
    weight: int = 1


def affine_layer(d: Dice, shape: Shape) -> Any:
    """A BN layer or a scaling for that example shape."""
    if d.chance(0.15):
        return L.Rescaling(d.one([0.5, -1.5, 2.0]), offset=d.one([0.0, 0.0, 0.3, -1.0]))
    if d.chance(0.15):
        return _arithmetic(d, shape)
    if d.chance(0.08):
        return L.Normalization(axis=-1, invert=d.chance(0.3))
    known = [axis for axis, n in enumerate(shape, 1) if n is not None]
    axis = d.one(known) if d.chance(0.15) else -1
    return L.BatchNormalization(
        axis=axis, center=d.chance(0.85), scale=d.chance(0.85), epsilon=d.one([1e-3, 1e-5, 0.1])
    )


def _arithmetic(d: Dice, shape: Shape) -> Callable[[Tensor], Tensor]:
    """An operation with a constant: a number, or an array that varies along some axes."""
    sizes = [n if n and d.chance(0.5) else 1 for n in shape]
    array = d.random.normal(1.0, 1.0, sizes)
    c = d.one([d.one([0.5, -1.5, 2.0]), array, keras.ops.convert_to_tensor(array)])
    options: list[Callable[[Tensor], Tensor]] = [
        lambda x: x + c, lambda x: c + x, lambda x: x - c, lambda x: keras.ops.subtract(c, x),
        lambda x: x * c, lambda x: x / c, lambda x: keras.ops.divide(x, c), lambda x: -x,
    ]  # fmt: skip
    chosen: Callable[[Tensor], Tensor] = d.one(options)
    return chosen


def activation(d: Dice) -> str | None:
    chosen: str | None = d.one([None, None, None, "relu", "tanh", "leaky_relu"])
    return chosen


def _window(d: Dice, *paddings: str) -> dict[str, Any]:
    """Options of a layer with a kernel."""
    return {
        "kernel_size": d.int(1, 3),
        "strides": d.one([1, 1, 2]),
        "padding": d.one(list(paddings) or ["valid", "same"]),
        "use_bias": d.chance(0.6),
    }


def _conv(kind: type, *paddings: str) -> Callable[[Dice, Shape], Any]:
    def create(d: Dice, shape: Shape) -> Any:
        options = _window(d, *paddings)
        if options["strides"] == 1 and len(shape) < 4:
            options["dilation_rate"] = d.one([1, 1, 2])
        groups = d.one([g for g in (1, 1, 2, 3) if (shape[-1] or 1) % g == 0])
        if len(shape) == 4:
            groups = 1  # TensorFlow has no grouped kernel for volumes
        filters = groups * d.int(1, 3)
        return kind(filters, groups=groups, activation=activation(d), **options)

    return create


def _with_multiplier(kind: type, *filters: int) -> Callable[[Dice, Shape], Any]:
    return lambda d, _: kind(*filters, depth_multiplier=d.int(1, 2), **_window(d))


def _transposed(kind: type) -> Callable[[Dice, Shape], Any]:
    return lambda d, _: kind(d.int(2, 4), **_window(d))


def _einsum(d: Dice, shape: Shape) -> Any:
    known = [n or 1 for n in shape]
    # Keras reverses the axes of the shape that it expects if "..." stands for two or more.
    lead, output = ("...", 4) if len(shape) <= 2 else ("abcd"[: len(shape)], (*shape[:-1], 4))
    options: list[Callable[[], Any]] = [
        lambda: L.EinsumDense(f"{lead}x,xy->{lead}y", output, bias_axes=d.one([None, "y"]))
    ]
    if None not in shape and len(shape) == 2:
        bias = d.one([None, "d", "bd"])
        options += [
            lambda: L.EinsumDense("abc,cd->abd", (known[0], 3), bias_axes=bias),
            lambda: L.EinsumDense("abc,bcd->abd", (known[0], 3), bias_axes=bias),
            lambda: L.EinsumDense("abc,cd->ad", 3, bias_axes=bias and "d"),
            lambda: L.EinsumDense("abc,abd->acd", (known[1], 3)) if d.chance(0.1) else L.Identity(),
        ]
    if None not in shape and len(shape) == 3:
        given = (known[0], known[1], 4)
        options += [
            lambda: L.EinsumDense("abcd,de->abce", given, bias_axes=d.one([None, "e"])),
            lambda: L.EinsumDense("abcd,bcde->ae", 4, bias_axes=d.one([None, "e"])),
        ]
    return d.one(options)()


def _recurrent(kind: type) -> Callable[..., Any]:
    def create(d: Dice, _: Shape, sequences: bool | None = None) -> Any:
        sequences = d.chance(0.5) if sequences is None else sequences
        more = {"reset_after": d.chance(0.6)} if kind is L.GRU else {}
        return kind(3, return_sequences=sequences, use_bias=d.chance(0.7), **more)

    return create


def _with_cells(d: Dice, _: Shape) -> Any:
    kinds = [L.LSTMCell, L.GRUCell, L.SimpleRNNCell]
    cells = [d.one(kinds)(3, use_bias=d.chance(0.7)) for _ in range(d.int(1, 2))]
    return L.RNN(cells if d.chance(0.5) else cells[0], return_sequences=d.chance(0.5))


def _bidirectional(d: Dice, shape: Shape) -> Any:
    if d.chance(0.3):
        return L.Bidirectional(_with_cells(d, shape))
    one = _recurrent(d.one([L.LSTM, L.GRU, L.SimpleRNN]))(d, shape)
    return L.Bidirectional(one, merge_mode=d.one(["concat", "sum"]))


def _attention(d: Dice, _: Shape) -> Callable[[Tensor], Tensor]:
    attention = L.MultiHeadAttention(2, 2, use_bias=d.chance(0.6))
    return lambda x: attention(x, x)


def _pool(kind: type, **options: Any) -> Callable[[Dice, Shape], Any]:
    return lambda d, _: kind(2, d.int(1, 2), d.one(["valid", "same"]), **options)


def _global(kind: type) -> Callable[[Dice, Shape], Any]:
    return lambda d, _: kind(keepdims=d.chance(0.5))


def _cropping(kind: type) -> Callable[[Dice, Shape], Any]:
    def create(d: Dice, shape: Shape) -> Any:
        sides = [(0, d.int(0, 1)) if n and n > 2 else (0, 0) for n in shape[:-1]]
        return kind(sides[0] if len(sides) == 1 else tuple(sides))

    return create


def _reshape(d: Dice, shape: Shape) -> Any:
    if None in shape:
        return L.Reshape((-1, shape[-1])) if shape[-1] else L.Reshape((-1,))
    n = math.prod(each or 1 for each in shape)
    options = [(n,), (1, 1, n), (-1, shape[-1]), tuple(shape[::-1])]
    return L.Reshape(d.one(options))


def _plain(kind: type, *arguments: Any, **options: Any) -> Callable[[Dice, Shape], Any]:
    return lambda _, __: kind(*arguments, **options)


def _with_shared_axes(d: Dice, shape: Shape) -> Any:
    unknown = [axis for axis, n in enumerate(shape, 1) if n is None]
    return L.PReLU(shared_axes=unknown or d.one([None, [1]]))


def _group_normalization(_: Dice, shape: Shape) -> Any:
    if shape[-1] == 1:
        raise ValueError("one channel")
    return L.GroupNormalization(groups=1)


def _layer_normalization(d: Dice, shape: Shape) -> Any:
    axis = d.one([-1, -1, [1, 3]]) if len(shape) == 3 and None not in shape else -1
    return L.LayerNormalization(axis=axis, center=d.chance(0.6), scale=d.chance(0.6))


def _resizing(d: Dice, _: Shape) -> Any:
    how = d.one(["bilinear", "nearest", "bicubic"])
    fit = d.one([{}, {}, {"pad_to_aspect_ratio": True}, {"crop_to_aspect_ratio": True}])
    return L.Resizing(d.int(2, 6), d.int(2, 6), how, **fit)


def _reshape_operation(d: Dice, shape: Shape) -> Callable[[Tensor], Tensor]:
    layer = _reshape(d, shape)
    return lambda x: keras.ops.reshape(x, (-1, *layer.target_shape))


def _transpose(d: Dice, shape: Shape) -> Callable[[Tensor], Tensor]:
    order = [0, *(int(axis) + 1 for axis in d.random.permutation(len(shape)))]
    return lambda x: keras.ops.transpose(x, order)


def _item(d: Dice, shape: Shape) -> Callable[[Tensor], Tensor]:
    part = d.one([slice(1, None), slice(None, None, -1), slice(0, 2), slice(None, 1)])
    key: list[Any] = [slice(None)] * (len(shape) + 1)
    key[d.int(1, len(shape))] = part
    return lambda x: x[tuple(key)]


def _along(function: Callable[..., Tensor], extra: int = 0) -> Callable[[Dice, Shape], Any]:
    """An operation along an axis of the example, or along that many more."""

    def create(d: Dice, shape: Shape) -> Any:
        axis = d.int(1, len(shape) + extra)
        return lambda x: function(x, axis)

    return create


def _between(function: Callable[..., Tensor]) -> Callable[[Dice, Shape], Any]:
    def create(d: Dice, shape: Shape) -> Any:
        axes = d.int(1, len(shape)), d.int(1, len(shape))
        return lambda x: function(x, *axes)

    return create


def _pad(d: Dice, shape: Shape) -> Callable[[Tensor], Tensor]:
    pairs = [(0, 0), *((d.int(0, 1), d.int(0, 1)) for _ in shape)]
    mode, value = d.one(["constant", "constant", "symmetric"]), d.one([None, 0.0, 0.5])
    return lambda x: keras.ops.pad(x, pairs, mode, value if mode == "constant" else None)


def _squeeze(d: Dice, shape: Shape) -> Callable[[Tensor], Tensor]:
    axis = d.int(1, len(shape) + 1)
    return lambda x: keras.ops.squeeze(keras.ops.expand_dims(x, axis), axis)


# Operations with one tensor that rearrange or reduce it: how to call each, and its entry.
OPERATIONS: list[tuple[Callable[[Tensor], Tensor], Callable[[Dice, Shape], Any]]] = [
    (lambda x: keras.ops.reshape(x, (-1, 1)), _reshape_operation),
    (keras.ops.transpose, _transpose),
    (keras.ops.squeeze, _squeeze),
    (lambda x: x[:, :1], _item),
    (lambda x: keras.ops.expand_dims(x, 1), _along(keras.ops.expand_dims, 1)),
    (lambda x: keras.ops.flip(x, 1), _along(keras.ops.flip)),
    (keras.ops.mean, _along(keras.ops.mean)),
    (keras.ops.max, _along(keras.ops.max)),
    (lambda x: keras.ops.swapaxes(x, 0, 1), _between(keras.ops.swapaxes)),
    (lambda x: keras.ops.moveaxis(x, 0, 1), _between(keras.ops.moveaxis)),
    (lambda x: keras.ops.pad(x, 1), _pad),
    (lambda x: keras.ops.cast(x, "int32"), lambda _, __: lambda x: keras.ops.cast(x, "float64")),
]


def _by_rank(name: str, create: Callable[..., Any], **options: Any) -> dict[type, Entry]:
    """Entries for the 1D, 2D and 3D layers with that name, as far as there are any."""
    kinds = {rank + 1: getattr(L, f"{name}{rank}D", None) for rank in (1, 2, 3)}
    return {
        kind: Entry(create(kind, **options), (rank,), 3 if name == "Conv" else 1)
        for rank, kind in kinds.items()
        if kind
    }


# By class. Those of operations are the classes behind `keras.ops.relu(x)` and the like.
ENTRIES: dict[type, Entry] = {
    L.BatchNormalization: Entry(affine_layer, weight=8),
    L.Dense: Entry(
        lambda d, _: L.Dense(d.int(3, 5), use_bias=d.chance(0.6), activation=activation(d)),
        weight=3,
    ),
    L.EinsumDense: Entry(_einsum),
    L.Embedding: Entry(_plain(L.Embedding, 9, 4), ranks=()),  # reads token numbers only
    **_by_rank("Conv", _conv),
    L.Conv1D: Entry(_conv(L.Conv1D, "valid", "same", "causal"), (2,), 3),
    **_by_rank("DepthwiseConv", _with_multiplier),
    L.SeparableConv1D: Entry(_with_multiplier(L.SeparableConv1D, 3), (2,)),
    L.SeparableConv2D: Entry(_with_multiplier(L.SeparableConv2D, 3), (3,)),
    L.Conv1DTranspose: Entry(_transposed(L.Conv1DTranspose), (2,)),
    L.Conv2DTranspose: Entry(_transposed(L.Conv2DTranspose), (3,)),
    L.Conv3DTranspose: Entry(_transposed(L.Conv3DTranspose), (4,)),
    L.LayerNormalization: Entry(_layer_normalization),
    L.GroupNormalization: Entry(_group_normalization, (2, 3)),
    L.RMSNormalization: Entry(_plain(L.RMSNormalization)),
    L.LSTM: Entry(_recurrent(L.LSTM), (2,)),
    L.GRU: Entry(_recurrent(L.GRU), (2,)),
    L.SimpleRNN: Entry(_recurrent(L.SimpleRNN), (2,)),
    L.RNN: Entry(_with_cells, (2,)),
    L.Bidirectional: Entry(_bidirectional, (2,)),
    L.MultiHeadAttention: Entry(_attention, (2,)),
    L.Identity: Entry(_plain(L.Identity)),
    L.ActivityRegularization: Entry(_plain(L.ActivityRegularization, 0.0)),
    L.Dropout: Entry(_plain(L.Dropout, 0.3)),
    L.AlphaDropout: Entry(_plain(L.AlphaDropout, 0.3)),
    L.GaussianDropout: Entry(_plain(L.GaussianDropout, 0.3)),
    L.GaussianNoise: Entry(_plain(L.GaussianNoise, 0.3)),
    **_by_rank("SpatialDropout", lambda kind: _plain(kind, 0.2)),
    **_by_rank("AveragePooling", _pool),
    **_by_rank("MaxPooling", _pool),
    # TensorFlow has no kernel for float64.
    L.MaxPooling3D: Entry(_pool(L.MaxPooling3D, dtype="float32"), (4,)),
    **_by_rank("UpSampling", lambda kind: _plain(kind, 2)),
    L.UpSampling2D: Entry(
        lambda d, _: L.UpSampling2D(2, interpolation=d.one(["nearest", "bilinear"])), (3,)
    ),
    **_by_rank("Cropping", _cropping),
    **_by_rank("GlobalAveragePooling", _global),
    **_by_rank("GlobalMaxPooling", _global),
    **_by_rank("ZeroPadding", lambda kind: _plain(kind, 1)),
    L.Flatten: Entry(_plain(L.Flatten)),
    L.Reshape: Entry(_reshape),
    L.Permute: Entry(
        lambda d, shape: L.Permute(tuple(int(n) + 1 for n in d.random.permutation(len(shape))))
    ),
    L.RepeatVector: Entry(_plain(L.RepeatVector, 3), (1,)),
    L.ReLU: Entry(
        lambda d, _: L.ReLU(max_value=d.one([None, 1.0]), threshold=d.one([0.0, 0.0, 0.2])),
        weight=3,
    ),
    L.LeakyReLU: Entry(_plain(L.LeakyReLU, 0.1)),
    L.PReLU: Entry(_with_shared_axes),
    L.Activation: Entry(
        lambda d, _: L.Activation(
            d.one(["relu", "relu6", "hard_sigmoid", "linear", "sigmoid", "gelu"])
        ),
        weight=2,
    ),
    operation_class(keras.ops.relu): Entry(lambda _, __: keras.ops.relu),
    operation_class(keras.ops.relu6): Entry(lambda _, __: keras.ops.relu6),
    operation_class(keras.ops.hard_sigmoid): Entry(lambda _, __: keras.ops.hard_sigmoid),
    operation_class(keras.ops.leaky_relu): Entry(lambda _, __: keras.ops.leaky_relu),
    operation_class(keras.activations.relu): Entry(lambda _, __: keras.activations.relu),
    L.CenterCrop: Entry(lambda d, _: L.CenterCrop(d.int(2, 3), d.int(2, 5)), (3,)),
    L.Resizing: Entry(_resizing, (3,)),
    **{operation_class(function): Entry(create) for function, create in OPERATIONS},
    # These let no map pass.
    L.Softmax: Entry(_plain(L.Softmax)),
    L.UnitNormalization: Entry(_plain(L.UnitNormalization)),
    operation_class(keras.ops.exp): Entry(lambda _, __: lambda x: keras.ops.exp(-(x * x))),
}

# Image augmentation, which does nothing at inference: the arguments of each class.
AUGMENTATION: dict[type, tuple[Any, ...]] = {
    **dict.fromkeys(
        [
            *(L.RandomBrightness, L.RandomColorDegeneration, L.RandomContrast, L.RandomGrayscale),
            *(L.RandomHue, L.RandomRotation, L.RandomSaturation, L.RandomSharpness, L.RandomZoom),
        ],
        (0.3,),
    ),
    L.RandomPosterization: (4,),
    L.RandomTranslation: (0.2, 0.2),
    **dict.fromkeys(
        [
            *(L.AugMix, L.RandAugment, L.RandomColorJitter, L.RandomElasticTransform),
            *(L.RandomErasing, L.RandomFlip, L.RandomGaussianBlur, L.RandomInvert),
            *(L.RandomPerspective, L.RandomShear),
        ],
        (),
    ),
}
ENTRIES |= {kind: Entry(_plain(kind, *given), (3,), 0) for kind, given in AUGMENTATION.items()}

Pair = list[Tensor]
MERGES: dict[type, tuple[Callable[[], Callable[[Pair], Tensor]], int]] = {
    L.Add: (L.Add, 3),
    operation_class(lambda x: keras.ops.add(x, x)): (lambda: lambda pair: pair[0] + pair[1], 1),
    L.Subtract: (L.Subtract, 1),
    operation_class(lambda x: x - x): (lambda: lambda pair: pair[0] - pair[1], 1),
    L.Average: (L.Average, 1),
    L.Maximum: (L.Maximum, 1),
    L.Minimum: (L.Minimum, 1),
    operation_class(lambda x: keras.ops.maximum(x, x)): (
        lambda: lambda pair: keras.ops.maximum(*pair),
        1,
    ),
    operation_class(lambda x: keras.ops.minimum(x, x)): (
        lambda: lambda pair: keras.ops.minimum(*pair),
        1,
    ),
    L.Concatenate: (L.Concatenate, 4),
    operation_class(lambda x: keras.ops.concatenate([x, x])): (
        lambda: lambda pair: keras.ops.concatenate(pair, axis=-1),
        1,
    ),
    L.Multiply: (L.Multiply, 1),
    operation_class(lambda x: x * x): (lambda: lambda pair: pair[0] * pair[1], 1),
    operation_class(lambda x: x / x): (lambda: lambda pair: pair[0] / pair[1], 1),
    operation_class(lambda x: keras.ops.divide(x, x)): (lambda: lambda p: keras.ops.divide(*p), 1),
    operation_class(lambda x: keras.ops.stack([x, x])): (
        lambda: lambda pair: keras.ops.stack(pair, axis=-1),
        1,
    ),
}
JOINING = (L.Concatenate, operation_class(lambda x: keras.ops.concatenate([x, x])))
