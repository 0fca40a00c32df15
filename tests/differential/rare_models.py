"""Small models for situations that are rare among random ones, mostly reasons to keep a layer.

Each function returns a model, and what to do after its parameters were randomized, or None.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from dice import Dice

from .layers import L, Tensor

BN = L.BatchNormalization
Rare = tuple[keras.Model, Callable[[], None] | None]


@keras.saving.register_keras_serializable("differential")
class Doubled(L.BatchNormalization):
    """A BN layer of a class that folding does not know."""

    def call(self, inputs: Tensor, training: Any = None, mask: Any = None) -> Tensor:
        return 2 * super().call(inputs, training, mask)


@keras.saving.register_keras_serializable("differential")
class Block(L.Layer):
    """A layer with a BN layer inside."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bn = BN()

    def build(self, shape: Any) -> None:
        self.bn.build(shape)

    def call(self, x: Tensor) -> Tensor:
        return self.bn(x)


def _model(inputs: Any, outputs: Any) -> Rare:
    return keras.Model(inputs, outputs), None


def _sequence(d: Dice, channels: int = 3) -> Any:
    return keras.Input((d.int(3, 5), channels))


def statistics_not_finite(_: Dice) -> Rare:
    x, bn = keras.Input((3,)), BN()
    model = keras.Model(x, L.Dense(2)(bn(L.Dense(3)(x))))
    return model, lambda: bn.moving_variance.assign([1.0, np.nan, np.inf])


def two_scales(_: Dice) -> Rare:
    x = keras.Input((4,))
    y = L.Dense(3)(x)
    return _model(x, BN()(L.Concatenate()([y, y])))


def broadcast(_: Dice) -> Rare:
    x = keras.Input((3, 4, 2))
    row = L.Conv2D(2, (3, 4))(x)
    wide = L.EinsumDense("abcd,bd->abcd", (3, 4, 2), bias_axes="b")(x)
    return _model(x, BN(axis=1)(L.Add()([row, wide])))


def several_outputs(d: Dice) -> Rare:
    x = _sequence(d)
    y, *states = L.LSTM(3, return_state=True)(x)
    return _model(x, [y, BN()(states[d.int(0, 1)])])


def behind_a_clip(_: Dice) -> Rare:
    x = keras.Input((4,))
    y = L.ReLU()(BN()(x))
    return _model(x, [L.Dense(2)(y), L.Softmax()(BN()(L.Dropout(0.2)(y)))])


def behind_a_clip_only(_: Dice) -> Rare:
    x = keras.Input((4,))
    y = L.ReLU()(BN()(x))
    return _model(x, L.Softmax()(BN()(L.Dense(3, activation="tanh")(L.Dense(3)(y)))))


def clips_shared(_: Dice) -> Rare:
    x, inner = keras.Input((4,)), keras.Input((4,))
    block = keras.Model(inner, L.Dense(3)(L.ReLU()(inner)))
    return _model(x, [block(BN()(x)), block(L.Activation("tanh")(x))])


def mask_is_scaled(_: Dice) -> Rare:
    x, n = keras.Input((4, 3)), keras.Input((4,))
    y = L.GlobalAveragePooling1D()(x, mask=BN()(n))
    return _model([x, n], L.Dense(2)(y))


def initial_state(d: Dice) -> Rare:
    x, h = _sequence(d), keras.Input((3,))
    return _model([x, h], L.GRU(3)(x, initial_state=BN()(h)))


def changing(_: Dice) -> Rare:
    x, y, bn = keras.Input((3,)), keras.Input((3,)), BN()
    return _model([x, y], [L.Dense(2)(bn(x, training=True)), L.Dense(2)(bn(y))])


def training(_: Dice) -> Rare:
    x = keras.Input((3,))
    return _model(x, L.Dense(2)(BN()(L.Dense(3)(x), training=True)))


def unknown_reshape(_: Dice) -> Rare:
    x = keras.Input((None, 3))
    return _model(x, L.Reshape((-1, 1))(BN()(x)))


def unknown_input_length(_: Dice) -> Rare:
    x = keras.Input((None, 3))  # random inputs have 12 steps
    return _model(x, L.Dense(2)(L.Reshape((36,))(BN()(x))))


def unknown_concatenation(_: Dice) -> Rare:
    x, y = keras.Input((None, 3)), keras.Input((None, 3))
    return _model([x, y], L.Dense(2)(L.Concatenate(axis=1)([BN()(x), y])))


def tiny_scale(_: Dice) -> Rare:
    x, bn = keras.Input((3,)), BN()
    model = keras.Model(x, L.Dense(2)(L.ReLU()(bn(x))))
    return model, lambda: bn.gamma.assign([1e-300, 1.0, -1.0])


def large_bound(_: Dice) -> Rare:
    x, bn = keras.Input((3,)), BN()
    model = keras.Model(x, L.Dense(2)(L.ReLU()(bn(x))))

    def finish() -> None:
        bn.gamma.assign([1e-200, 1.0, -1.0])
        bn.beta.assign([1e150, 1.0, -1.0])

    return model, finish


def time_steps(d: Dice) -> Rare:
    x = keras.Input((4, 3))
    inner = d.one([lambda: L.Dense(2), lambda: L.Activation("linear")])()
    y = L.TimeDistributed(inner)
    if d.chance(0.5):
        return _model(x, BN(axis=1)(y(L.Dense(3)(x))))
    return _model(x, L.Dense(2)(y(BN(axis=1)(x))))


def batch_in_kernel(_: Dice) -> Rare:
    x = keras.Input((3,), batch_size=3)
    return _model(x, L.EinsumDense("ab,abc->ac", (4,))(BN()(x)))


@keras.saving.register_keras_serializable("differential")
class Cell(L.SimpleRNNCell):
    """A cell of a class that folding does not know."""


def custom_recurrent(d: Dice) -> Rare:
    x = _sequence(d)
    return _model(x, L.Bidirectional(L.RNN(Cell(2)))(BN()(x)))


def input_dropout(d: Dice) -> Rare:
    x = _sequence(d)
    return _model(x, L.SimpleRNN(2, dropout=0.5)(BN(trainable=False)(x), training=True))


def lora(_: Dice) -> Rare:
    x, dense = keras.Input((3,)), L.Dense(4)
    model = keras.Model(x, BN()(dense(x)))
    dense.enable_lora(2)
    return model, None


def batch_axis(_: Dice) -> Rare:
    x = keras.Input((3,), batch_size=3)
    return _model(x, L.Dense(2)(BN(axis=0)(L.Dense(3)(x))))


def scale_with_more_axes(_: Dice) -> Rare:
    x = keras.Input((3,))
    return _model(x, L.Flatten()(L.Rescaling(np.array([[[0.5], [2.0], [3.0]]]))(x)))


def plus_constant(_: Dice) -> Rare:
    x = keras.Input((3,))
    return _model(x, L.Dense(2)(keras.ops.maximum(BN()(x), 1.0)))


def constant_broadcasts(_: Dice) -> Rare:
    x = keras.Input((1, 3))
    return _model(x, L.Dense(2)(x * np.array([[2.0], [3.0]])))


def compares_to_a_number(_: Dice) -> Rare:
    x = keras.Input((4, 3))
    return _model(x, L.Dense(2)(keras.ops.max(BN()(x), 1, initial=0.5)))


def rounds(_: Dice) -> Rare:
    x = keras.Input((3,))
    whole = keras.ops.cast(BN()(x), "int32")
    return _model(x, L.Dense(2)(keras.ops.cast(whole, "float64")))


def pads_with_what_it_reads(_: Dice) -> Rare:
    x, y = keras.Input((3,)), keras.Input((), batch_size=3)
    value = keras.ops.mean(y)
    padded = keras.ops.pad(BN()(x), [[0, 0], [0, 1]], constant_values=value)
    return _model([x, y], L.Dense(2)(padded))


def multiplied(d: Dice) -> Rare:
    x, y = keras.Input((3,)), keras.Input((3,))
    stop, bn = L.Activation("tanh"), BN(center=False)
    model = keras.Model([x, y], L.Dense(2)(d.one([lambda a, b: a * b, lambda a, b: a / b])(
        stop(x), bn(stop(y))
    )))  # fmt: skip

    def finish() -> None:
        bn.moving_mean.assign(np.zeros(3))
        bn.gamma.assign([1.0, 0.0, -1.0] if d.chance(0.5) else [1.0, 0.5, -1.0])

    return model, finish


def squared(d: Dice) -> Rare:
    x = keras.Input((3,))
    y = L.Dense(4)(x)
    return _model(x, L.Rescaling(0.5, d.one([0.0, 0.3]))(y * y))


def along_the_batch(_: Dice) -> Rare:
    x = keras.Input((3,))
    return _model(x, L.Dense(2)(L.Concatenate(axis=0)([BN()(x), x])))


def ranks_differ(d: Dice) -> Rare:
    x, y = keras.Input((3,), batch_size=2), keras.Input((2, 3), batch_size=2)
    add = d.one([lambda a, b: L.Add()([a, b]), keras.ops.add])
    if d.chance(0.5):
        return _model([x, y], BN()(add(L.Dense(3)(x), L.Dense(3)(y))))
    scaling = L.Rescaling(0.5, 1.0)
    return _model([x, y], L.Dense(2)(add(scaling(x), scaling(y))))


def cancels(_: Dice) -> Rare:
    x = keras.Input((3,))
    y = L.Dense(3)(x)
    return _model(x, BN()(L.Subtract()([y, y])))


def custom_class(_: Dice) -> Rare:
    x = keras.Input((3,))
    return _model(x, [Doubled()(L.Dense(3)(x)), L.Dense(2)(Block()(x))])


def repeated(_: Dice) -> Rare:
    x = keras.Input((3,))
    return _model(x, BN(axis=1)(L.RepeatVector(3)(L.Dense(2)(x))))


def compared(d: Dice) -> Rare:
    x, bn = keras.Input((3,)), BN()
    y = L.Activation("tanh")(x)
    if d.chance(0.5):
        return _model(x, L.Dense(2)(L.Maximum()([bn(y), x])))
    return _model(x, L.Dense(2)(L.Minimum()([bn(y), bn(L.Softmax()(x))])))


def scaled_and_not(_: Dice) -> Rare:
    x = keras.Input((3,))
    return _model(x, L.Dense(2)(L.Add()([BN()(x), L.Dense(3, activation="tanh")(x)])))


def summed_axis(d: Dice) -> Rare:
    x = keras.Input((d.one([None, 4]), 3))
    return _model(x, L.EinsumDense("abc,cd->ad", 2, bias_axes="d")(BN()(x)))


def no_bias(_: Dice) -> Rare:
    x = keras.Input((3,))
    return _model(x, BN()(L.RMSNormalization()(x)))


def shared_needs_two(_: Dice) -> Rare:
    x, y, dense = keras.Input((3,)), keras.Input((3,)), L.Dense(2)
    return _model([x, y], [BN()(dense(x)), BN()(dense(y))])


def shared_over_ranks(_: Dice) -> Rare:
    x, y, dense = keras.Input((3,)), keras.Input((2, 3)), L.Dense(4)
    scaling = L.Rescaling(0.5, 1.0)
    return _model([x, y], [scaling(dense(x)), scaling(dense(y))])


def shared_reads_others(_: Dice) -> Rare:
    x, y, dense = keras.Input((3,)), keras.Input((3,)), L.Dense(2)
    return _model([x, y], [dense(BN()(x)), dense(y)])


def clipped(_: Dice) -> Rare:
    x, bn = keras.Input((3,)), BN()
    model = keras.Model(x, L.Dense(2)(L.ReLU()(bn(x))))
    return model, lambda: bn.gamma.assign([-1.0, 0.5, 0.0])


def pooled(d: Dice) -> Rare:
    x = keras.Input((4, 5, 2))
    y = d.one([BN(), L.Rescaling(-0.5, 0.3)])(L.MaxPooling2D(2)(L.ReLU()(L.Conv2D(3, 2)(x))))
    return _model(x, L.Conv2D(2, 3, padding="same")(y))


def added_to_an_input(_: Dice) -> Rare:
    x, z = keras.Input((4, 5, 2)), keras.Input((4, 5, 2))
    y = BN()(L.Add()([L.Conv2D(2, 1)(x), z]))
    return _model([x, z], L.Conv2D(2, 3, padding="same")(y))


def two_readers(_: Dice) -> Rare:
    x = keras.Input((3,))
    y = L.Dense(4)(x)
    return _model(x, [BN()(y), L.Dense(2)(y)])


def padded(d: Dice) -> Rare:
    x = keras.Input((4, 5, 2))
    return _model(x, L.Conv2D(3, d.int(2, 3), padding="same")(BN()(x)))


def joined(d: Dice) -> Rare:
    x, y = keras.Input((3,)), keras.Input((d.int(1, 3),))
    return _model([x, y], L.Dense(2)(L.Concatenate()([BN()(x), y])))


def permuted(d: Dice) -> Rare:
    x = keras.Input((2, 3, 4))
    return _model(x, L.Dense(2)(L.Flatten()(L.Permute(d.one([(2, 3, 1), (3, 1, 2)]))(BN()(x)))))


def batch_operations(d: Dice) -> Rare:
    """Operations that do not keep the examples of a batch apart."""
    x, y = keras.Input((2, 3), batch_size=3), keras.Input((2, 3), batch_size=3)
    change = [
        lambda t: keras.ops.reshape(t, (6, 3)),
        lambda t: keras.ops.swapaxes(t, 0, 1),
        lambda t: keras.ops.flip(t, 0),
        lambda t: t[:2, :],
        lambda t: keras.ops.stack([t, t]),
    ]
    return _model([x, y], [L.Dense(2)(d.one(change)(BN()(x))), L.Dense(2)(y)])


def indexed(_: Dice) -> Rare:
    x = keras.Input((4, 3))
    return _model(x, L.Dense(2)(BN()(x)[:, None]))


def unknown_part(_: Dice) -> Rare:
    x = keras.Input((None, 3))
    joined = L.Concatenate(axis=2)([BN()(x), x])
    return _model(x, L.Dense(2)(L.Permute((2, 1))(keras.ops.swapaxes(joined, 1, 2)[:, ::2])))


RARE: list[Callable[[Dice], Rare]] = [
    statistics_not_finite, two_scales, broadcast, several_outputs, behind_a_clip,
    behind_a_clip_only, clips_shared, mask_is_scaled, initial_state,
    changing, training, unknown_reshape, unknown_input_length, unknown_concatenation, tiny_scale,
    large_bound, time_steps, batch_in_kernel, custom_recurrent, input_dropout, lora, batch_axis,
    scale_with_more_axes, plus_constant, constant_broadcasts, compares_to_a_number, rounds,
    pads_with_what_it_reads, multiplied, squared, along_the_batch, ranks_differ, cancels,
    custom_class, repeated, compared, scaled_and_not, summed_axis, no_bias, shared_needs_two,
    batch_operations, indexed, shared_over_ranks,
    unknown_part, shared_reads_others, clipped, two_readers, padded,
    pooled, added_to_an_input,
    joined, permuted,
]  # fmt: skip
