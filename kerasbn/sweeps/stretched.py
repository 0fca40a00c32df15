"""An axis for accuracies that is stretched towards 100 %.

Accuracies stand by the logarithm of what is wrong, so that one sees not only who learns, but also
by how much those differ that do: from 90 to 95 % it is about as far as from 95 to 98 %.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, PercentFormatter

TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)
HOW = "The axis is stretched towards 100 %."
_LAST = 0.01  # added to what is wrong; without it nothing would ever reach 100 %


def height(accuracy: Any) -> Any:  # noqa: ANN401 - a number or an array, as matplotlib has it
    """How high an accuracy stands, from 0 to 1."""
    wrong = 1 - np.clip(accuracy, 0.0, 1.0)
    return np.log((1 + _LAST) / (wrong + _LAST)) / np.log((1 + _LAST) / _LAST)


def accuracy_at(share: Any) -> Any:  # noqa: ANN401 - as above
    """The accuracy that stands at this height; the inverse of `height`."""
    return 1 + _LAST - (1 + _LAST) * (_LAST / (1 + _LAST)) ** np.asarray(share)


def stretch(axes: Axes) -> None:
    """Make the vertical axis one for accuracies, from 0 to 100 %."""
    axes.set_yscale("function", functions=(height, accuracy_at))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(FixedLocator(TICKS))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
