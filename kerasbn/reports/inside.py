"""What happened inside networks that were probed: pictures, and the sentences that go with them."""

from collections.abc import Sequence

from kerasbn.probes.charts import pictures
from kerasbn.probes.readings import has_probes
from kerasbn.reports.document import Block, Command, Section, Words
from kerasbn.reports.pictured import pictured
from kerasbn.reports.repeat import compare_line, name_of, train_line
from kerasbn.reports.sources import Pairs, Trained
from kerasbn.runs import Run

HEADING = "What happens inside"


def inside_of(pairs: Pairs, prefix: str) -> Section:
    """What probes recorded of the first pair that was probed, or how to have it recorded."""
    for pair in zip(pairs.with_bn, pairs.without_bn, strict=True):
        probed = [each.run for each in pair if each.run is not None and has_probes(each.run)]
        if probed:
            seed = pair[0].training.seed
            note = [Words(f"Of the pair with seed {seed}.", "note")] * (len(pairs.seeds) > 1)
            return Section("inside", HEADING, [*note, *_told(probed, prefix)])
    return _unprobed("these networks", compare_line(pairs, probe=True))


def inside_of_runs(chosen: Sequence[Trained], prefix: str) -> Section:
    """What probes recorded of each run, or how to have it recorded."""
    blocks: list[Block] = []
    for i, each in enumerate(chosen):
        if each.run is not None and has_probes(each.run):
            if len(chosen) > 1:
                blocks.append(Words(f"{name_of(each)}:"))
            blocks += _told([each.run], f"{prefix}{i}")
    if not blocks:
        which = "this network" if len(chosen) == 1 else name_of(chosen[0])
        return _unprobed(which, train_line(chosen[0], probe=True))
    return Section("inside", HEADING, blocks)


def _told(probed: Sequence[Run], prefix: str) -> list[Block]:
    return [
        block
        for name, picture in pictures(probed).items()
        for block in pictured(picture.figure, picture.caption, f"{prefix}-{name}")
    ]


def _unprobed(which: str, line: str) -> Section:
    words = Words(
        f"Nobody has looked inside yet. This trains {which} again and records gradients, "
        "activations and the shape of the loss on the way:"
    )
    return Section("inside", HEADING, [words, Command([line])])
