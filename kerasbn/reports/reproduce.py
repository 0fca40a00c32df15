"""The settings of trained models, and the commands that reproduce them."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from kerasbn.common import wording
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.curves import data_title
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.probes.readings import has_probes
from kerasbn.reports.document import Block, Code, Paragraph, Section, Table
from kerasbn.runs import MNIST_FOLDER, DataRecord, Run
from kerasbn.training.settings import (
    SETTINGS,
    SettingValue,
    command_options,
    option_text,
    short_text,
)

MAX_COLUMNS = 4  # of a table that needs no horizontal scrolling
MAX_DIFFERENCES = 3  # named in the label of a curve
FOLDER_NOTE = (
    f"--data-dir is the folder with the four MNIST files: replace {MNIST_FOLDER} by yours. To "
    "download them into the default folder, run kerasbn data fetch and leave --data-dir out."
)


def labeled(members: Sequence[TrainedModel]) -> list[tuple[str, TrainedModel]]:
    """Return each model with a label: its name, and the settings in which the models differ."""
    names = differences(members) if len(members) > 1 else ["bn"]
    found = []
    for member in members:
        own = _effective(member)
        parts = [_in_words(name, own[name]) for name in names if name in own]
        if len(parts) > MAX_DIFFERENCES:
            parts = [*parts[:MAX_DIFFERENCES], "..."]
        found.append((f"{member.name} ({', '.join(parts)})" if parts else member.name, member))
    return found


def differences(members: Sequence[TrainedModel]) -> list[str]:
    """Return the names of the settings in which models differ."""
    effective = [_effective(member) for member in members]
    different = []
    for name in SETTINGS:
        values = [own[name] for own in effective if name in own]
        by_steps = name in ("epochs", "steps") and 0 < len(values) < len(members)
        if by_steps or len(set(values)) > 1:
            different.append(name)
    return different


def probed_runs(members: Sequence[TrainedModel]) -> list[Run]:
    """Return the runs of those models that were trained with probes."""
    return [each.run for each in members if each.run is not None and has_probes(each.run)]


def train_command(member: TrainedModel, *, probe: bool = False) -> str:
    """Return the command that trains a model again, with every setting that is not a default."""
    bn = "--bn" if member.model.bn else "--no-bn"
    return _command(["train", bn], member, probe or bool(probed_runs([member])))


def compare_command(
    comparison: Comparison, seeds: int | None = None, *, probe: bool = False
) -> str:
    """Return the command that repeats a comparison, or that makes it with other `seeds`."""
    count = seeds or len(comparison.seeds)
    arguments = ["compare", *(["--seeds", str(count)] if count > 1 else [])]
    return _command(arguments, comparison.first, probe or bool(probed_runs(comparison.members)))


def compare_commands(comparison: Comparison) -> list[str]:
    """Return how to repeat a comparison: in one command, or pair by pair if it was made so."""
    if comparison.path is not None:
        return [compare_command(comparison)]
    pairs = zip(comparison.with_bn, comparison.without_bn, strict=True)
    return [compare_command(replace(comparison, with_bn=(a,), without_bn=(b,))) for a, b in pairs]


def reproduce(commands: Sequence[str], members: Sequence[TrainedModel]) -> Section:
    """Return how to train models again, and recalibrate those that were recalibrated."""
    data = members[0].data
    versions = sorted({text for each in members if (text := _rows(each).get("Versions"))})
    with_versions = f" ({'; '.join(versions)})" if versions else ""
    note = (
        f"With the same library versions{with_versions} on the same kind of machine, the numbers "
        f"are identical. SHA-256 of the dataset: {data.digest[:16]}... (kerasbn data shows yours)."
    )
    recalibrations = [block for member in members for block in _recalibration(member)]
    return Section(
        "reproduce", "Reproduce",
        Code(commands), *recalibrations, data_note(data), Paragraph(note, "note"),
    )  # fmt: skip


def comparison_settings(comparison: Comparison) -> Section:
    """Return all settings of a comparison; those of BN layers hold for the models with BN."""
    rows, others, seeds = _rows(comparison.first), _rows(comparison.without_bn[0]), comparison.seeds
    counts = rows.pop("Parameters", ""), others.get("Parameters")
    for row in ("Batch normalization", "Seed", "Finished"):
        rows.pop(row, None)
    rows["Seeds" if len(seeds) > 1 else "Seed"] = (
        f"{seeds[0]} to {seeds[-1]}"
        if len(seeds) > 2 and comparison.path is not None
        else wording.listed([str(seed) for seed in seeds])
    )
    if all(counts):
        rows["Parameters"] = f"{counts[0]} with BN, {counts[1]} without"
    if finished := max(_rows(each).get("Finished", "") for each in comparison.members):
        rows["Finished"] = finished
    return Section("settings", "Settings", Table(("Setting", "Value"), list(rows.items())))


def runs_settings(members: Sequence[TrainedModel]) -> Section:
    """Return all settings of runs: shared ones in one table, different ones in another."""
    listed = [_rows(member) for member in members]
    names = dict.fromkeys(name for rows in listed for name in rows)
    values = {name: [rows.get(name, "") for rows in listed] for name in names}
    shared = [(name, row[0]) for name, row in values.items() if len(set(row)) == 1]
    different = [
        (name, *(value or wording.MISSING for value in row))
        for name, row in values.items()
        if len(set(row)) > 1
    ]
    columns = ("Setting", *(member.name for member in members))
    tables = [
        Table(("Setting", "Value"), shared, "Shared by all runs" if different else ""),
        Table(columns, different, "Different", collapsed=len(members) > MAX_COLUMNS),
    ]
    return Section("settings", "Settings", *(table for table in tables if table.rows))


def data_note(data: DataRecord) -> Paragraph | None:
    """Return what a reader of a command has to know about its dataset."""
    if not data.options:
        return Paragraph(f"The data ({data.name}) were given from Python; no option names them.")
    return Paragraph(FOLDER_NOTE) if data.name == "mnist" else None


def _command(start: list[str], member: TrainedModel, probe: bool) -> str:
    training = member.training
    epochs = len(member.history["epoch"])
    if member.status == "interrupted" and epochs:  # as far as the metrics go
        training = replace(training, epochs=epochs, steps=None)
    # --bn, --no-bn or compare say it already.
    options = command_options(replace(member.model, bn=True), training)
    arguments = ["kerasbn", *start, *["--probe"] * probe, *options, *member.data.options]
    return shlex.join(arguments)


def _recalibration(member: TrainedModel) -> list[Block]:
    """Return how the statistics of a recalibrated run were computed."""
    recalibrated = member.run.record.recalibrated if member.run else None
    if recalibrated is None:
        return []
    variance = ["--variance", "plain"] if recalibrated.get("variance") == "plain" else []
    command = ["kerasbn", "recalibrate", str(recalibrated.get("from", "")), *variance]
    data = recalibrated.get("data", "its data")
    words = f"Then the BN statistics of {member.name} were recomputed on {data}:"
    return [Paragraph(words), Code([shlex.join(command)])]


def _effective(member: TrainedModel) -> dict[str, SettingValue]:
    """Return the settings with an effect: those of BN layers need BN, and steps override epochs."""
    training = vars(member.training)
    without_effect = {"steps" if training["steps"] is None else "epochs"}
    if not member.model.bn:
        without_effect |= {name for name in SETTINGS if name.startswith("bn_")} | {"bias_before_bn"}
    values = vars(member.model) | training
    return {name: value for name, value in values.items() if name not in without_effect}


def _in_words(name: str, value: SettingValue) -> str:
    """Return a setting and its value as in a label: ``learning rate 0.01``."""
    if name == "bn":
        return "with BN" if value else "without BN"
    label = SETTINGS[name].label
    if isinstance(value, bool):
        return label if value else f"no {label}"
    return f"{label} {short_text(value)}"


def _rows(member: TrainedModel) -> dict[str, str]:
    """Return every setting of a model and its training as a row of the table."""
    rows = {}
    for name, value in _effective(member).items():
        label = wording.capitalized(SETTINGS[name].label)
        text = option_text(value).replace(",", ", ")
        rows[label] = {"true": "yes", "false": "no"}.get(text, text)
    data = member.data
    title = data_title(data.name)
    rows["Dataset"] = f"{title}: {data.train:,} training images, {data.test:,} test images"
    rows["Device"] = member.device
    if member.run is not None:
        record = member.run.record
        rows["Parameters"] = f"{record.parameters:,}"
        rows["Versions"] = ", ".join(f"{key} {value}" for key, value in record.versions.items())
        finished = record.finished[:16].replace("T", " ")
        rows["Finished"] = f"{finished} UTC, after {record.seconds:.0f} s"
    return {name: value for name, value in rows.items() if value}
