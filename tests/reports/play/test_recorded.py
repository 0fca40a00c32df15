"""What a page has of models too large for it: values computed in Python, with Keras as judge."""

from pathlib import Path

import numpy as np
import pytest

from kerasbn.data.datasets import Dataset
from kerasbn.reports.play.recorded import ACTIVATIONS, start_later
from kerasbn.reports.play.weights import Dense, NotPlayableError, floats, read_layers
from kerasbn.training import settings

SAVED = Path(__file__).parents[3] / "saved_models"


def test_all_activations_that_kerasbn_trains_with_are_known() -> None:
    assert {*ACTIVATIONS, "linear"} == set(settings.ACTIVATIONS)


def test_only_models_with_very_wide_layers_do_not_fit() -> None:
    bn, plain = (read_layers(SAVED / f"mnist-{name}" / "model.keras") for name in ("bn", "plain"))
    images = np.zeros((64, 28, 28), np.uint8)
    dense_2 = 4 * 32 + 4 * 32  # products with four images; gamma, beta, mean and variance
    logits = 32 * 10 + 10
    without_bn = 4 * 10 + 10
    room = 4 * (dense_2 + logits + without_bn) + 4 * 784
    for start, *_ in start_later(bn, plain, images, room):
        assert isinstance(start, Dense)
        assert start.inputs == 4
    with pytest.raises(NotPlayableError, match="is too large"):
        start_later(bn, plain, images, room - 1)


@pytest.mark.slow
def test_activations_are_those_of_keras() -> None:
    import keras

    grid = np.linspace(-40, 40, 1601)
    for name, function in ACTIVATIONS.items():
        wanted = keras.activations.get(name)(keras.ops.convert_to_tensor(grid, "float64")).numpy()
        np.testing.assert_allclose(function(grid), wanted, rtol=1e-6, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("position", ["pair", "after"])
def test_values_are_those_of_keras(
    sample_digits: Dataset,
    position: str,
    request: pytest.FixtureRequest,
) -> None:
    import keras

    made = request.getfixturevalue(position)
    saved = made.page.parent / "saved_models"
    bn, plain = (read_layers(saved / name / "model.keras") for name in ("bn", "plain"))
    images = sample_digits.test.images[:64]
    found = start_later(bn, plain, images, room=57_000)  # less than with dense_1
    for model, name, (start, *_) in zip(made[1:], ("dense_2", "logits"), found, strict=True):
        assert isinstance(start, Dense)
        assert start.name == name
        layer = model.get_layer(name)
        inputs = keras.Model(model.input, layer.input)(images, training=False).numpy()
        wanted = inputs @ layer.kernel.numpy()
        products = floats(start.kernel).reshape(wanted.shape)
        assert np.abs(products - wanted).max() <= 1e-5 * np.abs(wanted).max()
