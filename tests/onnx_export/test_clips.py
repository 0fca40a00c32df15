"""What a rectifier that became a clip is in an exported file."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from kerasbn import export
from kerasbn.folding.keras.randomize import randomize_parameters
from kerasbn.folding.keras.running import predict
from kerasbn.folding.rounding import relative_difference
from kerasbn.inference.remaining import remaining_nodes
from kerasbn.inference.session import Session

L = keras.layers
INF = np.inf


def clipped(activation: Any, gamma: list[float], *, alike: bool = False) -> keras.Model:
    """tanh, a normalization with these gammas, an activation, a convolution; `alike` channels."""
    x = keras.Input((5, 4, 3), name="image")
    y = L.Concatenate(name="join")([L.Activation("tanh", name="bend")(x), x])
    y = L.BatchNormalization(name="bn", epsilon=0.0)(y)
    model = keras.Model(x, L.Conv2D(3, 1, name="conv")(activation(y)))
    randomize_parameters(model, 5)
    layer = model.get_layer("bn")
    layer.gamma.assign(np.resize(gamma, 6))
    if alike:
        for name, value in (("beta", 0.5), ("moving_mean", 0.25), ("moving_variance", 1.0)):
            getattr(layer, name).assign(np.full(6, value))
    return model


def bounds(path: Path) -> dict[str, tuple[str, list[np.ndarray[Any, Any]]]]:
    """The operation and the constants of each node of a file between the concatenation and Conv."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {
        node.name: (node.op_type, [constants[name] for name in node.input[1:] if name])
        for node in graph.node
        if node.op_type in ("Max", "Min", "Clip", "Relu", "HardSigmoid", "Mul", "Add")
    }


def exported(model: keras.Model, path: Path) -> dict[str, tuple[str, list[np.ndarray[Any, Any]]]]:
    """Export a network, see that nothing is left of its normalization, and give `bounds`."""
    found = export(model, path)
    assert [decision["clips"] for decision in found.plan] == [("act",)]
    assert not remaining_nodes(onnx.load(path), ["bn"])
    arrays = [np.random.default_rng(0).normal(size=(9, 5, 4, 3)).astype(np.float32)]
    assert relative_difference(Session(path).run(arrays), predict(model, arrays)) < 1e-6
    return bounds(path)


RELU, RELU6 = L.ReLU, lambda **how: L.ReLU(max_value=6.0, **how)
SHAPES = [
    (RELU, [1, 2, 0.5], {"act_max": "Max"}),
    (RELU, [-1, -2, -0.5], {"act_min": "Min"}),
    (RELU, [1, -2, 0.5], {"act_max": "Max", "act_min": "Min"}),
    (RELU, [1, 0, 2], {"act_max": "Max"}),
    (RELU, [0, -1, 0], {"act_min": "Min"}),
    (RELU, [0], {}),
    (RELU6, [1, 2, 0.5], {"act_max": "Max", "act_min": "Min"}),
    (RELU6, [-1, 2, 0], {"act_max": "Max", "act_min": "Min"}),
]


@pytest.mark.parametrize(("activation", "gamma", "nodes"), SHAPES)
def test_one_node_for_each_side_that_is_bounded(
    activation: Any, gamma: list[float], nodes: dict[str, str], tmp_path: Path
) -> None:
    found = exported(clipped(activation(name="act"), gamma), tmp_path / "model.onnx")
    assert {name: kind for name, (kind, _) in found.items()} == nodes
    signs = np.resize(gamma, 6)
    both = activation is RELU6
    for name, (_, (bound,)) in found.items():
        assert bound.size == 6
        # Without an end where none is needed.
        ended = (signs != 0) if both else (signs > 0) if name == "act_max" else (signs < 0)
        np.testing.assert_array_equal(np.isfinite(bound.ravel()), ended)
        assert set(bound.ravel()[~ended]) <= {-INF if name == "act_max" else INF}


def test_hard_sigmoid_has_two_bounds(tmp_path: Path) -> None:
    model = clipped(L.Activation("hard_sigmoid", name="act"), [1, -2, 0.5])
    found = exported(model, tmp_path / "model.onnx")
    assert {name: kind for name, (kind, _) in found.items()} == {"act_max": "Max", "act_min": "Min"}


@pytest.mark.parametrize(
    ("activation", "gamma", "name", "ends"),
    [
        (RELU, 1.0, "act_max", [-0.25]),
        (RELU6, 1.0, "act_clip", [-0.25, 5.75]),
        (RELU6, -1.0, "act_clip", [-5.25, 0.75]),
    ],
)
def test_one_bound_for_all_channels_is_a_clip(
    activation: Any, gamma: float, name: str, ends: list[float], tmp_path: Path
) -> None:
    model = clipped(activation(name="act"), [gamma], alike=True)
    found = exported(model, tmp_path / "model.onnx")
    ((kind, constants),) = found.values()
    assert (list(found), kind) == ([name], "Clip")
    assert [constant.shape for constant in constants] == [()] * len(ends)
    np.testing.assert_allclose([float(constant) for constant in constants], ends, atol=1e-6)


def test_without_clips_the_bn_layer_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    (decision,) = export(clipped(RELU(name="act"), [1, -1]), path, clip=False).plan
    assert decision["decision"] == "keep"
    assert len(remaining_nodes(onnx.load(path), ["bn"])) == 1
