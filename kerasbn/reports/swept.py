"""A sweep on a page: its question, its findings, its pictures, and all its figures."""

import json
from collections.abc import Mapping
from typing import Any

from kerasbn.experiments.statistics import METHOD
from kerasbn.reports.answer import difference_text, spread_text
from kerasbn.reports.document import (
    NOTHING,
    Block,
    Cell,
    Command,
    Part,
    Points,
    Section,
    Table,
    Words,
)
from kerasbn.reports.explain import normalization_at_large
from kerasbn.reports.pictured import pictured
from kerasbn.sweeps.findings import about, parted
from kerasbn.sweeps.plots import pictures
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.summaries import FIGURE, NAMES, Side, Summary, short, summaries

LONG = 24  # rows: a longer table opens on a click


def swept(study: Study, prefix: str) -> Part:
    """All that is said of a study."""
    answered, rest = parted(study)
    sections = [Section("found", "What was found", _found(study, rest))]
    drawn = [
        block
        for picture in pictures(study)
        for block in pictured(
            picture.figure, picture.caption, f"{prefix}-{picture.name}", picture.title
        )
    ]
    if drawn:
        sections.append(Section("pictures", "In pictures", drawn))
    if True in study.grid.kinds:
        sections.append(normalization_at_large(paired=False in study.grid.kinds))
    sections += [_figures(study), _settings(study), _again(study)]
    question = " ".join(study.grid.question.split()) or f"What does the sweep {study.name} show?"
    return Part(question, " ".join(answered) or "Nothing has been trained yet.", sections)


def _found(study: Study, found: list[str]) -> list[Block]:
    blocks: list[Block] = [Points(found)] if found else []
    if study.grid.source:
        blocks.append(Words(" ".join(study.grid.source.split()), "note"))
    if study.with_status("missing"):
        count = len(study.with_status("missing"))
        blocks.insert(0, Words(f"{count:,} networks are not trained yet.", "warning"))
    return blocks


def _figures(study: Study) -> Section:
    """Accuracy for each point of the grid."""
    axes = study.axes
    listed = summaries(study)
    interval = " (95 % interval)" if any(each.difference.low is not None for each in listed) else ""
    columns = (", ".join(NAMES[axis] for axis in axes).capitalize() or "Networks", "With BN",
               "Without BN", f"Difference{interval}", "Diverged")  # fmt: skip
    rows = [_row(each, axes) for each in listed]
    table = Table(columns, rows, "Test accuracy", closed=len(rows) > LONG)
    note = Words(METHOD[0].upper() + METHOD[1:] + ".", "note")
    return Section("figures", "All figures", [table, note])


def _row(each: Summary, axes: list[str]) -> tuple[Cell, ...]:
    sick = [
        f"{len(side.diverged)} {words}"
        for side, words in ((each.with_bn, "with BN"), (each.without_bn, "without"))
        if side is not None and side.diverged
    ]
    return (
        Cell(", ".join(short(each.point[axis]) for axis in axes) or "all"),
        _spread(each.with_bn),
        _spread(each.without_bn),
        Cell(difference_text(each.difference, FIGURE), each.difference.mean),
        Cell(", ".join(sick) or "none"),
    )


def _spread(side: Side | None) -> Cell:
    return (
        Cell(NOTHING) if side is None else Cell(spread_text(side.spread, FIGURE), side.spread.mean)
    )


def _settings(study: Study) -> Section:
    versions = study.record.get("versions")
    blocks: list[Block] = [Points(about(study))]
    if isinstance(versions, Mapping):
        made = ", ".join(f"{name} {version}" for name, version in versions.items())
        blocks.append(Words(f"Made with {made}.", "note"))
    return Section("settings", "All settings", blocks)


def _again(study: Study) -> Section:
    """The command, and the grid, which the command reads from a file."""
    blocks: list[Block] = []
    command = study.record.get("command")
    if command:
        blocks.append(Command([str(command)]))
    blocks += [Words("The grid, as a file:"), Command(_toml(study.record["grid"]))]
    return Section("again", "Do it again", blocks)


def _toml(grid: Mapping[str, Any]) -> list[str]:
    """The grid as a file that says the same."""
    plain = {key: value for key, value in grid.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {_value(value)}" for key, value in plain.items() if value not in ("", None)]
    for key, table in grid.items():
        if isinstance(table, Mapping) and table:
            lines += ["", f"[{key}]", *(f"{name} = {_value(each)}" for name, each in table.items())]
    return lines


def _value(value: object) -> str:
    """A value as TOML has it: as JSON, but for tables."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
