"""Reports of runs, comparisons and studies: a page, or a figure of the learning curves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from msgspec import to_builtins

from kerasbn.common import wording
from kerasbn.common.errors import ArgumentError, expected
from kerasbn.common.files import atomic_write
from kerasbn.common.plotting import FIGURE_FORMATS, save_figure
from kerasbn.experiments import curves
from kerasbn.experiments.comparison import Comparison, comparison_of
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.reports import charts, diagram, inside, reproduce, results
from kerasbn.reports.deployment import deployment
from kerasbn.reports.document import Article, render
from kerasbn.reports.play.play import play
from kerasbn.reports.sources import Subject, check_same_data, data_of, find_subject
from kerasbn.reports.studies import study_article
from kerasbn.reports.svg import escape_label
from kerasbn.runs import Run
from kerasbn.sweeps.study import Study

PAGE = ".html"
# Bytes of a page without scripts and the played-back training; with them, it stays below 1.5 MB.
MOST_BYTES = 1_350_000
LEAST_ROOM = 300_000  # bytes for models and images, however large the rest of a page is


def report(
    *subjects: str | Path | Run | Comparison | Study,
    output: str | Path = "report.png",
    interactive: bool = True,
) -> Path:
    """Build a report from runs, comparisons or studies.

    Runs that are the pairs of one comparison are reported as that comparison.

    Args:
        *subjects: Names in saved_models, folders, or what `train`, `compare` and `sweep` returned.
        output: The file to write. An .html file is a page with results, charts, settings and the
            command that reproduces them, all in one file. A .png, .svg or .pdf file is a figure of
            the learning curves.
        interactive: Whether the page of a comparison has parts to play with: its models classify
            what the reader draws.

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
    if path.suffix.lower() not in (PAGE, *FIGURE_FORMATS):
        raise expected(
            path, f"'{path.suffix}' as a format", f"one of {', '.join((PAGE, *FIGURE_FORMATS))}"
        )
    distinct = [each for i, each in enumerate(subjects) if each not in subjects[:i]]
    found = [find_subject(each) for each in distinct]
    check_same_data(found)
    if path.suffix.lower() != PAGE:
        return save_figure(_figure(found, path), path)
    text = _page(found, interactive=interactive)
    with atomic_write(path) as temporary:
        # The name of a folder may have bytes that cannot be encoded.
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return path


def _page(subjects: Sequence[Subject], *, interactive: bool) -> str:
    """Return one article for each comparison, one for all runs, and one for each study.

    The first comparison has the interactive parts, behind its diagram.
    """
    compared, members, studies = _split(subjects)
    articles = [
        *(_comparison_article(each, f"c{i}") for i, each in enumerate(compared)),
        *([_runs_article(members, "r")] if members else []),
        *(study_article(each, f"s{i}") for i, each in enumerate(studies)),
    ]
    names = [each.name for each in subjects]
    static = render(articles, names)
    if not compared or not interactive:
        return static
    room = (MOST_BYTES - len(static.encode(errors="replace"))) * 3 // 4  # base64: four of three
    played = play(compared[0], max(room, LEAST_ROOM))
    articles[0].sections[1:1] = played.sections()
    return render(articles, names, to_builtins(played))


def _split(
    subjects: Sequence[Subject],
) -> tuple[list[Comparison], list[TrainedModel], list[Study]]:
    """Return the subjects by kind; runs that are the pairs of one comparison become it."""
    compared = [each for each in subjects if isinstance(each, Comparison)]
    members = [each for each in subjects if isinstance(each, TrainedModel)]
    if paired := comparison_of(members):
        compared, members = [paired, *compared], []
    return compared, members, [each for each in subjects if isinstance(each, Study)]


def _comparison_article(comparison: Comparison, prefix: str) -> Article:
    has_metrics = any(each.history["epoch"] for each in comparison.members)
    statistics = comparison.statistics() if len(comparison.seeds) > 1 else None
    return Article(
        f"Does batch normalization help a {results.model_title(comparison.first)}?",
        comparison.summary(),
        diagram.comparison_diagram(comparison),
        results.comparison_results(comparison),
        charts.learning_curves(comparison.curves(), prefix, statistics) if has_metrics else None,
        inside.batch_normalization(comparison.first),
        inside.inside_comparison(comparison, prefix),
        deployment(comparison.members),
        reproduce.comparison_settings(comparison),
        reproduce.reproduce(reproduce.compare_commands(comparison), comparison.members),
    )


def _runs_article(members: Sequence[TrainedModel], prefix: str) -> Article:
    has_metrics = any(each.history["epoch"] for each in members)
    with_bn = [each for each in members if each.model.bn]
    return Article(
        results.runs_question(members),
        results.runs_answer(members),
        diagram.runs_diagram(members),
        results.runs_results(members),
        charts.learning_curves(charts.member_curves(members), prefix) if has_metrics else None,
        inside.batch_normalization(with_bn[0]) if with_bn else None,
        inside.inside_runs(members, prefix),
        deployment(members),
        reproduce.runs_settings(members),
        reproduce.reproduce([reproduce.train_command(each) for each in members], members),
    )


def _figure(subjects: Sequence[Subject], path: Path) -> Figure:
    """Return the figure of a study, or the learning curves of all runs and comparisons in one."""
    compared, members, studies = _split(subjects)
    whole: list[Comparison | Study] = [*compared, *studies]
    if len(whole) == 1 and not members:
        return whole[0].figure()
    if studies:
        raise expected(
            path, "a study and other subjects for one figure", "the study alone",
            f"a page holds them all: {path.with_suffix(PAGE)}",
        )  # fmt: skip
    drawn = [
        replace(curve, label=f"{escape_label(each.name)}: {curve.label}", color="")
        for each in compared
        for curve in each.curves()
    ]
    drawn += charts.member_curves(members, colored=not compared)
    if len(drawn) == 1:
        title = members[0].title()
    else:
        counts = {"comparison": len(compared), "run": len(members)}
        what = wording.listed([wording.plural(n, noun) for noun, n in counts.items() if n])
        title = f"{what} on {curves.data_title(data_of(subjects[0]).name)}"
    return curves.draw_curves(drawn, title, data_of(subjects[0]).note)
