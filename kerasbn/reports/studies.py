"""A sweep on a page: its question, its findings, its figures, and all its numbers."""

import json
from collections.abc import Mapping
from typing import Any

from kerasbn.common import wording
from kerasbn.experiments.statistics import METHOD
from kerasbn.reports.charts import figure_blocks
from kerasbn.reports.document import (
    Article,
    Block,
    BulletList,
    Cell,
    Code,
    Paragraph,
    Section,
    Table,
)
from kerasbn.reports.inside import batch_normalization
from kerasbn.reports.reproduce import data_folder_note
from kerasbn.reports.results import STATISTICS_COLUMNS, difference_text, spread_text
from kerasbn.reports.sources import data_of
from kerasbn.sweeps.charts import draw_charts
from kerasbn.sweeps.findings import answer_and_details, method
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.summaries import FIGURE, SeedResults, Summary, summarize
from kerasbn.training.settings import SETTINGS, short_text

MAX_ROWS = 24  # of an open table; a longer one is collapsed


def study_article(study: Study, prefix: str) -> Article:
    """Return everything about a study."""
    answers, others = answer_and_details(study)
    sections = [Section("results", "Results", _results(study, others))]
    figures = [
        block
        for picture in draw_charts(study)
        for block in figure_blocks(
            picture.figure, picture.caption, f"{prefix}-{picture.name}", picture.title
        )
    ]
    if figures:
        sections.append(Section("figures", "Figures", figures))
    if True in study.grid.kinds:
        sections.append(batch_normalization(paired=False in study.grid.kinds))
    sections += [_numbers(study), _settings(study), _reproduce(study)]
    question = " ".join(study.grid.question.split()) or f"What does the sweep {study.name} show?"
    return Article(question, " ".join(answers) or "Nothing has been trained yet.", sections)


def _results(study: Study, findings: list[str]) -> list[Block]:
    blocks: list[Block] = [BulletList(findings)] if findings else []
    if study.grid.source:
        blocks.append(Paragraph(" ".join(study.grid.source.split()), "note"))
    if missing := len(study.with_status("missing")):
        words = "is not trained yet" if missing == 1 else "are not trained yet"
        blocks.insert(0, Paragraph(f"{wording.plural(missing, 'trial')} {words}.", "warning"))
    return blocks


def _numbers(study: Study) -> Section:
    """Return test accuracy for every configuration."""
    labels = wording.listed([SETTINGS[axis].label for axis in study.axes])
    columns = (
        f"{labels[:1].upper()}{labels[1:]}" or "Configuration",
        *STATISTICS_COLUMNS, "Diverged",
    )  # fmt: skip
    rows = [_row(each, study.axes) for each in summarize(study)]
    table = Table(columns, rows, "Test accuracy", collapsed=len(rows) > MAX_ROWS)
    return Section("numbers", "All numbers", [table, Paragraph(wording.sentence(METHOD), "note")])


def _row(each: Summary, axes: list[str]) -> tuple[Cell, ...]:
    diverged = [
        f"{results.diverged} {words}"
        for results, words in ((each.with_bn, "with BN"), (each.without_bn, "without"))
        if results.diverged
    ]
    return (
        Cell(", ".join(short_text(each.configuration[axis]) for axis in axes) or "all"),
        _spread(each.with_bn),
        _spread(each.without_bn),
        Cell(difference_text(each.difference, FIGURE), each.difference.mean),
        Cell(", ".join(diverged) or "none"),
    )


def _spread(side: SeedResults) -> Cell:
    return Cell(spread_text(side.spread, FIGURE), side.spread.mean)


def _settings(study: Study) -> Section:
    versions = ", ".join(f"{name} {version}" for name, version in study.record.versions.items())
    blocks: list[Block] = [BulletList(method(study)), Paragraph(f"Versions: {versions}.", "note")]
    return Section("settings", "Settings", blocks)


def _reproduce(study: Study) -> Section:
    """Return the command of the sweep, and the grid as a file that the command can read."""
    command, data = study.record.command, data_of(study)
    blocks: list[Block] = []
    if command:
        blocks += [Code([command]), *data_folder_note(data)]
    blocks += [Paragraph("The grid as a TOML file:"), Code(_toml(study.record.grid))]
    return Section("reproduce", "Reproduce", blocks)


def _toml(grid: Mapping[str, Any]) -> list[str]:
    """Return the grid as the lines of a TOML file."""
    values = {key: value for key, value in grid.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {_value(value)}" for key, value in values.items() if value not in ("", None)]
    for key, table in grid.items():
        if isinstance(table, Mapping) and table:
            lines += ["", f"[{key}]", *(f"{name} = {_value(each)}" for name, each in table.items())]
    return lines


def _value(value: object) -> str:
    """Return a value in TOML, which is that of JSON except for tables."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
