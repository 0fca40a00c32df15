"""A sweep on a page: its question, its findings, its figures, and all its numbers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kerasbn.common import wording
from kerasbn.experiments.statistics import METHOD
from kerasbn.reports.charts import figure_charts
from kerasbn.reports.document import Article, BulletList, Cells, Code, Paragraph, Section, Table
from kerasbn.reports.inside import batch_normalization
from kerasbn.reports.reproduce import data_note
from kerasbn.reports.results import STATISTICS_COLUMNS, statistics_cells
from kerasbn.sweeps.charts import draw_charts
from kerasbn.sweeps.findings import answer_and_details, method
from kerasbn.sweeps.study import Study
from kerasbn.sweeps.summaries import FIGURE, Summary, summarize
from kerasbn.training.settings import SETTINGS, short_text

MAX_ROWS = 24  # of an open table; a longer one is collapsed


def study_article(study: Study, prefix: str) -> Article:
    """Return everything about a study."""
    answers, details = answer_and_details(study)
    figures = [
        figure_charts(each.figure, each.caption, f"{prefix}-{each.name}", each.title)
        for each in draw_charts(study)
    ]
    kinds = study.grid.kinds
    versions = ", ".join(f"{name} {version}" for name, version in study.record.versions.items())
    note = Paragraph(f"Versions: {versions}.", "note")
    return Article(
        " ".join(study.grid.question.split()) or f"What does the sweep {study.name} show?",
        " ".join(answers) or "Nothing has been trained yet.",
        _results(study, details),
        Section("figures", "Figures", *figures) if figures else None,
        batch_normalization(paired=False in kinds) if True in kinds else None,
        _numbers(study),
        Section("settings", "Settings", BulletList(method(study)), note),
        _reproduce(study),
    )


def _results(study: Study, findings: Sequence[str]) -> Section:
    missing = len(study.with_status("missing"))
    words = f"{wording.plural(missing, 'trial')} {'is' if missing == 1 else 'are'} not trained yet."
    return Section(
        "results",
        "Results",
        Paragraph(words, "warning") if missing else None,
        BulletList(findings) if findings else None,
        Paragraph(" ".join(study.grid.source.split()), "note") if study.grid.source else None,
    )


def _numbers(study: Study) -> Section:
    """Return test accuracy for every configuration."""
    labels = wording.listed([SETTINGS[axis].label for axis in study.axes]) or "configuration"
    columns = (wording.capitalized(labels), *STATISTICS_COLUMNS, "Diverged")
    rows = [_row(each, study.axes) for each in summarize(study)]
    table = Table(columns, rows, "Test accuracy", collapsed=len(rows) > MAX_ROWS)
    return Section("numbers", "All numbers", table, Paragraph(wording.sentence(METHOD), "note"))


def _row(each: Summary, axes: Sequence[str]) -> Cells:
    diverged = [
        f"{side.diverged} {words}"
        for side, words in ((each.with_bn, "with BN"), (each.without_bn, "without"))
        if side.diverged
    ]
    spreads = each.with_bn.spread, each.without_bn.spread
    return [
        ", ".join(short_text(each.configuration[axis]) for axis in axes) or "all",
        *statistics_cells(FIGURE, *spreads, each.difference),
        ", ".join(diverged) or "none",
    ]


def _reproduce(study: Study) -> Section:
    """Return the command of the sweep, and the grid as a file that the command can read."""
    command, data = study.record.command, study.record.data
    return Section(
        "reproduce",
        "Reproduce",
        Code([command]) if command else None,
        data_note(data) if command else None,
        Paragraph("The grid as a TOML file:"),
        Code(_toml(study.record.grid)),
    )


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
