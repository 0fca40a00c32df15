"""`kerasbn report`."""

from pathlib import Path

import click


@click.command()
@click.argument("run", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.png",
    show_default=True,
    metavar="FILE",
    help="The picture to draw: .png, .svg or .pdf.",
)
def command(run: tuple[str, ...], output: Path) -> None:
    """Draw the curves of runs in one picture; without a RUN, list the runs there are.

    A RUN is a name in saved_models or the folder of a run.

    \b
    Example:
      kerasbn report
      kerasbn report bn plain -o both.svg
    """
    from kerasbn.runs import find_run, survey
    from kerasbn.study.report import draw_report, table

    if not run:
        listed, problems = survey()
        click.echo(table(listed) if listed else "no runs yet; train one: kerasbn train --bn")
        for problem in problems:
            click.echo(str(problem), err=True)
        return
    click.echo(draw_report([find_run(name) for name in run], output))
