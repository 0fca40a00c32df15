"""Reports of runs, comparisons and studies: a page, or a figure of the learning curves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from kerasbn.common.errors import ArgumentError, expected
from kerasbn.common.files import atomic_write
from kerasbn.common.plotting import FORMATS, save_figure
from kerasbn.common.wording import listed, plural
from kerasbn.experiments import curves
from kerasbn.experiments.comparison import Comparison, comparison_of
from kerasbn.experiments.curves import draw_curves
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports.charts import comparison_charts, member_curves, run_charts
from kerasbn.reports.deployment import deployment
from kerasbn.reports.document import Article, Page, Section, render
from kerasbn.reports.inside import batch_normalization, inside_comparison, inside_runs
from kerasbn.reports.reproduce import (
    comparison_settings,
    printable,
    reproduce_comparison,
    reproduce_runs,
    runs_settings,
)
from kerasbn.reports.results import (
    comparison_question,
    comparison_results,
    runs_answer,
    runs_question,
    runs_results,
)
from kerasbn.reports.sources import Subject, check_same_data, data_of, find_subject
from kerasbn.reports.studies import study_article
from kerasbn.reports.svg import escape_label
from kerasbn.runs import Run
from kerasbn.sweeps.charts import draw_charts
from kerasbn.sweeps.study import Study

PAGE = ".html"


def report(
    *subjects: str | Path | Run | Comparison | Study, output: str | Path = "report.png"
) -> Path:
    """Build a report from runs, comparisons or studies.

    Runs that are the pairs of one comparison are reported as that comparison.

    Args:
        *subjects: Names in saved_models, folders, or what `train`, `compare` and `sweep` returned.
        output: The file to write. An .html file is a page with results, charts, settings and the
            command that reproduces them, all in one file. A .png, .svg or .pdf file is a figure of
            the learning curves.

    Returns:
        The path of the file.

    Raises:
        InputError: If a subject does not exist or is damaged, two were trained on different data,
            or the file cannot be written.

    Examples:
        >>> import kerasbn
        >>> data = kerasbn.load_dataset("mnist-sample")
        >>> result = kerasbn.compare(data, epochs=1)
        >>> kerasbn.report(result, output="report.html")
        PosixPath('report.html')
    """
    if not subjects:
        raise ArgumentError("subjects", (), "at least one run, comparison or study")
    if not isinstance(output, str | Path):
        raise ArgumentError("output", output, "the path of a file")
    path = Path(output)
    if path.suffix.lower() not in (PAGE, *FORMATS):
        raise expected(
            path, f"'{path.suffix}' as a format", f"one of {', '.join((PAGE, *FORMATS))}"
        )
    found: list[Subject] = []
    for each in subjects:
        if each not in subjects[: len(found)]:
            found.append(find_subject(each))
    check_same_data(found)
    if path.suffix.lower() == PAGE:
        text = render(build_page(found))
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        return path
    return save_figure(_study_figure(found, path) or _curves_figure(found), path)


def build_page(subjects: Sequence[Subject]) -> Page:
    """Return the page about subjects: one article per comparison and study, one for all runs."""
    compared, members = _split(subjects)
    articles = [_comparison_article(each, f"c{i}") for i, each in enumerate(compared)]
    if members:
        articles.append(_runs_article(members, "r"))
    studies = [each for each in subjects if isinstance(each, Study)]
    articles += [study_article(each, f"s{i}") for i, each in enumerate(studies)]
    names = [printable(each.name) for each in subjects]
    return Page(articles[0].question, articles, names)


def _split(subjects: Sequence[Subject]) -> tuple[list[Comparison], list[TrainedModel]]:
    """Return the comparisons and the runs; runs that are the pairs of one comparison become it."""
    members = [each for each in subjects if isinstance(each, TrainedModel)]
    compared = [each for each in subjects if isinstance(each, Comparison)]
    paired = comparison_of(members)
    return ([paired, *compared], []) if paired else (compared, members)


def _comparison_article(comparison: Comparison, prefix: str) -> Article:
    has_metrics = any(each.history["epoch"] for each in comparison.members)
    sections = [
        comparison_results(comparison),
        comparison_charts(comparison, prefix) if has_metrics else None,
        batch_normalization(comparison.first, paired=True),
        inside_comparison(comparison, prefix),
        deployment(comparison.members),
        comparison_settings(comparison),
        reproduce_comparison(comparison),
    ]
    question = comparison_question(comparison)
    return Article(question, comparison.summary(), [*filter(None, sections)])


def _runs_article(members: Sequence[TrainedModel], prefix: str) -> Article:
    with_bn = [each for each in members if each.model.bn]
    sections: list[Section | None] = [
        runs_results(members),
        run_charts(members, prefix) if any(each.history["epoch"] for each in members) else None,
        batch_normalization(with_bn[0]) if with_bn else None,
        inside_runs(members, prefix),
        deployment(members),
        runs_settings(members),
        reproduce_runs(members),
    ]
    return Article(runs_question(members), runs_answer(members), [*filter(None, sections)])


def _study_figure(subjects: Sequence[Subject], path: Path) -> Figure | None:
    """Return the first figure of a study, which cannot share it with other subjects."""
    study = next((each for each in subjects if isinstance(each, Study)), None)
    if study is None:
        return None
    if len(subjects) > 1:
        raise expected(
            path, "a study and other subjects for one figure", "the study alone",
            f"a page holds them all: {path.with_suffix(PAGE)}",
        )  # fmt: skip
    drawn = draw_charts(study)
    if not drawn:
        raise expected(study.path, "a study without results", "a trained one", "run the sweep")
    return drawn[0].figure


def _curves_figure(subjects: Sequence[Subject]) -> Figure:
    """Draw the learning curves of runs and comparisons in one figure."""
    compared, members = _split(subjects)
    if len(compared) == 1 and not members:
        return compared[0].figure()
    drawn = [
        replace(curve, label=f"{escape_label(printable(each.name))}: {curve.label}", color="")
        for each in compared
        for curve in each.curves()
    ]
    drawn += member_curves(members, colored=not compared)
    data = data_of(subjects[0])
    counts = {"comparison": len(compared), "run": len(members)}
    subjects_text = listed([plural(count, noun) for noun, count in counts.items() if count])
    title = f"{subjects_text} on {curves.data_title(data.name)}"
    if len(drawn) == 1:
        title = members[0].title()
    return draw_curves(drawn, title, data.note)
