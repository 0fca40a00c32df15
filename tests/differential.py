"""Random models, each folded and compared with itself unfolded, in float64.

    python -m tests.differential --models 2000

The models mix every layer that folding knows with some that it doesn't, shared layers, nested
models, several inputs and outputs, all with random parameters. Folding's own check is left out,
so that what it would catch is counted here. Prints a line for each wrong result, with the seed that
makes the model again, then the counts; the exit code is 1 if any result was wrong.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kerasbn.common.keras_internals import quiet_tensorflow

sys.path.insert(0, str(Path(__file__).parent))  # as pytest does
quiet_tensorflow()
import keras  # noqa: E402 - TensorFlow comes first, silenced
from dice import Dice  # noqa: E402 - after the path

from kerasbn.folding.fold import fold_plan  # noqa: E402 - as above
from kerasbn.folding.keras.randomize import random_inputs, randomize_parameters  # noqa: E402
from kerasbn.folding.keras.rewrite import rewrite  # noqa: E402 - as above
from kerasbn.folding.keras.verification import predict  # noqa: E402 - as above
from kerasbn.folding.plan import Fold, Kept, Plan  # noqa: E402 - as above
from kerasbn.folding.rounding import relative_difference  # noqa: E402 - as above

L = keras.layers
Tensor = Any  # Keras ships no types
ACTIVATIONS = [None, None, None, "relu", "tanh", "leaky_relu"]


def norm(d: Dice, shape: tuple[int, ...]) -> Any:
    """A BN layer or a scaling for that example shape."""
    if d.chance(0.15):
        return L.Rescaling(d.one([0.5, -1.5, 2.0]), offset=d.one([0.0, 0.0, 0.3, -1.0]))
    if d.chance(0.08):
        return L.Normalization(axis=-1, invert=d.chance(0.3))
    axis = d.int(1, len(shape)) if d.chance(0.15) else -1
    return L.BatchNormalization(
        axis=axis, center=d.chance(0.85), scale=d.chance(0.85), epsilon=d.one([1e-3, 1e-5, 0.1])
    )


def anywhere(d: Dice, shape: tuple[int, ...]) -> Any:
    """A layer for any shape."""
    c = d.int(3, 5)
    bias, activation = d.chance(0.6), d.one(ACTIVATIONS)
    options: list[Callable[[], Any]] = [
        lambda: L.Dense(c, use_bias=bias, activation=activation),
        lambda: L.Dense(c, use_bias=bias),
        lambda: L.EinsumDense("...x,xy->...y", output_shape=c, bias_axes=d.one([None, "y"])),
        *[L.ReLU] * 3,
        lambda: L.Activation(d.one(["relu", "relu6", "hard_sigmoid"])),
        lambda: L.ReLU(max_value=d.one([None, 1.0]), threshold=d.one([0.0, 0.2])),
        lambda: L.LeakyReLU(0.1),
        lambda: L.PReLU(),
        lambda: L.Activation(d.one(["relu", "linear", "sigmoid", "gelu"])),
        lambda: L.Dropout(0.3),
        lambda: L.Identity(),
        lambda: L.LayerNormalization(center=d.chance(0.6), scale=d.chance(0.6)),
        lambda: L.RMSNormalization(),
        lambda: L.Permute(tuple(int(axis) + 1 for axis in d.random.permutation(len(shape)))),
        lambda: L.Flatten(),
    ]
    return d.one(options)()


def for_images(d: Dice, shape: tuple[int, ...]) -> Any:
    """A layer for (height, width, channels)."""
    c = shape[-1]
    k, stride = d.int(1, 3), d.one([1, 1, 2])
    padding, bias = d.one(["valid", "same"]), d.chance(0.6)
    activation = d.one(ACTIVATIONS)
    groups = d.one([g for g in (1, 1, 2, 3) if c % g == 0])
    dilation = d.one([1, 1, 2]) if stride == 1 else 1
    options: list[Callable[[], Any]] = [
        *[
            lambda: L.Conv2D(
                groups * d.int(1, 3),
                k,
                stride,
                padding,
                groups=groups,
                use_bias=bias,
                activation=activation,
                dilation_rate=dilation,
            )
        ]
        * 4,
        lambda: L.DepthwiseConv2D(k, stride, padding, depth_multiplier=d.int(1, 2), use_bias=bias),
        lambda: L.SeparableConv2D(
            4, k, stride, padding, depth_multiplier=d.int(1, 2), use_bias=bias
        ),
        lambda: L.Conv2DTranspose(d.int(2, 4), k, stride, padding, use_bias=bias),
        lambda: L.MaxPooling2D(2, d.int(1, 2), padding),
        lambda: L.AveragePooling2D(2, d.int(1, 2), padding),
        lambda: L.GlobalAveragePooling2D(keepdims=d.chance(0.5)),
        lambda: L.GlobalMaxPooling2D(keepdims=d.chance(0.5)),
        lambda: L.ZeroPadding2D(1),
        lambda: L.Cropping2D(((0, 1), (0, 0))) if shape[0] > 2 else L.Identity(),
        lambda: L.UpSampling2D(2, interpolation=d.one(["nearest", "bilinear"])),
        lambda: L.SpatialDropout2D(0.2),
        lambda: L.Reshape((shape[0] * shape[1], c)),
        lambda: L.GroupNormalization(groups=1) if c > 1 else L.Identity(),
        lambda: L.LayerNormalization(axis=[1, 3]),
        lambda: L.EinsumDense(
            "abcd,de->abce", output_shape=(shape[0], shape[1], 4), bias_axes=d.one([None, "e"])
        ),
        lambda: L.TimeDistributed(d.one([for_sequences, norm, anywhere])(d, shape[1:])),
    ]
    return d.one(options)()


def for_sequences(d: Dice, shape: tuple[int, ...]) -> Any:
    """A layer for (time, channels)."""
    k, stride, bias = d.int(1, 3), d.one([1, 1, 2]), d.chance(0.6)
    padding = d.one(["valid", "same", "causal"])
    plain = d.one(["valid", "same"])

    def recurrent(sequences: bool) -> Any:
        kind = d.one([L.LSTM, L.GRU, L.SimpleRNN])
        more = {"reset_after": d.chance(0.5)} if kind is L.GRU else {}
        return kind(3, return_sequences=sequences, use_bias=bias, **more)

    options: list[Callable[[], Any]] = [
        lambda: L.Conv1D(4, k, stride, padding, use_bias=bias, activation=d.one(ACTIVATIONS)),
        lambda: L.Conv1D(4, k, stride, padding, use_bias=bias),
        lambda: L.DepthwiseConv1D(k, stride, plain, depth_multiplier=2, use_bias=bias),
        lambda: L.SeparableConv1D(3, k, stride, plain, use_bias=bias),
        lambda: L.Conv1DTranspose(3, k, stride, plain, use_bias=bias),
        lambda: recurrent(d.chance(0.5)),
        lambda: L.Bidirectional(recurrent(d.chance(0.5)), merge_mode=d.one(["concat", "sum"])),
        lambda: L.MaxPooling1D(2, padding="same"),
        lambda: L.AveragePooling1D(2, padding="same"),
        lambda: L.GlobalAveragePooling1D(),
        lambda: L.GlobalMaxPooling1D(),
        lambda: L.UpSampling1D(2),
        lambda: L.ZeroPadding1D(1),
        lambda: L.EinsumDense(
            "abc,cd->abd", output_shape=(shape[0], 3), bias_axes=d.one([None, "d", "bd"])
        ),
        lambda: L.EinsumDense(
            "abc,bcd->abd", output_shape=(shape[0], 3), bias_axes=d.one([None, "d"])
        ),
        lambda: L.EinsumDense("abc,cd->ad", output_shape=(3,), bias_axes=d.one([None, "d"])),
        lambda: L.TimeDistributed(d.one([norm, anywhere])(d, shape[1:])),
    ]
    return d.one(options)()


def for_vectors(d: Dice, shape: tuple[int, ...]) -> Any:
    """A layer for (channels,)."""
    options: list[Callable[[], Any]] = [
        lambda: L.Dense(d.int(3, 6), use_bias=d.chance(0.6), activation=d.one(ACTIVATIONS)),
        lambda: L.RepeatVector(3),
        lambda: L.Reshape((1, 1, shape[0])),
    ]
    return d.one(options)()


OWN = {1: for_vectors, 2: for_sequences, 3: for_images}
SOURCES: dict[int, list[tuple[int, ...]]] = {1: [(5,)], 2: [(6, 3)], 3: [(6, 5, 3), (5, 5, 4)]}


class Growing:
    """A model while it grows: its tensors so far, the layers that may be shared."""

    def __init__(self, d: Dice, inputs: list[Tensor], depth: int) -> None:
        self.d = d
        self.depth = depth
        self.tensors = list(inputs)
        self.read: set[int] = set()
        self.layers: list[tuple[Any, tuple[int, ...], dict[str, Any]]] = []

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
            return self.combined(x, alike)
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
        layer = norm(d, shape) if d.chance(0.35) else d.one([anywhere, OWN[len(shape)]])(d, shape)
        how: dict[str, Any] = {}
        # Within a model that is called twice, Keras hands it on from one call to the other.
        noted = isinstance(layer, L.BatchNormalization | L.Dropout) and self.depth == 0
        if noted and d.chance(0.06):
            how["training"] = d.chance(0.7)
            layer.trainable = d.chance(0.6)
        if len(shape) > 3:
            raise ValueError("too many axes")
        return self.called(layer, x, how)

    def called(self, layer: Any, x: Tensor, how: dict[str, Any]) -> Tensor:
        made = layer(x, **how)
        if not 0 < np.prod(made.shape[1:]) <= 600 or len(made.shape) > 4:
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
        x = self.called(norm(d, tuple(x.shape[1:])), x, {})
        x = self.called(d.one(rectifiers + hard), x, {})
        if d.chance(0.5):
            self.tensors.append(x)  # may be read again
        if rank == 3 and min(x.shape[1:3]) > 1 and d.chance(0.3):
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

    def combined(self, x: Tensor, alike: list[Tensor]) -> Tensor:
        d = self.d
        others = [x] if d.chance(0.1) else [t for t in alike if t is not x] or [x]
        if d.chance(0.4):
            others = [t for t in self.tensors if t.shape[:-1] == x.shape[:-1]]
            kind: Any = L.Concatenate()
        else:
            kinds = [
                L.Add(),
                L.Add(),
                L.Add(),
                L.Subtract(),
                L.Average(),
                L.Maximum(),
                L.Multiply(),
            ]
            kind = d.one(
                [*kinds, lambda pair: pair[0] + pair[1], lambda pair: keras.ops.relu(pair[0])]
            )
        y = d.one(others)
        pair = [x, y] if d.chance(0.5) else [y, x]
        self.read |= {id(x), id(y)}
        return kind(pair)

    def nested(self, x: Tensor, alike: list[Tensor]) -> Tensor:
        d = self.d
        shape = tuple(x.shape[1:])
        timed = len(shape) > 1 and d.chance(0.3)
        inner = keras.Input(shape[1:] if timed else shape)
        if d.chance(0.4):
            model: Any = keras.Sequential(
                [inner, norm(d, inner.shape[1:]), L.Dense(3), norm(d, inner.shape[1:])]
            )
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


def random_model(seed: int) -> keras.Model:
    """A model of some five to twenty layers, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    d = Dice(seed)
    rank = d.int(1, 3)
    shape = d.one(SOURCES[rank])
    inputs = [keras.Input(shape) for _ in range(d.one([1, 1, 2]))]
    growing = Growing(d, list(inputs), depth=0)
    if rank == 2 and d.chance(0.4):
        inputs = [keras.Input((6,), dtype="int32")]
        growing.tensors = [L.Embedding(9, 4)(inputs[0])]
    growing.grow(d.int(5, 14))
    made = {id(t) for t in growing.tensors} - {id(t) for t in inputs}
    outputs = [t for t in growing.outputs() if id(t) in made]
    model = keras.Model(inputs, outputs or growing.tensors[-1])
    randomize_parameters(model, seed)
    return model


def leaves(model: keras.Model) -> int:
    """How many layers compute something themselves."""
    return sum(
        len(layer._flatten_layers()) == 1 and not isinstance(layer, L.InputLayer)
        for layer in model._flatten_layers()
    )


def is_repeatable(model: keras.Model, want: list[np.ndarray], arrays: list[np.ndarray]) -> bool:
    """Whether a plain copy predicts the same; active noise in a shared layer may differ."""
    return relative_difference(predict(rewrite(model, Plan(())), arrays), want) == 0


def verdict(
    model: keras.Model, arrays: list[np.ndarray], want: list[np.ndarray]
) -> tuple[Plan, str | None]:
    """The plan for a float64 model, and what is wrong with what it comes to."""
    plan = fold_plan(model)
    folded = rewrite(model, plan)
    error = relative_difference(predict(folded, arrays), want)
    allowed = 1e-6 if "bilinear" in str(model.get_config()) else 1e-9
    if not error <= allowed and is_repeatable(model, want, arrays):
        return plan, f"error {error:.1e}"
    extra = leaves(folded) - (leaves(model) - len(plan.folds()))
    fewer = sum(len(fold.clips) for fold in plan.folds())  # a relu that became a clip is no layer
    right = -fewer <= extra <= 0
    return plan, None if right else f"{extra} layers too many"


def main() -> int:
    """Run the models and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=2000, help="how many models")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first")
    parser.add_argument("--show", action="store_true", help="print each plan")
    given = parser.parse_args()
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    counts: Counter[str] = Counter()
    begin = time.perf_counter()
    for seed in range(given.seed, given.seed + given.models):
        keras.backend.clear_session()
        model = random_model(seed)
        arrays = random_inputs(model)
        try:
            want = predict(model, arrays)
        except Exception:  # noqa: BLE001 - Keras built what it cannot run
            counts["skipped"] += 1
            continue
        plan: Plan | tuple[()] = ()
        try:
            plan, wrong = verdict(model, arrays, want)
        except Exception as error:  # noqa: BLE001 - a crash is counted, and the rest goes on
            wrong = f"raised {type(error).__name__}: {error}"
        for decision in plan:
            counts["kept" if isinstance(decision, Kept) else decision.direction] += 1
            counts["clips"] += isinstance(decision, Fold) and bool(decision.clips)
        if given.show:
            print(seed, *plan, sep="\n  ")  # noqa: T201 - a command prints
        if wrong:
            counts["wrong"] += 1
            print(f"seed {seed}: {wrong}", flush=True)  # noqa: T201 - a command prints
    folds = counts["backward"] + counts["forward"] + counts["merge"]
    print(  # noqa: T201 - a command prints
        f"{given.models - counts['skipped']} models, {folds} folds ({counts['backward']} "
        f"backward, {counts['forward']} forward, {counts['merge']} merged, "
        f"{counts['clips']} with clips), "
        f"{counts['kept']} kept, {counts['wrong']} wrong; {time.perf_counter() - begin:.0f} s"
    )
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
