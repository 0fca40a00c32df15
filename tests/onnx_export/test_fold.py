"""What a Keras graph does not show is folded in the file, and every count speaks of the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812 - as Keras's own documentation has it
from sample_models import inputs_for, randomized

from kerasbn import export, verify
from kerasbn.folding.keras.rewrite import as_functional
from kerasbn.folding.keras.running import predict
from kerasbn.folding.plan import Plan
from kerasbn.inference import determinism
from kerasbn.inference.session import Session
from kerasbn.inference.verify import PASSED


@keras.saving.register_keras_serializable("tests")
class Block(L.Layer):
    """A custom layer with a convolution and a BN layer, as in many residual models."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.conv = L.Conv2D(5, 3, padding="same", name="conv")
        self.bn = L.BatchNormalization(name="bn")

    def build(self, shape: Any) -> None:
        self.conv.build(shape)
        self.bn.build(self.conv.compute_output_shape(shape))

    def call(self, x: Any) -> Any:
        return keras.ops.relu(self.bn(self.conv(x)))


@keras.saving.register_keras_serializable("tests")
class Branched(Block):
    """It has a BN layer for a branch that it was built without, and a GELU."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.unused = L.BatchNormalization(name="unused")

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.unused.build(shape)

    def call(self, x: Any) -> Any:
        return keras.ops.gelu(super().call(x), approximate=False)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.block = Block(name="block")
        self.inner = L.BatchNormalization(name="inner")
        self.head = L.Dense(3, name="head")

    def call(self, x: Any, training: bool = False) -> Any:
        x = keras.ops.mean(self.block(x), axis=(1, 2))
        return self.head(self.inner(x, training=training))


def custom() -> keras.Model:
    x = keras.Input((8, 8, 3), name="x")
    y = Block(name="second")(Block(name="first")(x))
    return keras.Model(x, L.Dense(3, name="head")(L.GlobalAveragePooling2D(name="pool")(y)))


def branched() -> keras.Model:
    x = keras.Input((8, 8, 3), name="x")
    return keras.Model(x, L.GlobalAveragePooling2D(name="pool")(Branched(name="block")(x)))


def pyramid() -> keras.Model:
    """One convolution on two levels of a pyramid, with a BN layer for each level."""
    x = keras.Input((8, 8, 3), name="x")
    levels = [L.Conv2D(4, 3, activation="relu", name="stem")(x)]
    levels.append(L.MaxPooling2D(name="smaller")(levels[0]))
    conv = L.Conv2D(6, 3, padding="same", use_bias=False, name="shared")
    outputs = []
    for at, level in enumerate(levels):
        y = L.BatchNormalization(name=f"bn_{at}")(conv(level))
        outputs.append(L.ReLU(name=f"relu_{at}")(y))
    return keras.Model(x, outputs)


@keras.saving.register_keras_serializable("tests")
class Scale(L.Layer):
    """Arithmetic with a constant and with a weight to which nothing gives a name."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=shape[-1:], initializer="random_normal")

    def call(self, x: Any) -> Any:
        return (x - np.array([0.5, -2, 3, 0.1], np.float32)) * self.factor


def arithmetic() -> keras.Model:
    x = keras.Input((8, 8, 4), name="x")
    y = L.Conv2D(4, 3, name="conv")(Scale(name="first")(x))
    y = keras.ops.tanh(Scale(name="before")(y))
    return keras.Model(x, L.Conv2D(4, 3, name="last")(Scale(name="after")(y)))


def subclassed() -> keras.Model:
    model = Subclassed(name="net")
    model(np.zeros((2, 8, 8, 3), np.float32))
    return model


# Models with the operations of their files and the lines of the plan. The bytes of weights that
# are copied are those of the second kernel of `pyramid`, 3 x 3 x 4 x 6.
MODELS: dict[Callable[[], keras.Model], tuple[dict[str, int], list[str], int]] = {
    custom: (
        {"Transpose": 1, "Conv": 2, "Relu": 2, "ReduceMean": 1, "Gemm": 1},
        [
            "first/bn: folded backward into first/conv",
            "second/bn: folded backward into second/conv",
        ],
        0,
    ),
    branched: (
        {
            "Transpose": 1, "Conv": 1, "Relu": 1, "Div": 1, "Erf": 1, "Add": 1, "Mul": 2,
            "ReduceMean": 1,
        },
        [
            "block/bn: folded backward into block/conv",
            "block/unused: removed, because it changes nothing",
        ],
        0,
    ),
    pyramid: (
        {"Transpose": 3, "Conv": 3, "Relu": 3, "MaxPool": 1},
        ["bn_1: folded backward into shared", "bn_0: folded backward into shared"],
        3 * 3 * 4 * 6 * 4,
    ),
    arithmetic: (
        {"Transpose": 2, "Conv": 2, "Tanh": 1},
        [
            "first/Sub: folded forward into conv",
            "first/Mul: folded forward into conv",
            "before/Sub: folded backward into conv",
            "before/Mul: folded backward into conv",
            "after/Sub: folded forward into last",
            "after/Mul: folded forward into last",
        ],
        0,
    ),
    subclassed: (
        {"Transpose": 1, "Conv": 1, "Relu": 1, "ReduceMean": 1, "Gemm": 1},
        [
            "net/bn: folded backward into net/block/conv",
            "net/inner: folded forward into net/head",
        ],
        0,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare `verify` the start of a process."""
    monkeypatch.setattr(
        determinism, "_in_new_process", lambda path, batch: Session(path).run(batch)
    )


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_what_the_graph_does_not_show_is_folded_and_counted_alike(
    make: Callable[[], keras.Model], tmp_path: Path
) -> None:
    operations, lines, copied = MODELS[make]
    model = randomized(make())
    exported = export(model, tmp_path / "model.onnx")
    assert exported.operations == operations
    plan = Plan.from_json(exported.plan, exported.added_bytes)
    assert list(map(str, plan)) == lines
    assert (exported.remaining, plan.added_bytes) == ((), copied)
    assert f"  {plan.summary()}" in exported.lines()
    inputs = inputs_for(as_functional(model), 4)
    got, want = Session(exported.path).run(inputs)[0], predict(as_functional(model), inputs)[0]
    assert np.abs(got - want).max() <= 3e-6 * np.abs(want).max()
    if make is not arithmetic:  # the others have BN layers
        found = verify(exported.path, model, inputs=inputs)
        assert found.parity.status == PASSED
        assert found.folded.figures["added_bytes"] == copied
        assert found.folded.reason == f"remaining: nothing; {plan.summary()}"


def test_without_folding_every_bn_layer_remains(tmp_path: Path) -> None:
    """TensorFlow and tf2onnx would multiply a kernel by the factor behind it."""
    exported = export(randomized(pyramid()), tmp_path / "model.onnx", fold=False)
    assert [name.partition("/")[0] for name in exported.remaining] == ["bn_0", "bn_1"]
    assert "  remaining: 2 BN layers (bn_0/Mul + bn_0/Add, bn_1/Mul + bn_1/Add)" in exported.lines()


@keras.saving.register_keras_serializable("tests")
class Between(L.Layer):
    """A BN layer between activations, which nothing can take, with a name that Keras gives it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.bn = L.BatchNormalization()

    def build(self, shape: Any) -> None:
        self.bn.build(shape)

    def call(self, x: Any) -> Any:
        return keras.ops.tanh(self.bn(keras.ops.tanh(x)))


def test_nodes_say_why_a_layer_within_another_is_kept(tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    y = Between(name="between")(L.Dense(3, name="dense")(x))
    model = randomized(keras.Model(x, y))
    exported = export(model, tmp_path / "model.onnx")
    (decision,) = Plan.from_json(exported.plan).kept()
    name = f"between/{model.get_layer('between').bn.name}"
    reason = "`between/Tanh` before it is a Tanh, which no map folds into, and "
    assert str(decision).startswith(f"{name}: kept because {reason}")
    assert exported.remaining == (f"{name}/Mul + {name}/Add",)
    assert f"  {decision}" in exported.lines()
    found = verify(exported.path, model).folded
    assert str(decision) in found.reason
    assert found.figures["kept"] == {name: decision.reason}
    assert found.figures["bn_nodes"] == list(exported.remaining)
    again = export(model, tmp_path / "again.onnx").path
    assert again.read_bytes() == exported.path.read_bytes()


def test_a_layer_remains_while_one_of_its_calls_does(tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    bn = L.BatchNormalization(name="bn")
    y = keras.ops.tanh(bn(keras.ops.tanh(bn(L.Dense(3, name="dense")(x)))))
    exported = export(randomized(keras.Model(x, y)), tmp_path / "model.onnx")
    assert exported.operations == {"Gemm": 1, "Tanh": 2, "Mul": 1, "Add": 1}
    assert [kept.layer for kept in Plan.from_json(exported.plan).kept()] == ["bn"]
    assert exported.remaining == ("bn/Mul + bn/Add",)
