"""What the probes of one run, or of two to compare, show: findings in words, and pictures.

Loads neither TensorFlow nor Keras.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.text import Text

from kerasbn.common.plotting import default_style, save_figure
from kerasbn.common.terminal import Terminal
from kerasbn.probes.readings import has_probes, read_probes
from kerasbn.probes.topics import TOPICS
from kerasbn.probes.topics.topic import Finding
from kerasbn.runs import Run

PROBE_DPI = 120  # 1,692 pixels for three panels side by side
# Readings may be infinite or overflow; findings and panels handle values that are not finite.
_QUIETLY = np.errstate(all="ignore")


class ProbeFigure(NamedTuple):
    """A figure, with a caption that says what it shows and what can be seen in it."""

    figure: Figure
    caption: str


@_QUIETLY
def findings_of(runs: Sequence[Run]) -> list[Finding]:
    """Return what the probes of one or two runs show by topic; nothing if a run has no probes.

    Raises:
        InputError: If the probes are damaged.
    """
    probed = [read_probes(run) for run in runs] if all(map(has_probes, runs)) else []
    found = [topic().describe(probed) for topic in TOPICS if probed]
    return [finding for finding in found if finding]


def print_findings(found: Sequence[Finding], console: Terminal | None = None) -> None:
    """Print titles and claims, one paragraph each; in a terminal wrapped between words."""
    console = console or Terminal()
    for each in found:
        text = Text.assemble((f"{each.title}:", "bold"), " ", each.claim)
        console.print(text, soft_wrap=not console.is_terminal)


@_QUIETLY
@default_style
def pictures(runs: Sequence[Run]) -> dict[str, ProbeFigure]:
    """Return the pictures of the probes of one or two runs, by name of the topic.

    Topics that were not recorded, such as gamma and beta without BN, are left out.

    Raises:
        InputError: If a run has no probes, or they are damaged.
    """
    probed = [read_probes(run) for run in runs]
    drawn = {}
    for topic in (topic() for topic in TOPICS):
        if figure := topic.draw(probed):
            finding = topic.describe(probed)
            words = [topic.caption, *((finding.claim, finding.details) if finding else ())]
            drawn[topic.name] = ProbeFigure(figure, " ".join(filter(None, words)))
    return drawn


def save_pictures(runs: Sequence[Run], folder: Path) -> None:
    """Save the pictures of the probes of one or two runs as ``probes-NAME.png``.

    Raises:
        InputError: As `pictures`, or if a file cannot be written.
    """
    for name, picture in pictures(runs).items():
        save_figure(picture.figure, folder / f"probes-{name}.png", dpi=PROBE_DPI)
