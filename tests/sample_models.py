"""Models of every kind that export meets, randomized, small enough to run in a moment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kerasbn.common.keras_internals import quiet_tensorflow

quiet_tensorflow()

import keras  # noqa: E402 - TensorFlow first, quietly
import numpy as np  # noqa: E402
from keras import layers as L  # noqa: E402, N812 - as Keras's own documentation has it

from kerasbn.folding.keras.randomize import randomize_parameters  # noqa: E402

Arrays = list[np.ndarray[Any, np.dtype[Any]]]


def randomized(model: keras.Model, seed: int = 0) -> keras.Model:
    """The model with statistics, gammas and biases as after training, and kernels of its own."""
    randomize_parameters(model, seed)
    return model


def mnist() -> keras.Model:
    image = x = keras.Input((28, 28), dtype="uint8", name="image")
    x = L.Flatten(name="flatten")(L.Rescaling(1 / 255, name="rescale")(x))
    for k in (1, 2):
        x = L.Dense(32, use_bias=False, name=f"dense_{k}")(x)
        x = L.ReLU(name=f"relu_{k}")(L.BatchNormalization(name=f"bn_{k}")(x))
    return keras.Model(image, L.Dense(10, name="logits")(x), name="mnist_bn")


def with_policy(policy: str) -> keras.Model:
    keras.config.set_dtype_policy(policy)
    try:
        return mnist()
    finally:
        keras.config.set_dtype_policy("float32")


def grouped() -> keras.Model:
    image = x = keras.Input((8, 8, 4), name="image")
    x = L.Conv2D(8, 3, groups=2, name="grouped")(x)
    x = L.Activation("gelu", name="gelu")(L.BatchNormalization(name="bn")(x))
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, L.Dense(3, activation="softmax", name="head")(x))


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"), L.Conv2D(4, 3, padding="same", name="conv"),
            L.BatchNormalization(name="bn"), L.ReLU(name="relu"), L.MaxPooling2D(name="pool"),
            L.Flatten(name="flatten"), L.Dense(5, name="out"),
        ]
    )  # fmt: skip


def nested() -> keras.Model:
    block = keras.Sequential(
        [L.Dense(6, name="a"), L.BatchNormalization(name="b"), L.ReLU(name="c")], name="block"
    )
    features = keras.Input((5,), name="features")
    x = block(features)
    outputs = [L.Dense(3, name="first")(x), L.Dense(2, name="second", activation="sigmoid")(x)]
    return keras.Model(features, outputs)


def two_inputs() -> keras.Model:
    a, b = keras.Input((6,), name="in_a"), keras.Input((4, 4, 2), name="in_b")
    x = L.Dense(8, name="dense")(a)
    y = L.Flatten(name="flatten")(L.Conv2D(8, 2, name="conv")(b))
    x = L.BatchNormalization(name="bn")(L.Concatenate(name="join")([x, y]))
    outputs = {"p": L.Dense(2, name="left")(x), "q": L.Dense(3, name="right")(x)}
    return keras.Model({"a": a, "b": b}, outputs)


def normalized() -> keras.Model:
    image = keras.Input((7, 7, 3), name="image")
    x = L.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0], name="norm")(image)
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, padding="same", name="conv")(x))
    return keras.Model(image, L.GlobalMaxPooling2D(name="pool")(L.ReLU(name="relu")(x)))


def recurrent() -> keras.Model:
    series = keras.Input((6, 5), name="series")
    x = L.LSTM(4, name="lstm", return_sequences=True)(L.BatchNormalization(name="bn")(series))
    return keras.Model(series, L.Dense(2, name="out")(L.GRU(3, name="gru")(x)))


def bidirectional() -> keras.Model:
    series = keras.Input((6, 5), name="series")
    return keras.Model(
        series, L.Dense(2, name="out")(L.Bidirectional(L.LSTM(4), name="bi")(series))
    )


def attention() -> keras.Model:
    tokens = keras.Input((6, 8), name="tokens")
    y = L.LayerNormalization(name="ln")(tokens)
    x = L.Add(name="add")([tokens, L.MultiHeadAttention(2, 4, name="mha")(y, y)])
    x = L.GlobalAveragePooling1D(name="pool")(L.Dense(5, name="wide", activation="gelu")(x))
    return keras.Model(tokens, L.Dense(2, name="out")(x))


def embedded() -> keras.Model:
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = L.BatchNormalization(name="bn_1")(L.Embedding(20, 5, name="emb")(tokens))
    x = L.BatchNormalization(name="bn_2")(L.Conv1D(4, 3, name="conv")(x))
    return keras.Model(tokens, L.Dense(2, name="out")(L.Flatten(name="flat")(L.ReLU(name="r")(x))))


def separable() -> keras.Model:
    image = keras.Input((9, 9, 3), name="image")
    x = L.BatchNormalization(name="bn_1")(L.SeparableConv2D(4, 3, name="sep")(image))
    x = L.BatchNormalization(name="bn_2")(L.DepthwiseConv2D(3, name="dw", depth_multiplier=2)(x))
    x = L.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = L.Conv2DTranspose(3, 3, strides=2, name="up")(x)
    return keras.Model(image, L.BatchNormalization(name="bn_3")(x))


def volume() -> keras.Model:
    scan = keras.Input((6, 6, 6, 2), name="scan")
    x = L.BatchNormalization(name="bn")(L.Conv3D(4, 3, name="conv")(scan))
    x = L.Flatten(name="flatten")(L.UpSampling3D(name="up")(x))
    return keras.Model(scan, L.Dense(3, name="out")(x))


def dense_on_sequences() -> keras.Model:
    series = keras.Input((4, 5), name="series")
    x = L.BatchNormalization(name="bn")(L.Dense(6, name="d", use_bias=False)(series))
    x = L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d", name="ein")(x)
    x = L.TimeDistributed(L.Dense(2, name="each"), name="td")(x)
    return keras.Model(series, L.Reshape((8,), name="flat")(x))


def residual() -> keras.Model:
    image = x = keras.Input((16, 16, 3), name="image")
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="conv_1")(x)
    x = y = L.ReLU(name="relu_1")(L.BatchNormalization(name="bn_1")(x))
    y = L.Conv2D(8, 3, padding="same", name="conv_2")(y)
    x = L.Add(name="add")([x, L.BatchNormalization(name="bn_2")(y)])
    x = L.MaxPooling2D(3, 2, name="max")(L.ZeroPadding2D(1, name="pad")(L.ReLU(name="relu_2")(x)))
    x = L.Flatten(name="flatten")(L.AveragePooling2D(2, padding="same", name="mean")(x))
    return keras.Model(image, L.Dense(10, name="out")(x))


def other_norms() -> keras.Model:
    image = keras.Input((8, 8, 4), name="image")
    x = L.GroupNormalization(2, name="gn")(L.Conv2D(8, 3, name="conv")(image))
    x = L.LayerNormalization(name="ln")(L.RMSNormalization(name="rms")(x))
    return keras.Model(image, L.GlobalAveragePooling2D(name="pool")(x))


def shared() -> keras.Model:
    dense, x = L.Dense(5, name="twice"), keras.Input((5,), name="x")
    return keras.Model(x, dense(L.BatchNormalization(name="bn")(dense(x))))


def passed_through() -> keras.Model:
    x = keras.Input((3,), name="x")
    y = L.Dense(3, name="d")(x)
    return keras.Model(x, [x, y, y])


def operations() -> keras.Model:
    x = keras.Input((4, 6), name="x")
    y = keras.ops.mean(keras.ops.maximum(x, np.zeros((6,), "float32")), axis=1)
    y = L.Dense(4, name="d", activation="swish")(y)
    return keras.Model(x, L.Activation("hard_sigmoid", name="hard")(y))


def any_size() -> keras.Model:
    photo = keras.Input((None, None, 3), name="photo")
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, padding="same", name="conv")(photo))
    x = L.GlobalAveragePooling2D(name="pool")(L.ReLU(name="relu")(x))
    return keras.Model(photo, L.Dense(3, name="out")(x))


def channels_first() -> keras.Model:
    image = keras.Input((3, 8, 8), name="image")
    x = L.Conv2D(4, 3, padding="same", data_format="channels_first", name="conv")(image)
    x = L.Flatten(name="flatten")(L.ReLU(name="relu")(L.BatchNormalization(axis=1, name="bn")(x)))
    return keras.Model(image, L.Dense(3, name="out")(x))


def augmented() -> keras.Model:
    photo = keras.Input((8, 8, 3), name="photo")
    x = L.Rescaling(1 / 16, name="scale")(L.Resizing(6, 6, name="resize")(photo))
    x = L.RandomRotation(0.1, name="turn")(L.RandomFlip(name="flip")(x))
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, name="conv")(x))
    return keras.Model(photo, L.GlobalAveragePooling2D(name="pool")(L.ReLU(name="relu")(x)))


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    function.__name__: function
    for function in (
        mnist, grouped, sequential, nested, two_inputs, normalized, recurrent, bidirectional,
        attention, embedded, separable, volume, dense_on_sequences, residual, other_norms, shared,
        passed_through, operations, any_size, channels_first, augmented,
    )
} | {
    "fresh_clone": lambda: keras.models.clone_model(mnist()),
    "float64": lambda: with_policy("float64"),
    "float16": lambda: with_policy("float16"),
    "mixed_float16": lambda: with_policy("mixed_float16"),
}  # fmt: skip


def inputs_for(model: keras.Model, count: int, seed: int = 1) -> Arrays:
    """Random inputs of the right kind, in the model's order: pixels, token numbers, numbers."""
    random = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (count, *(axis or 9 for axis in tensor.shape[1:]))
        if tensor.dtype.startswith(("int", "uint")):
            top = 256 if tensor.dtype == "uint8" else 20
            arrays.append(random.integers(0, top, shape).astype(tensor.dtype))
        else:
            arrays.append(random.normal(size=shape).astype(tensor.dtype))
    return arrays


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> keras.Model:
    """Each model in turn, randomized."""
    keras.utils.set_random_seed(0)
    return randomized(NETWORKS[request.param]())


@pytest.fixture(scope="session")
def make_network() -> Callable[..., keras.Model]:
    """A model by its name in NETWORKS, randomized."""

    def make(name: str, seed: int = 0) -> keras.Model:
        keras.utils.set_random_seed(seed)
        return randomized(NETWORKS[name](), seed)

    return make


@pytest.fixture(scope="session")
def exported_file(
    make_network: Callable[..., keras.Model], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """The ONNX file of a network by its name in NETWORKS, exported only once, beside its .keras."""
    from kerasbn import export

    folder = tmp_path_factory.mktemp("exported")

    def file(name: str, fold: bool = True) -> Path:
        path = folder / f"{name}-{'folded' if fold else 'unfolded'}.onnx"
        if not path.exists():
            network = make_network(name)
            network.save(path.with_suffix(".keras"))
            export(network, path, fold=fold)
        return path

    return file


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., Arrays]:
    """Random inputs for a model: `inputs_for`."""
    return inputs_for
