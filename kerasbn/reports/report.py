"""Runs and studies told again: as a page, as one picture, or as a list of what there is."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from kerasbn.errors import expected
from kerasbn.experiments import curves
from kerasbn.experiments.curves import Curve, draw_curves
from kerasbn.files import atomic_write
from kerasbn.plotting import FORMATS, save_figure
from kerasbn.reports.answer import (
    answer_of,
    found_of,
    question_of,
    run_answer,
    run_question,
    run_sections,
)
from kerasbn.reports.charts import curve_named, curves_of, curves_of_runs, plain_curves
from kerasbn.reports.deployment import deployment_of
from kerasbn.reports.document import Charts, Key, Page, Part, Section
from kerasbn.reports.explain import normalization_of
from kerasbn.reports.inside import inside_of, inside_of_runs
from kerasbn.reports.repeat import (
    name_of,
    repeat_of,
    repeat_runs,
    settings_of,
    settings_of_pairs,
    shown,
)
from kerasbn.reports.sources import (
    Pairs,
    Subject,
    Trained,
    check_same_data,
    data_of,
    find_subject,
    pairs_of,
)
from kerasbn.reports.svg import dark, variable
from kerasbn.reports.swept import swept
from kerasbn.runs import Run
from kerasbn.sweeps.plots import pictures
from kerasbn.sweeps.study import Study
from kerasbn.wording import seed_range

PAGE = ".html"
TEMPLATES = Path(__file__).parent / "templates"
HEADINGS = ("run", "BN", "hidden", "data", "epochs", "test accuracy", "status", "finished (UTC)")


def report(names: Sequence[str], path: Path) -> Path:
    """Tell of the runs and studies with these names or folders: as a page, or as a picture.

    Args:
        names: of runs and studies, or their folders.
        path: where to; .html is a page, .png, .svg and .pdf are a picture of the curves.

    Raises:
        InputError: if one is missing or damaged, two were trained on different digits, or the file
            cannot be written.
    """
    if path.suffix.lower() not in (PAGE, *FORMATS):
        formats = ", ".join((PAGE, *FORMATS))
        raise expected(path, f"'{path.suffix}' as a format", f"one of {formats}")
    subjects = [find_subject(name) for name in dict.fromkeys(names)]
    check_same_data(subjects)
    if path.suffix.lower() == PAGE:
        text = html(page_of(subjects))
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        return path
    return draw_report(subjects, path)


def draw_report(subjects: Sequence[Subject], path: Path) -> Path:
    """Draw the curves of all of them in one picture.

    Raises:
        InputError: if two were trained on different digits, or the picture cannot be written.
    """
    check_same_data(subjects)
    if any(isinstance(each, Study) for each in subjects):
        return _draw_study(subjects, path)
    drawn: list[Curve] = []
    headings = set()
    for each in subjects:
        if isinstance(each, Pairs):
            drawn += plain_curves(each)
            seeds = seed_range(each.seeds[0], each.seeds[-1])
            headings.add(_heading(each.first, seeds))
        elif isinstance(each, Trained):
            drawn.append(curve_named(each, name_of(each)))
            headings.add(_heading(each))
    title = headings.pop() if len(headings) == 1 else f"{len(drawn)} networks"
    return save_figure(draw_curves(drawn, title, data_of(subjects[0]).note), path)


def table(listed: Sequence[Run]) -> str:
    """The runs, a line each under headings, the newest last."""
    rows = [HEADINGS, *(_row(run) for run in listed)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _draw_study(subjects: Sequence[Subject], path: Path) -> Path:
    """The most telling picture of a sweep, which stands alone."""
    (first, *others) = subjects
    if others or not isinstance(first, Study):
        raise expected(
            path, "a sweep and something else to draw in one picture", "the sweep alone",
            f"a page holds them all: -o {path.with_suffix(PAGE)}",
        )  # fmt: skip
    drawn = pictures(first)
    if not drawn:
        raise expected(first.path, "a sweep of which nothing is trained", "results", "sweep on")
    return save_figure(drawn[0].figure, path)


def page_of(subjects: Sequence[Subject]) -> Page:
    """What a page says of these: runs that are the pairs of a comparison are told as one."""
    chosen = [each for each in subjects if isinstance(each, Trained)]
    compared = [each for each in subjects if isinstance(each, Pairs)]
    together = pairs_of(chosen)
    if together is not None:
        compared, chosen = [together, *compared], []
    parts = [_pairs(each, f"c{i}") for i, each in enumerate(compared)]
    if chosen:
        parts.append(_runs(chosen, "r"))
    studies = [each for each in subjects if isinstance(each, Study)]
    parts += [swept(each, f"s{i}") for i, each in enumerate(studies)]
    names = [shown(each.name) for each in subjects]
    return Page(parts[0].question, parts, names)


def html(page: Page) -> str:
    """The page as one file that needs nothing else: equal pages make equal bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    colours: set[str] = set()
    for block in (b for part in page.parts for section in part.sections for b in section.blocks):
        if isinstance(block, Charts):
            colours |= {each for chart in block.charts for each in chart.drawing.colours}
        elif isinstance(block, Key):
            colours |= {colour.lower() for _, colour in block.entries}
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")  # ours, as the script is
    text: str = environment.get_template("report.html").render(
        page=page,
        style=style,
        script=script,
        script_digest=digest,
        colours=[(variable(each), each, dark(each)) for each in sorted(colours)],
        variable=variable,
    )
    return text


def _pairs(pairs: Pairs, prefix: str) -> Part:
    """A comparison: of one pair or of many."""
    sections = [found_of(pairs)]
    if any(each.history["epoch"] for each in pairs.members):
        sections.append(curves_of(pairs, prefix))
    sections += [normalization_of(pairs.first), inside_of(pairs, prefix)]
    told = [deployment_of(pairs.members), settings_of_pairs(pairs), repeat_of(pairs)]
    return Part(question_of(pairs.first), answer_of(pairs), [*sections, *filter(None, told)])


def _runs(chosen: Sequence[Trained], prefix: str) -> Part:
    """Runs that are no comparison."""
    sections: list[Section | None] = [run_sections(chosen)]
    if any(each.history["epoch"] for each in chosen):
        sections.append(curves_of_runs(chosen, prefix))
    normalized = [each for each in chosen if each.model.bn]
    if normalized:
        sections.append(normalization_of(normalized[0]))
    sections.append(inside_of_runs(chosen, prefix))
    sections += [deployment_of(chosen), settings_of(chosen), repeat_runs(chosen)]
    return Part(run_question(chosen), run_answer(chosen), [*filter(None, sections)])


def _heading(trained: Trained, seeds: str | None = None) -> str:
    return curves.title_of(trained, seeds)


def _row(run: Run) -> tuple[str, ...]:
    model = run.record.model
    accuracy = run.record.final.get("val_accuracy")
    return (
        run.name,
        "yes" if model.bn else "no",
        ",".join(map(str, model.hidden)),
        run.record.data.name,
        str(run.record.epochs),
        "-" if accuracy is None else f"{accuracy:.2%}",
        run.status,
        str(run.record.finished)[:19].replace("T", " "),
    )
