"""The weights of a page are those of the model, read without Keras."""

import base64
import json
import subprocess
import sys
import zipfile
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from kerasbn.reports.play import weights
from kerasbn.reports.play.weights import NotPlayableError, read_layers


def test_reading_loads_no_keras() -> None:
    code = "import sys, kerasbn.reports.play.play; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_files_that_cannot_be_read_are_not_playable(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.keras", tmp_path / "text.keras"
    empty.touch()
    text.write_text("nothing")
    with zipfile.ZipFile(tmp_path / "bare.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": []}}))
    for name in ("empty", "text", "bare", "missing"):
        path = tmp_path / f"{name}.keras"
        with pytest.raises(NotPlayableError, match="no file that can be read"):
            read_layers(path)


def test_a_large_file_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parents[3] / "saved_models" / "mnist-bn" / "model.keras"
    assert len(read_layers(path)) == 8
    monkeypatch.setattr(weights, "MOST_BYTES", 100_000)
    with pytest.raises(NotPlayableError, match="is too large"):
        read_layers(path)


def chain(image: Any, *layers: Any) -> Any:
    """A functional model, as kerasbn trains them."""
    import keras

    return keras.Model(image, reduce(lambda x, layer: layer(x), layers, image))


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


@pytest.mark.slow
def test_layers_are_those_of_the_model(tmp_path: Path) -> None:
    """Kernels and statistics go to the right layer, with and without bias, gamma and beta."""
    import keras
    from keras import layers

    model = chain(
        keras.Input((28, 28), dtype="uint8"),
        layers.Rescaling(1 / 255, offset=-0.5),
        layers.Flatten(),
        layers.Dense(5, use_bias=False),
        layers.BatchNormalization(scale=False, epsilon=1e-4),
        layers.ReLU(),
        layers.Dense(4, activation="gelu", bias_initializer="normal"),
        layers.BatchNormalization(center=False),
        layers.Dense(3),
    )
    random = np.random.default_rng(1)
    model.set_weights([random.uniform(0.5, 2, w.shape) for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    found = [msgspec.to_builtins(each) for each in read_layers(tmp_path / "model.keras")]
    assert [each["kind"] for each in found] == [
        "rescaling", "dense", "batch_normalization", "activation", "dense", "activation",
        "batch_normalization", "dense",
    ]  # fmt: skip
    assert (found[0]["scale"], found[0]["offset"]) == (1 / 255, -0.5)
    assert (found[1]["inputs"], found[1]["units"], found[1]["bias"]) == (784, 5, None)
    assert [found[3]["function"], found[5]["function"]] == ["relu", "gelu"]
    first, second, third = (each for each in model.layers if isinstance(each, layers.Dense))
    bn, other = (each for each in model.layers if isinstance(each, layers.BatchNormalization))
    for layer, entry in ((first, found[1]), (second, found[4]), (third, found[7])):
        np.testing.assert_array_equal(floats(entry["kernel"]), layer.kernel.numpy().ravel())
    np.testing.assert_array_equal(floats(found[4]["bias"]), second.bias.numpy())
    for layer, entry in ((bn, found[2]), (other, found[6])):
        np.testing.assert_array_equal(floats(entry["mean"]), layer.moving_mean.numpy())
        np.testing.assert_array_equal(floats(entry["variance"]), layer.moving_variance.numpy())
    assert found[2]["epsilon"] == 1e-4
    np.testing.assert_array_equal(floats(found[2]["gamma"]), np.ones(5))
    np.testing.assert_array_equal(floats(found[2]["beta"]), bn.beta.numpy())
    np.testing.assert_array_equal(floats(found[6]["gamma"]), other.gamma.numpy())
    np.testing.assert_array_equal(floats(found[6]["beta"]), np.zeros(4))


@pytest.mark.slow
def test_other_models_are_not_playable(tmp_path: Path) -> None:
    import keras
    from keras import layers

    image = keras.Input((4,))
    both = layers.Add()([layers.Dense(3)(image), layers.Dense(3)(image)])
    twice = layers.Dense(4, name="shared")
    models = {
        "add": keras.Model(image, both),
        "shared": keras.Model(image, twice(twice(image))),
        "softmax": chain(image, layers.Dense(3, activation="softmax")),
        "clipped": chain(image, layers.ReLU(max_value=6)),
        "convolution": chain(keras.Input((8, 8, 1)), layers.Conv2D(2, 3)),
        "sequential": keras.Sequential([image, layers.Dense(3)]),
        "infinite": chain(image, layers.Dense(3)),
    }
    models["infinite"].set_weights([np.full((4, 3), np.inf), np.zeros(3)])
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
        reason = "not finite" if name == "infinite" else "no chain"
        with pytest.raises(NotPlayableError, match=reason):
            read_layers(tmp_path / f"{name}.keras")
