"""Runs told again: their curves in one picture, or a list of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasbn.errors import InputError
from kerasbn.runs import Run
from kerasbn.study.curves import curve_of, title_of
from kerasbn.study.plots import check_format, draw_curves, save_figure

HEADINGS = ("run", "BN", "hidden", "data", "epochs", "test accuracy", "status", "finished (UTC)")


def draw_report(chosen: Sequence[Run], path: Path) -> Path:
    """Draw the curves of all runs in one picture, each called by its name.

    Raises:
        InputError: if a run is damaged, two were trained on different digits, or the picture
            cannot be written.
    """
    check_format(path)
    check_same_data(chosen)
    titles = {title_of(run) for run in chosen}
    title = titles.pop() if len(titles) == 1 else f"{len(chosen)} runs"
    curves = [curve_of(run, f"{run.name}, {_bn(run)} BN") for run in chosen]
    return save_figure(draw_curves(curves, title, chosen[0].record["data"].get("note", "")), path)


def check_same_data(chosen: Sequence[Run]) -> None:
    """Raise `InputError` if two runs were trained on different digits; the line names both."""
    first = chosen[0]
    for run in chosen[1:]:
        if run.record["data"].get("digest") != first.record["data"].get("digest"):
            raise InputError(
                f"{first.name} and {run.name}: received a run on {first.record['data']['name']} "
                f"and one on {run.record['data']['name']}, expected runs on the same digits; "
                "their figures cannot be compared, so report them apart"
            )


def table(listed: Sequence[Run]) -> str:
    """The runs, a line each under headings, the newest last."""
    rows = [HEADINGS, *(_row(run) for run in listed)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(run: Run) -> tuple[str, ...]:
    network: dict[str, Any] = run.record["network"]
    accuracy = run.record.get("final", {}).get("val_accuracy")
    return (
        run.name,
        "yes" if network.get("bn") else "no",
        ",".join(map(str, network.get("hidden", []))),
        str(run.record["data"].get("name")),
        str(run.record.get("epochs")),
        "-" if accuracy is None else f"{accuracy:.2%}",
        run.status,
        str(run.record["finished"])[:19].replace("T", " "),
    )


def _bn(run: Run) -> str:
    return "with" if run.record["network"].get("bn") else "without"
