"""Random models: of eight, three are mixed, four about one layer, one about a rare situation."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import keras
import numpy as np
from dice import Dice

from kerasbn.folding.keras.randomize import randomize_parameters

from .layers import ENTRIES, JOINING, MERGES, L, Shape, Tensor, affine_layer
from .rare_models import RARE

SOURCES: dict[int, list[tuple[int | None, ...]]] = {
    1: [(5,)],
    2: [(5, 3), (None, 3)],
    3: [(4, 5, 3), (4, 4, 2), (None, 4, 3)],
    4: [(3, 2, 3, 2)],
}
RANKS = [1, 2, 2, 2, 3, 3, 3, 3, 4]  # of the inputs, how often
LARGEST = 400  # values in a tensor of one example


class Growing:
    """A model while it grows: its tensors so far, the layers that may be shared."""

    def __init__(self, d: Dice, inputs: list[Tensor], depth: int) -> None:
        self.d = d
        self.depth = depth
        self.tensors = list(inputs)
        self.read: set[int] = set()
        self.layers: list[tuple[Any, Shape, dict[str, Any]]] = []

    def grow(self, steps: int) -> None:
        for _ in range(steps):
            x = self.d.one(self.tensors[-4:])
            try:
                self.tensors.append(self.step(x))
            except (ValueError, TypeError):  # a layer that does not fit the shape: try another step
                continue

    def step(self, x: Tensor) -> Tensor:
        d, shape = self.d, tuple(x.shape[1:])
        alike = [t for t in self.tensors if t.shape == x.shape]
        if d.chance(0.16):
            return self.merged(x, alike)
        if d.chance(0.1):
            shared = [(layer, how) for layer, given, how in self.layers if given == shape]
            if shared:
                known, known_how = d.one(shared)
                return self.called(known, x, known_how)
        if d.chance(0.15):
            return self.pre_activated(x)
        if d.chance(0.07) and self.depth < 2:
            return self.nested(x, alike)
        if d.chance(0.06) and len(shape) == 2:
            other = d.one(alike)
            self.read |= {id(other)}
            attention = L.MultiHeadAttention(2, 3, use_bias=d.chance(0.6))
            return self.called(attention, x, {"value": other})
        if d.chance(0.05) and 1 < len(shape) < 4:
            return self.called(L.TimeDistributed(layer_for(d, shape[1:])), x, {})
        layer = affine_layer(d, shape) if d.chance(0.35) else layer_for(d, shape)
        how: dict[str, Any] = {}
        # Within a model that is called twice, Keras hands it on from one call to the other.
        noted = isinstance(layer, L.BatchNormalization | L.Dropout) and self.depth == 0
        if noted and d.chance(0.06):
            how["training"] = d.chance(0.7)
            layer.trainable = d.chance(0.6)
        return self.called(layer, x, how)

    def called(self, layer: Any, x: Tensor, how: dict[str, Any]) -> Tensor:
        made = layer(x, **how)
        if not 0 < size(made) <= LARGEST or len(made.shape) > 5:
            raise ValueError("too large")
        self.read.add(id(x))
        if "training" not in how:  # called twice, an active Dropout depends on which comes first
            self.layers.append((layer, tuple(x.shape[1:]), how))
        return made

    def pre_activated(self, x: Tensor) -> Tensor:
        """A BN layer, a rectifier, perhaps a pool, and a linear layer: DenseNet's pattern."""
        d = self.d
        rank = len(x.shape) - 1
        rectifiers = [L.ReLU(), L.Activation("relu"), L.ReLU(max_value=1.0), keras.ops.relu6]
        hard = [L.Activation("hard_sigmoid"), keras.activations.relu, keras.ops.hard_sigmoid]
        more = [L.Activation("relu6"), keras.ops.relu]
        x = self.called(affine_layer(d, tuple(x.shape[1:])), x, {})
        x = self.called(d.one(rectifiers + hard + more), x, {})
        if d.chance(0.5):
            self.tensors.append(x)  # may be read again
        if rank == 3 and min(n or 2 for n in x.shape[1:3]) > 1 and d.chance(0.3):
            x = self.called(d.one([L.AveragePooling2D(2), L.MaxPooling2D(2)]), x, {})
        if d.chance(0.3):
            joined = [t for t in self.tensors if t.shape[:-1] == x.shape[:-1]]
            x = L.Concatenate()([x, d.one([*joined, x])])
        last: list[Any] = [L.Dense(4), L.Dense(3, use_bias=False)]
        last += (
            [L.Conv2D(4, 1), L.Conv2D(3, 2, padding=d.one(["valid", "same"]))] if rank == 3 else []
        )
        last += [L.GRU(3), L.Conv1D(3, 2)] if rank == 2 else []
        return self.called(d.one(last), x, {})

    def merged(self, x: Tensor, alike: list[Tensor]) -> Tensor:
        d = self.d
        kind = d.one([kind for kind, (_, weight) in MERGES.items() for _ in range(weight)])
        others = [x] if d.chance(0.1) else [t for t in alike if t is not x] or [x]
        if kind in JOINING:
            others = [t for t in self.tensors if t.shape[:-1] == x.shape[:-1]]
        y = d.one(others)
        self.read |= {id(x), id(y)}
        return MERGES[kind][0]()([x, y] if d.chance(0.5) else [y, x])

    def nested(self, x: Tensor, alike: list[Tensor]) -> Tensor:
        d = self.d
        shape = tuple(x.shape[1:])
        timed = len(shape) > 1 and d.chance(0.3)
        inner = keras.Input(shape[1:] if timed else shape)
        if d.chance(0.4):
            first, last = (affine_layer(d, inner.shape[1:]) for _ in range(2))
            model: Any = keras.Sequential([inner, first, L.Dense(3), last])
        else:
            growing = Growing(d, [inner], self.depth + 1)
            growing.grow(4)
            model = keras.Model(inner, growing.tensors[-1])
            if model.outputs[0] is inner:
                raise ValueError("an empty model")
        model = L.TimeDistributed(model) if timed else model
        how = {"training": True} if d.chance(0.05) else {}
        first = self.called(model, x, how)
        if d.chance(0.5) and not how:
            self.tensors.append(first)
            return self.called(model, d.one(alike), how)
        return first

    def outputs(self) -> list[Tensor]:
        loose = [t for t in self.tensors if id(t) not in self.read][:4]
        if self.d.chance(0.15):
            loose.append(self.d.one(self.tensors[-3:]))
        return list({id(t): t for t in loose}.values())


def size(tensor: Tensor) -> int:
    return int(np.prod([n or 12 for n in tensor.shape[1:]]))


def layer_for(d: Dice, shape: Shape) -> Any:
    """A random layer for an example of that shape."""
    fitting = [entry for entry in ENTRIES.values() if len(shape) in entry.ranks]
    entry = d.one([entry for entry in fitting for _ in range(entry.weight)])
    return entry.create(d, shape)


def mixed_model(d: Dice) -> keras.Model:
    """A model of some five to fifteen layers."""
    rank = d.one(RANKS)
    shape = d.one(SOURCES[rank])
    inputs = [keras.Input(shape) for _ in range(d.one([1, 1, 2]))]
    growing = Growing(d, list(inputs), depth=0)
    if rank == 2 and d.chance(0.4):
        inputs = [keras.Input((6,), dtype="int32")]
        growing.tensors = [L.Embedding(9, 4)(inputs[0])]
    growing.grow(d.int(5, 12))
    made = {id(t) for t in growing.tensors} - {id(t) for t in inputs}
    outputs = [t for t in growing.outputs() if id(t) in made]
    return keras.Model(inputs, outputs or growing.tensors[-1])


def model_around(d: Dice, kind: type) -> keras.Model:
    """A layer of that class between linear and affine layers, so that maps reach it."""
    if kind in MERGES:
        return _around_merge(d, kind)
    entry = ENTRIES[kind]
    if not entry.ranks:
        x = inputs = keras.Input((6,), dtype="int32")
        return keras.Model(inputs, L.Dense(3)(_simple_affine(d, entry.create(d, (6,))(x))))
    rank = d.one(list(entry.ranks))
    x = inputs = keras.Input(d.one(SOURCES[rank]))
    before, after = d.one([(True, False), (False, True), (True, True)])
    if before == d.chance(0.2):  # otherwise the map before it would be folded backward
        x = L.Dense(d.int(2, 4), activation=d.one([None, None, "tanh"]))(x)
    if before:
        x = _simple_affine(d, x)
    x = entry.create(d, tuple(x.shape[1:]))(x)
    if after:
        x = _simple_affine(d, x)
    return keras.Model(inputs, L.Dense(3)(x))


def _around_merge(d: Dice, kind: type) -> keras.Model:
    shape = d.one(SOURCES[d.int(1, 3)])
    inputs = [keras.Input(shape), keras.Input(shape)]
    pair = [L.Dense(3)(x) for x in inputs]
    if d.chance(0.5):  # shared, because folding forward needs the same map on both
        before = d.one([affine_layer(d, (3,)), L.Rescaling(0.5), L.Rescaling(0.5, 1.0)])
        pair = [before(L.Activation("tanh")(x)) for x in pair]
        return keras.Model(inputs, L.Dense(3)(MERGES[kind][0]()(pair)))
    return keras.Model(inputs, L.Dense(3)(_simple_affine(d, MERGES[kind][0]()(pair))))


def _simple_affine(d: Dice, x: Tensor) -> Tensor:
    """A BN layer, or a positive scaling, which passes through more layers."""
    layer = affine_layer(d, tuple(x.shape[1:]))
    return d.one([layer, L.Rescaling(0.5), L.Rescaling(0.5, 0.3)])(x)


SINGLE = [*ENTRIES, *MERGES]


def seeds_about(what: Any) -> Iterator[int]:
    """The seeds of models around a layer of a class, or of one kind of rare model."""
    for n in count():
        if what in SINGLE:
            place, turn = divmod(SINGLE.index(what) + n * len(SINGLE), 2)
            yield 4 * place + 1 + turn
        else:
            yield 4 * (2 * (RARE.index(what) + n * len(RARE)) + 1) + 3


def random_model(seed: int) -> keras.Model:
    """A model, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    d = Dice(seed)
    place, turn = divmod(seed, 4)
    finish: Any = None
    if turn in (1, 2):
        kind = SINGLE[(2 * place + turn - 1) % len(SINGLE)]
        model = None
        while model is None:
            try:
                model = model_around(d, kind)
            except ValueError:  # the options don't fit the shape: choose others
                continue
    elif turn == 3 and place % 2:
        model, finish = RARE[place // 2 % len(RARE)](d)
    else:
        model = mixed_model(d)
    randomize_parameters(model, seed)
    if finish:
        finish()
    return model
