"""Time the epochs of a JAX program: `lax.scan` over a whole epoch, members by `vmap`."""

import os
import time
from itertools import pairwise
from typing import Any

from .specs import EVALUATION_BATCH, given, report

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
SPEC, DATA, _ = given()
if SPEC.device == "cpu":
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # type: ignore[import-not-found] # noqa: E402 - the variables come first
import jax.numpy as jnp  # type: ignore[import-not-found] # noqa: E402 - as above
import numpy as np  # noqa: E402 - as above
from jax import lax  # noqa: E402 - as above

LR, BETA1, BETA2, TINY = 0.01, 0.9, 0.999, 1e-7
IMAGES = jnp.asarray(np.concatenate([DATA.train.images, DATA.test.images]))
LABELS = jnp.asarray(np.concatenate([DATA.train.labels, DATA.test.labels]), jnp.int32)


def initial(key: Any, bn: bool) -> dict[str, Any]:
    """Return parameters, moving statistics and the state of Adam of one model."""
    sizes, layers, statistics = (784, *SPEC.hidden, 10), [], []
    for i, (n, m) in enumerate(pairwise(sizes)):
        bound = (6 / (n + m)) ** 0.5
        kernel = jax.random.uniform(jax.random.fold_in(key, i), (n, m), minval=-bound, maxval=bound)
        layer = {"kernel": kernel}
        if bn and m != 10:
            layer |= {"gamma": jnp.ones(m), "beta": jnp.zeros(m)}
            statistics.append((jnp.zeros(m), jnp.ones(m)))
        else:
            layer["bias"] = jnp.zeros(m)
        layers.append(layer)
    zeros = jax.tree.map(jnp.zeros_like, layers)
    return {"layers": layers, "moving": statistics, "adam": (zeros, zeros, jnp.zeros(()))}


def logits(layers: Any, moving: Any, images: Any, training: bool) -> tuple[Any, Any]:
    """Return logits and new moving statistics."""
    x, after = images.reshape(len(images), 784).astype(jnp.float32) / 255, []
    for i, layer in enumerate(layers):
        x = x @ layer["kernel"]
        if "gamma" in layer:
            mean, variance = moving[i]
            if training:
                old, (mean, variance) = moving[i], (x.mean(0), x.var(0))
                after.append((0.9 * old[0] + 0.1 * mean, 0.9 * old[1] + 0.1 * variance))
            x = (x - mean) * lax.rsqrt(variance + 1e-5) * layer["gamma"] + layer["beta"]
        else:
            x = x + layer["bias"]
        x = jax.nn.relu(x) if i < len(layers) - 1 else x
    return x, after


def cross_entropy(x: Any, labels: Any) -> Any:
    """Return the loss of each example."""
    return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1)[:, 0]


def update(model: dict[str, Any], images: Any, labels: Any) -> dict[str, Any]:
    """Return a model after one step."""

    def loss(layers: Any) -> tuple[Any, Any]:
        x, after = logits(layers, model["moving"], images, training=True)
        return cross_entropy(x, labels).mean(), after

    gradient, after = jax.grad(loss, has_aux=True)(model["layers"])
    first, second, count = model["adam"]
    count = count + 1
    first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradient)
    second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradient)
    rate = LR * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
    layers = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) + TINY), model["layers"], first, second
    )
    return {"layers": layers, "moving": after, "adam": (first, second, count)}


def epoch(models: Any, key: Any) -> Any:
    """Return all models after an epoch; each member sees batches of its own."""
    count, size = len(DATA.train), SPEC.batch_size
    steps = count // size
    orders = [
        jax.random.permutation(each, count)[: steps * size].reshape(steps, size)
        for each in jax.random.split(key, SPEC.members)
    ]

    def step(models: Any, rows: Any) -> tuple[Any, None]:
        images, labels = IMAGES[rows], LABELS[rows]
        return tuple(jax.vmap(update)(each, images, labels) for each in models), None

    return lax.scan(step, models, jnp.stack(orders, axis=1))[0]


def evaluate(models: Any) -> Any:
    """Return the losses and the correct predictions of all members by kind, `[parts, members]`."""

    def part(rows: Any) -> Any:
        images, labels = IMAGES[rows], LABELS[rows]

        def of(model: Any) -> tuple[Any, Any]:
            x, _ = logits(model["layers"], model["moving"], images, training=False)
            return cross_entropy(x, labels).sum(), (x.argmax(1) == labels).sum()

        return [jax.vmap(of)(each) for each in models]

    return lax.map(part, jnp.arange(len(IMAGES)).reshape(-1, EVALUATION_BATCH))


def main() -> None:
    """Train, and print the result."""
    keys = jax.random.split(jax.random.key(0), SPEC.members)
    models: Any = tuple(jax.vmap(lambda key, bn=bn: initial(key, bn))(keys) for bn in (True, False))
    train, test = jax.jit(epoch), jax.jit(evaluate)
    seconds, found = [], []
    for number in range(SPEC.epochs):
        began = time.perf_counter()
        models = train(models, jax.random.key(number + 1))
        found = jax.block_until_ready(test(models))
        seconds.append(time.perf_counter() - began)
    parts = len(DATA.test) // EVALUATION_BATCH  # the last ones
    accuracies = {
        kind: float(correct[-parts:].sum()) / len(DATA.test) / SPEC.members
        for kind, (_, correct) in zip(("bn", "plain"), found, strict=True)
    }
    report(seconds, accuracies, device=str(jax.devices()[0]))


if __name__ == "__main__":
    main()
