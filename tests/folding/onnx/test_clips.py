"""Activations that become a clip, so that a map passes."""

import numpy as np
import pytest
from onnx_chains import Node, X, batch_norm, chain, judge, node, only_reason, random

R = random
TANH = node("Tanh")
CONV = node("Conv", X, R(3, 4, 1))
CLIPS = {
    "Relu": (node("Relu"), 21),
    "Clip": (node("Clip", X, np.array(-0.5, "f4"), np.array(0.7, "f4")), 21),
    "Clip, below": (node("Clip", X, np.array(-0.5, "f4")), 21),
    "Clip, above": (node("Clip", X, "", np.array(0.5, "f4")), 21),
    "Clip, opset 10": (node("Clip", min=0.0, max=0.6), 10),
    "HardSigmoid": (node("HardSigmoid", alpha=0.3, beta=0.4), 21),
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("scalar", [True, False])
def test_a_map_passes_an_activation_that_becomes_a_clip(name: str, *, scalar: bool) -> None:
    activation, opset = CLIPS[name]
    before = (node("Mul", X, R()), node("Add", X, R())) if scalar else (batch_norm(4),)
    model = chain((2, 4, 5), TANH, *before, activation, CONV, TANH, opset=opset)
    made, plan = judge(model)
    (fold,) = plan.folds()
    assert not plan.kept()
    assert fold.clips == (f"n{1 + len(before)}",)
    ops = [each.op_type for each in made.graph.node]
    assert not {"Relu", "HardSigmoid", "BatchNormalization", "Mul", "Add"} & set(ops)
    assert [each.op_type for each in judge(model, clip=False)[0].graph.node] == [
        each.op_type for each in model.graph.node
    ]


def test_a_scale_of_zero_holds_a_channel() -> None:
    gamma = R(4)
    gamma[1] = 0
    norm = node("BatchNormalization", X, gamma, *batch_norm(4).inputs[2:])
    made, plan = judge(chain((2, 4, 5), TANH, norm, node("Relu"), CONV, TANH))
    assert len(plan.folds()) == 1
    assert {each.op_type for each in made.graph.node} <= {"Tanh", "Max", "Min", "Conv"}


def test_an_activation_becomes_a_clip_only_once_and_for_all_of_its_readers() -> None:
    padded = node("Conv", X, R(3, 4, 3), pads=[1, 1])
    reason = only_reason(chain((2, 4, 5), TANH, batch_norm(4), node("Relu"), padded, TANH))
    assert "pads its input with zeros" in reason
    two = (batch_norm(4), node("Relu"), batch_norm(4, seed=9), node("Clip", X, np.array(0.1, "f4")))
    _, plan = judge(chain((2, 4, 5), TANH, *two, CONV, TANH))
    assert len(plan.folds()) == 2


@pytest.mark.parametrize(
    "activation",
    [
        node("Clip", X, np.array(1, "f4"), np.array(-1, "f4")),  # runtimes differ here
        node("ThresholdedRelu", alpha=0.5),  # jumps
        node("Clip", X, X),
    ],
)
def test_what_is_no_clip_stops_a_map(activation: Node) -> None:
    if len(activation.inputs) == 2:
        activation = node("Max", X, np.array([0.1], "f4"))
    assert only_reason(chain((2, 4, 5), TANH, batch_norm(4), activation, CONV, TANH))


@pytest.mark.parametrize("name", CLIPS)
def test_a_map_behind_an_activation_goes_on_ahead_of_a_clip(name: str) -> None:
    activation, opset = CLIPS[name]
    first, second = node("Conv", X, R(4, 4, 2), R(4)), node("Conv", X, R(3, 4, 3), pads=[1, 1])
    model = chain((2, 4, 5), TANH, first, activation, batch_norm(4), second, TANH, opset=opset)
    _, plan = judge(model)
    assert [str(each) for each in plan] == ["n3: folded backward into n1 through n2 (as a clip)"]
    (kept,) = judge(model, clip=False)[1]
    assert "pads its input with zeros" in str(kept)
