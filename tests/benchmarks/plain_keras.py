"""Train the same two models in plain Keras, as a tutorial would; the reference of speed.py.

`tf.data` from arrays, shuffle, `batch(32)`, `fit`, `evaluate` on both splits after every epoch, and
a figure at the end. With `float32` the arrays hold pixels from 0 to 1, as in most tutorials; with
`uint8` the model scales them, which takes less memory. Prints a line of JSON with the seconds of
each epoch of both models.
"""

import json
import sys
import time

import keras
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from kerasbn.data.datasets import load_dataset


def mlp(bn: bool, pixels: str) -> keras.Model:
    """Build an MLP 784-32-32-10, as `kerasbn.mlp` does."""
    x = image = keras.Input((28, 28), dtype=pixels)
    if pixels == "uint8":
        x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Flatten()(x)
    for _ in range(2):
        x = keras.layers.Dense(32, use_bias=not bn)(x)
        if bn:
            x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
        x = keras.layers.ReLU()(x)
    model = keras.Model(image, keras.layers.Dense(10)(x))
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def main(data_dir: str, epochs: int, pixels: str) -> None:
    """Train both models, one after the other in every epoch, and plot their curves."""
    data = load_dataset("mnist", data_dir) if data_dir else load_dataset("mnist-sample")
    arrays: list[np.ndarray] = [data.train.images, data.test.images]
    if pixels == "float32":
        arrays = [images.astype("float32") / 255 for images in arrays]
    train = tf.data.Dataset.from_tensor_slices((arrays[0], data.train.labels))
    batches = train.shuffle(60_000).batch(32, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    every = train.batch(32)
    test = tf.data.Dataset.from_tensor_slices((arrays[1], data.test.labels)).batch(32)
    models = {"with": mlp(True, pixels), "without": mlp(False, pixels)}
    metrics: dict[str, list[list[float]]] = {name: [] for name in models}
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for name, model in models.items():
            model.fit(batches, verbose=0)
            results = [*model.evaluate(every, verbose=0), *model.evaluate(test, verbose=0)]
            metrics[name].append(results)
        seconds.append(time.perf_counter() - start)
    _, panels = plt.subplots(2, 2, figsize=(11, 7))
    for i, axes in enumerate(panels.flat):
        for name, rows in metrics.items():
            axes.plot([row[i] for row in rows], label=name)
        axes.legend()
    plt.savefig("plain.png", dpi=150)
    print(json.dumps({"epoch_seconds": seconds, "accuracy": metrics["with"][-1][3]}))  # noqa: T201 - the result


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
