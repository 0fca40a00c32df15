"""The models of the experiments: functional Keras MLPs with and without batch normalization."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from kerasbn.training.settings import ModelSettings

CLASSES = 10


@contextmanager
def default_keras_config() -> Iterator[None]:
    """Use Keras's own defaults in the block, whatever keras.json or the caller has configured."""
    config = keras.config
    policy, epsilon = config.dtype_policy(), config.epsilon()
    floatx, data_format = config.floatx(), config.image_data_format()
    try:
        config.set_floatx("float32")
        config.set_dtype_policy("float32")
        config.set_epsilon(1e-7)
        config.set_image_data_format("channels_last")
        yield
    finally:
        config.set_floatx(floatx)
        config.set_dtype_policy(policy)
        config.set_epsilon(epsilon)
        config.set_image_data_format(data_format)


def mlp(
    bn: bool = True,
    hidden: tuple[int, ...] = (32, 32),
    activation: str = "relu",
    bn_position: str = "before",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    init: str = "glorot_uniform",
    bias_before_bn: bool = False,
    *,
    seed: int = 0,
) -> keras.Model:
    """Build a multilayer perceptron for 28x28 images with 10 classes.

    A hidden layer is Dense, BN, activation (Ioffe and Szegedy 2015, section 3.2), or Dense,
    activation, BN with `bn_position="after"`. A Dense layer followed by BN has no bias unless
    `bias_before_bn`: beta makes it redundant, and its gradient would be rounding noise that Adam
    scales up to a random walk. The kernel of the k-th Dense layer depends only on its shape, the
    seed and k, so models with and without BN start from the same kernels.

    Args:
        bn: Add a BN layer to every hidden layer. This and all further arguments but `seed` are the
            fields of `ModelSettings`.
        hidden: Units of each hidden layer.
        activation: Activation of the hidden layers.
        bn_position: BN `"before"` or `"after"` the activation.
        bn_momentum: Momentum of the moving statistics.
        bn_epsilon: Added to the variance before the square root.
        init: Kernel initializer: `glorot_uniform`, `he_normal`, `torch` or `normal:STD`.
        bias_before_bn: Keep the bias of layers followed by BN.
        seed: Random seed of the initializers.

    Returns:
        A Keras model from `image`, uint8 `[batch, 28, 28]`, to `logits`, float32 `[batch, 10]`.

    Raises:
        ArgumentError: If a value has the wrong type or is out of range.

    Examples:
        >>> import kerasbn
        >>> model = kerasbn.mlp(hidden=(64,), activation="tanh")
        >>> [layer.name for layer in model.layers][3:]
        ['dense_1', 'bn_1', 'tanh_1', 'logits']
    """
    settings = ModelSettings(
        bn, hidden, activation, bn_position, bn_momentum, bn_epsilon, init, bias_before_bn
    )
    image = keras.Input((28, 28), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(image)
    x = keras.layers.Flatten(name="flatten")(x)
    bn_follows = bn and (bn_position == "before" or activation == "linear")
    for k, units in enumerate(settings.hidden, start=1):
        use_bias = bias_before_bn or not bn_follows
        x = _dense(x, units, init, (seed, k), use_bias=use_bias, name=f"dense_{k}")
        normalize = keras.layers.BatchNormalization(
            momentum=settings.bn_momentum, epsilon=settings.bn_epsilon, name=f"bn_{k}"
        )
        if bn and bn_position == "before":
            x = normalize(x)
        if activation == "relu":
            x = keras.layers.ReLU(name=f"relu_{k}")(x)
        elif activation != "linear":
            x = keras.layers.Activation(activation, name=f"{activation}_{k}")(x)
        if bn and bn_position == "after":
            x = normalize(x)
    logits = _dense(x, CLASSES, init, (seed, len(settings.hidden) + 1), name="logits")
    return keras.Model(image, logits, name="mlp_bn" if bn else "mlp_plain")


def _dense(x: Any, units: int, init: str, key: tuple[int, int], **options: Any) -> Any:  # noqa: ANN401 - tensors
    """Apply a Dense layer whose kernel depends on its shape and `key` alone.

    `torch` is the default of torch.nn.Linear: kernel and bias are uniform within 1/sqrt(fan_in).
    Variance scaling of 1/3 by fan_in has the same bounds.
    """
    name, _, std = init.partition(":")
    seed = int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)
    kernels = {
        "glorot_uniform": keras.initializers.GlorotUniform(seed),
        "he_normal": keras.initializers.HeNormal(seed),
        "normal": keras.initializers.RandomNormal(stddev=float(std or 0), seed=seed),
        "torch": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=seed),
    }
    if name == "torch":
        bound = 1 / math.sqrt(x.shape[-1])
        options["bias_initializer"] = keras.initializers.RandomUniform(-bound, bound, seed + 1)
    return keras.layers.Dense(units, kernel_initializer=kernels[name], **options)(x)
