"""What taps see, against convolutions of kernels with a single tap."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasbn.folding.affine import Affine, CannotFold, affine
from kerasbn.folding.onnx.evaluate import conv, conv_transpose
from kerasbn.folding.windows import Steps, Window, convolution, transposed

small = st.integers(1, 4)
pads = st.tuples(st.integers(0, 3), st.integers(0, 3)) | st.none()


@given(n=small, steps=st.builds(Steps, small, small, small, pads, st.booleans()))
def test_taps_see_what_a_convolution_multiplies(n: int, steps: Steps) -> None:
    x = np.arange(1.0, n + 1)[None, None]
    auto = "NOTSET" if steps.pads else "SAME_LOWER" if steps.lower else "SAME_UPPER"
    how: dict[str, Any] = {
        "strides": [steps.stride], "dilations": [steps.dilation], "pads": steps.pads,
        "auto_pad": auto,
    }  # fmt: skip
    if steps.pads and n + sum(steps.pads) <= (steps.taps - 1) * steps.dilation:
        return  # no output
    made = [conv(x, np.eye(steps.taps)[tap][None, None], **how) for tap in range(steps.taps)]
    window = convolution("u", (n, made[0].shape[-1]), steps)
    np.testing.assert_array_equal(window.seen + 1, [y[0, 0] for y in made])


@given(n=small, steps=st.builds(Steps, small, small, small, pads, st.booleans(), st.integers(0, 1)))
def test_taps_see_what_a_transposed_convolution_multiplies(n: int, steps: Steps) -> None:
    x = np.arange(1.0, n + 1)[None, None]
    reach = (n - 1) * steps.stride + (steps.taps - 1) * steps.dilation + steps.more + 1
    if reach < (sum(steps.pads) + 1 if steps.pads else n * steps.stride):
        return  # no output, or negative padding
    auto = "NOTSET" if steps.pads else "SAME_LOWER" if steps.lower else "SAME_UPPER"
    how: dict[str, Any] = {
        "strides": [steps.stride], "dilations": [steps.dilation], "pads": steps.pads,
        "auto_pad": auto, "output_padding": [steps.more], "output_shape": None,
    }  # fmt: skip
    made = [
        conv_transpose(x, np.eye(steps.taps)[tap][None, None], **how) for tap in range(steps.taps)
    ]
    window = transposed("u", (n, made[0].shape[-1]), steps)
    np.testing.assert_array_equal(window.seen + 1, [y[0, 0] for y in made])


def seen(*rows: list[int], length: int | None = 3) -> Window:
    return Window("u", length, np.array(rows), "is uneven")


def test_a_map_is_taken_where_each_tap_sees_it() -> None:
    a = affine([[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]])
    at_taps = seen([0], [2]).at_taps(a, 1)
    np.testing.assert_array_equal([at_taps.s, at_taps.t], [[[1.0, 3.0]], [[4.0, 6.0]]])


def test_padding_has_any_scale_and_no_offset() -> None:
    at_taps = seen([-1, 1], [-1, -1]).at_taps(affine([1.0, 2.0, 3.0], 0.0), 0)
    np.testing.assert_array_equal([at_taps.s[0], *at_taps.t], [2.0, 0.0, 0.0])
    one = seen([-1], [0], length=1).at_taps(affine([2.0], 3.0), 0)
    np.testing.assert_array_equal([one.s, one.t], [[2.0, 2.0], [0.0, 3.0]])


@pytest.mark.parametrize(
    ("window", "a", "reason"),
    [
        (seen([0, 1]), affine([1.0, 2.0, 3.0], 0.0), "shares its kernel"),
        (seen([0, 1]), affine(1.0, [1.0, 2.0, 3.0]), "shares its kernel"),
        (seen([0, 1], length=None), affine([1.0, 1.0, 3.0], 0.0), "shares its kernel"),
        (seen([0, -1]), affine([2.0], [1.0]), "is uneven"),
    ],
)
def test_a_tap_sees_a_single_map(window: Window, a: Affine, reason: str) -> None:
    with pytest.raises(CannotFold, match=reason):
        window.at_taps(a, 0)
