"""`kerasbn report`."""

from pathlib import Path

import click


@click.command()
@click.argument("subject", nargs=-1, metavar="[RUN|STUDY]...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.png",
    show_default=True,
    metavar="FILE",
    help="A page to show around, .html, or a picture of the curves: .png, .svg or .pdf.",
)
def command(subject: tuple[str, ...], output: Path) -> None:
    """Tell of runs and studies as a page or a picture; without any, list what there is.

    A RUN or STUDY is a name in saved_models or a folder: of a run, of a comparison (one pair or
    many seeds), or of a sweep. The page is one file that needs nothing else: the question, what was
    found and how sure it is, the curves with their values, what became of the normalizations, all
    settings, and the command that does it again.

    \b
    Example:
      kerasbn report
      kerasbn report compare -o report.html
      kerasbn report bn plain -o both.svg
    """
    from kerasbn.reports.report import report, table
    from kerasbn.reports.sources import list_studies
    from kerasbn.runs import survey

    if not subject:
        listed, problems = survey()
        click.echo(table(listed) if listed else "no runs yet; train one: kerasbn train --bn")
        if studies := list_studies():
            click.echo(f"studies: {', '.join(studies)}")
        for problem in problems:
            click.echo(str(problem), err=True)
        return
    click.echo(report(subject, output))
