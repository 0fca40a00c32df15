"""The models of the experiment: functional Keras MLPs with and without BN."""

import math

import keras
import numpy as np

from kerasbn.training.settings import ModelSettings, parse_init

CLASSES = 10


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
    """Return an MLP from `image`, uint8 `[batch, 28, 28]`, to `logits`, float32 `[batch, 10]`.

    Each hidden layer is Dense, BN, activation (Ioffe and Szegedy 2015, section 3.2), or Dense,
    activation, BN with ``bn_position="after"``. A Dense layer followed by BN has no bias unless
    `bias_before_bn` is set: beta makes it redundant, and its gradient would be rounding noise that
    Adam scales up to a random walk. The kernel of the k-th Dense layer depends only on its shape
    and on (seed, k), so models with the same seed start from the same kernels.

    Args:
        bn: Whether every hidden layer has a BN layer. This and the arguments up to `bias_before_bn`
            are the fields of `ModelSettings`.
        hidden: Units of each hidden layer.
        activation: Activation of the hidden layers.
        bn_position: BN ``before`` or ``after`` the activation.
        bn_momentum: Momentum of the moving statistics.
        bn_epsilon: Added to the variance before the square root.
        init: Kernel initializer.
        bias_before_bn: Whether layers followed by BN keep their bias.
        seed: Random seed of the initial weights.

    Raises:
        InputError: If a value has the wrong type or is out of range.

    Examples:
        >>> import kerasbn
        >>> model = kerasbn.mlp(hidden=(64,), bn=False)
        >>> model.output_shape
        (None, 10)
    """
    settings = ModelSettings(
        bn, tuple(hidden), activation, bn_position, bn_momentum, bn_epsilon, init, bias_before_bn
    )
    image = keras.Input((28, 28), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(image)
    x = keras.layers.Flatten(name="flatten")(x)
    for k, units in enumerate(settings.hidden, start=1):
        directly_normalized = bn and (bn_position == "before" or activation == "linear")
        use_bias = bias_before_bn or not directly_normalized
        x = _dense(settings, units, x.shape[-1], (seed, k), use_bias, name=f"dense_{k}")(x)
        steps = [_activation(activation, k), _normalization(settings, k)]
        for layer in steps if bn_position == "after" else reversed(steps):
            x = layer(x) if layer else x
    logits = _dense(
        settings, CLASSES, x.shape[-1], (seed, len(settings.hidden) + 1), True, name="logits"
    )(x)
    return keras.Model(image, logits, name="mlp_bn" if bn else "mlp_plain")


def _dense(
    settings: ModelSettings,
    units: int,
    fan_in: int,
    key: tuple[int, int],
    use_bias: bool,
    name: str,
) -> keras.layers.Dense:
    seed = int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)
    kernel, bias = _initializers(settings.init, fan_in, seed)
    return keras.layers.Dense(
        units, use_bias=use_bias, kernel_initializer=kernel, bias_initializer=bias, name=name
    )


def _normalization(settings: ModelSettings, k: int) -> keras.layers.Layer | None:
    if not settings.bn:
        return None
    return keras.layers.BatchNormalization(
        momentum=settings.bn_momentum, epsilon=settings.bn_epsilon, name=f"bn_{k}"
    )


def _activation(name: str, k: int) -> keras.layers.Layer | None:
    if name == "linear":
        return None
    if name == "relu":
        return keras.layers.ReLU(name=f"relu_{k}")
    return keras.layers.Activation(name, name=f"{name}_{k}")


def _initializers(
    init: str, fan_in: int, seed: int
) -> tuple[keras.initializers.Initializer, keras.initializers.Initializer]:
    """Return the initializers of kernel and bias.

    ``torch`` is the default of torch.nn.Linear: both uniform within 1/sqrt(fan_in), which are the
    bounds of variance scaling by 1/3 with fan_in.
    """
    name, std = parse_init(init)
    zeros = keras.initializers.Zeros()
    if name == "glorot_uniform":
        return keras.initializers.GlorotUniform(seed=seed), zeros
    if name == "he_normal":
        return keras.initializers.HeNormal(seed=seed), zeros
    if name == "normal":
        return keras.initializers.RandomNormal(stddev=std, seed=seed), zeros
    bound = 1 / math.sqrt(fan_in)
    return (
        keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=seed),
        keras.initializers.RandomUniform(-bound, bound, seed=seed + 1),
    )
