"""The settings of trained models, and the commands that reproduce them."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from kerasbn.common import wording
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.curves import data_title
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.probes.readings import has_probes
from kerasbn.reports.document import Block, Cell, Code, Paragraph, Section, Table
from kerasbn.runs import MNIST_FOLDER, DataRecord
from kerasbn.training.settings import (
    MODEL_SETTINGS,
    SETTINGS,
    TRAINING_SETTINGS,
    Value,
    command_options,
    option_text,
    short_text,
)

MAX_COLUMNS = 4  # of a table that needs no horizontal scrolling
MAX_DIFFERENCES = 3  # named in the label of a curve


def printable(name: str) -> str:
    """Return a file name as text that can be encoded, whatever its bytes."""
    return name.encode("utf-8", "replace").decode()


def labels_of(members: Sequence[TrainedModel]) -> list[str]:
    """Return a label for each model: its name, and the settings in which the models differ."""
    names = _different_settings(members) if len(members) > 1 else ["bn"]
    labels = []
    for member in members:
        parts = [_in_words(name, _value(member, name)) for name in names if _applies(member, name)]
        if len(parts) > MAX_DIFFERENCES:
            parts = [*parts[:MAX_DIFFERENCES], "..."]
        label = printable(member.name)
        labels.append(f"{label} ({', '.join(parts)})" if parts else label)
    return labels


def differences(members: Sequence[TrainedModel]) -> list[str]:
    """Return the labels of the settings in which models differ."""
    return [SETTINGS[name].label for name in _different_settings(members)]


def reproduce_command(member: TrainedModel, *, probe: bool = False) -> str:
    """Return the command that trains a model again, with every setting that is not a default."""
    bn = "--bn" if member.model.bn else "--no-bn"
    return _command(["train", bn], member, probe or _is_probed(member))


def compare_command(
    comparison: Comparison, seeds: int | None = None, *, probe: bool = False
) -> str:
    """Return the command that repeats a comparison, or that makes it with other `seeds`."""
    count = seeds or len(comparison.seeds)
    arguments = ["compare", *(["--seeds", str(count)] if count > 1 else [])]
    return _command(arguments, comparison.first, probe or any(map(_is_probed, comparison.members)))


def reproduce_comparison(comparison: Comparison) -> Section:
    """Return how to repeat a comparison: in one command, or pair by pair if it was made so."""
    made = [comparison]
    if comparison.path is None:
        pairs = zip(comparison.with_bn, comparison.without_bn, strict=True)
        made = [replace(comparison, with_bn=(a,), without_bn=(b,)) for a, b in pairs]
    return _reproduce([compare_command(each) for each in made], comparison.members, [])


def reproduce_runs(members: Sequence[TrainedModel]) -> Section:
    """Return how to train runs again, and recalibrate those that were recalibrated."""
    steps = [block for member in members for block in _recalibration(member)]
    return _reproduce([reproduce_command(member) for member in members], members, steps)


def comparison_settings(comparison: Comparison) -> Section:
    """Return all settings of a comparison; those of BN layers hold for the models with BN."""
    rows = _rows(comparison.first)
    for row in ("Batch normalization", "Seed", "Parameters", "Finished"):
        rows.pop(row, None)
    seeds = wording.listed([str(seed) for seed in comparison.seeds])
    if len(comparison.seeds) > 2 and comparison.path is not None:
        seeds = f"{comparison.seeds[0]} to {comparison.seeds[-1]}"
    rows["Seeds" if len(comparison.seeds) > 1 else "Seed"] = seeds
    counts = [
        _rows(pair[0]).get("Parameters") for pair in (comparison.with_bn, comparison.without_bn)
    ]
    if all(counts):
        rows["Parameters"] = f"{counts[0]} with BN, {counts[1]} without"
    if finished := [_rows(each).get("Finished", "") for each in comparison.members]:
        rows["Finished"] = max(finished)
    cells = [(Cell(name), Cell(value)) for name, value in rows.items() if value]
    return Section("settings", "Settings", [Table(("Setting", "Value"), cells)])


def runs_settings(members: Sequence[TrainedModel]) -> Section:
    """Return all settings of runs: shared ones in one table, different ones in another."""
    listed = [_rows(member) for member in members]
    names = dict.fromkeys(name for rows in listed for name in rows)
    values = {name: [rows.get(name, "") for rows in listed] for name in names}
    different = {name: row for name, row in values.items() if len(set(row)) > 1}
    shared = [(Cell(name), Cell(row[0])) for name, row in values.items() if name not in different]
    blocks: list[Block] = []
    if shared:
        title = "Shared by all runs" if different else ""
        blocks.append(Table(("Setting", "Value"), shared, title))
    if different:
        columns = ("Setting", *(printable(member.name) for member in members))
        cells = [
            (Cell(name), *(Cell(value or wording.MISSING) for value in row))
            for name, row in different.items()
        ]
        collapsed = len(members) > MAX_COLUMNS
        blocks.append(Table(columns, cells, "Different", collapsed=collapsed))
    return Section("settings", "Settings", blocks)


def _command(start: list[str], member: TrainedModel, probe: bool) -> str:
    training = member.training
    epochs = len(member.history["epoch"])
    if member.status == "interrupted" and epochs:  # as far as the metrics go
        training = replace(training, epochs=epochs, steps=None)
    arguments = ["kerasbn", *start, *(["--probe"] if probe else [])]
    # --bn, --no-bn or compare say it already.
    arguments += command_options(replace(member.model, bn=True), training)
    return shlex.join([*arguments, *member.data.options])


def data_folder_note(data: DataRecord) -> list[Block]:
    """Return what to do about the folder in a command."""
    note = (
        f"--data-dir is the folder with the four MNIST files: replace {MNIST_FOLDER} by yours. To "
        "download them into the default folder, run kerasbn data fetch and leave --data-dir out."
    )
    return [Paragraph(note)] if data.name == "mnist" else []


def _reproduce(
    commands: Sequence[str], members: Sequence[TrainedModel], more: Sequence[Block]
) -> Section:
    data = members[0].data
    blocks: list[Block] = [Code(commands), *more, *data_folder_note(data)]
    versions = sorted({text for each in members if (text := _rows(each).get("Versions"))})
    with_versions = f" ({'; '.join(versions)})" if versions else ""
    blocks.append(
        Paragraph(
            f"With the same library versions{with_versions} on the same kind of machine, the "
            f"numbers are identical. SHA-256 of the dataset: {data.digest[:16]}... (kerasbn data "
            "shows yours).",
            "note",
        )
    )
    return Section("reproduce", "Reproduce", blocks)


def _recalibration(member: TrainedModel) -> list[Block]:
    """Return how the statistics of a recalibrated run were computed."""
    recalibrated = member.run.record.recalibrated if member.run else None
    if recalibrated is None:
        return []
    variance = ["--variance", "plain"] if recalibrated.get("variance") == "plain" else []
    source = printable(str(recalibrated.get("from", "")))
    data = recalibrated.get("data", "its data")
    return [
        Paragraph(f"Then the BN statistics of {printable(member.name)} were recomputed on {data}:"),
        Code([shlex.join(["kerasbn", "recalibrate", source, *variance])]),
    ]


def _is_probed(member: TrainedModel) -> bool:
    return member.run is not None and has_probes(member.run)


def _different_settings(members: Sequence[TrainedModel]) -> list[str]:
    different = []
    for name in SETTINGS:
        values = [_value(each, name) for each in members if _applies(each, name)]
        by_steps = name in ("epochs", "steps") and 0 < len(values) < len(members)
        if by_steps or len(set(values)) > 1:
            different.append(name)
    return different


def _value(member: TrainedModel, name: str) -> Value:
    value: Value = getattr(member.model if name in MODEL_SETTINGS else member.training, name)
    return value


def _applies(member: TrainedModel, name: str) -> bool:
    """Return whether a setting has an effect: BN settings need BN, and steps override epochs."""
    if name.startswith("bn_") or name == "bias_before_bn":
        return member.model.bn
    has_steps = member.training.steps is not None
    return has_steps if name == "steps" else not (name == "epochs" and has_steps)


def _in_words(name: str, value: Value) -> str:
    """Return a setting and its value as in a label: ``learning rate 0.01``."""
    if name == "bn":
        return "with BN" if value else "without BN"
    if isinstance(value, bool):
        return SETTINGS[name].label if value else f"no {SETTINGS[name].label}"
    return f"{SETTINGS[name].label} {short_text(value)}"


def _rows(member: TrainedModel) -> dict[str, str]:
    """Return every setting of a model and its training as a row of the table."""
    rows = {
        _capital(SETTINGS[name].label): _cell_text(_value(member, name))
        for name in (*MODEL_SETTINGS, *TRAINING_SETTINGS)
        if _applies(member, name)
    }
    data = member.data
    name = data_title(data.name)
    rows["Dataset"] = f"{name}: {data.train:,} training images, {data.test:,} test images"
    rows["Device"] = member.device
    if member.run is not None:
        record = member.run.record
        rows["Parameters"] = f"{record.parameters:,}"
        rows["Versions"] = ", ".join(f"{key} {value}" for key, value in record.versions.items())
        finished = record.finished[:16].replace("T", " ")
        rows["Finished"] = f"{finished} UTC, after {record.seconds:.0f} s"
    return {name: value for name, value in rows.items() if value}


def _cell_text(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return option_text(value).replace(",", ", ")


def _capital(label: str) -> str:
    return label[:1].upper() + label[1:]
