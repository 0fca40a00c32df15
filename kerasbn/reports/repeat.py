"""All settings of what was trained, and the command lines that train it again."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from kerasbn.probes.readings import has_probes
from kerasbn.reports.document import NOTHING, Block, Cell, Command, Section, Table, Words
from kerasbn.reports.sources import Data, Pairs, Trained
from kerasbn.training.settings import ModelSettings, TrainingSettings

MOST_COLUMNS = 4  # of a table that is to be read without scrolling sideways


def name_of(trained: Trained) -> str:
    """A run's name as a page shows it, with or without normalization."""
    return f"{shown(trained.name)}, {'with' if trained.model.bn else 'without'} BN"


def shown(name: str) -> str:
    """A name from the disk, whatever its bytes, as text that can be written."""
    return name.encode("utf-8", "replace").decode()


def train_line(trained: Trained, *, probe: bool = False) -> str:
    """The command that trains this network again; it says what differs from the defaults."""
    bn = "--bn" if trained.model.bn else "--no-bn"
    probed = ["--probe"] * (probe or _probed(trained))
    return _line(["kerasbn", "train", bn, *probed], trained, {"bn"})


def compare_line(pairs: Pairs, seeds: int | None = None, *, probe: bool = False) -> str:
    """The command that makes this comparison again, or the same with another number of seeds."""
    count = seeds or len(pairs.seeds)
    many = ["--seeds", str(count)] if count > 1 else []
    probed = ["--probe"] * (probe or any(map(_probed, pairs.members)))
    return _line(["kerasbn", "compare", *many, *probed], pairs.first, {"bn"})


def repeat_of(pairs: Pairs) -> Section:
    """How to make a comparison again: at once as it was made, or pair by pair if it was."""
    apart = [
        replace(pairs, with_bn=(one,), without_bn=(other,))
        for one, other in zip(pairs.with_bn, pairs.without_bn, strict=True)
    ]
    made = apart if pairs.path is None else [pairs]
    lines = [compare_line(each) for each in made]
    return Section("again", "Do it again", [Command(lines), _equal(pairs.members)])


def repeat_runs(chosen: Sequence[Trained]) -> Section:
    """How to train runs again."""
    blocks: list[Block] = [Command([train_line(each) for each in chosen])]
    for each in chosen:
        blocks += _recalibrated(each)
    return Section("again", "Do it again", [*blocks, _equal(chosen)])


def settings_of_pairs(pairs: Pairs) -> Section:
    """Every setting of a comparison: what is said of normalization holds for those that have it."""
    own = {"Batch normalization", "Seed", "Weights", "Finished"}
    rows = {key: row(pairs.first) for key, row in _ROWS.items() if key not in own}
    rows["Seeds" if len(pairs.seeds) > 1 else "Seed"] = _seeds(pairs.seeds)
    weights = [_parameters(each[0]) for each in (pairs.with_bn, pairs.without_bn)]
    if all(weights):
        rows["Weights"] = f"{weights[0]} with BN, {weights[1]} without"
    rows["Finished"] = max(map(_times, pairs.members))
    cells = [(Cell(key), Cell(value)) for key, value in rows.items() if value]
    return Section("settings", "All settings", [Table(("Setting", "Value"), cells)])


def settings_of(chosen: Sequence[Trained]) -> Section:
    """Every setting of runs: what all share in one table, what differs in another."""
    rows = {key: [row(each) for each in chosen] for key, row in _ROWS.items()}
    rows = {key: values for key, values in rows.items() if any(values)}
    shared = {key: values[0] for key, values in rows.items() if len(set(values)) == 1}
    blocks: list[Block] = []
    differing = {key: values for key, values in rows.items() if key not in shared}
    if shared:
        cells = [(Cell(key), Cell(value)) for key, value in shared.items()]
        title = "The same for all" if differing else ""
        blocks.append(Table(("Setting", "Value"), cells, title))
    if differing:
        columns = ("Setting", *map(name_of, chosen))
        table = [
            (Cell(key), *(Cell(value or NOTHING) for value in values))
            for key, values in differing.items()
        ]
        blocks.append(Table(columns, table, "What differs", closed=len(chosen) > MOST_COLUMNS))
    return Section("settings", "All settings", blocks)


def _line(start: list[str], trained: Trained, without: set[str]) -> str:
    training = _as_far_as_it_came(trained)
    parts = [*start, *_options(trained.model, without), *_options(training, set())]
    if training.steps is not None and "--epochs" in parts:  # steps override epochs
        place = parts.index("--epochs")
        del parts[place : place + 2]
    return shlex.join([*parts, "--dataset", trained.data.name])


def _as_far_as_it_came(trained: Trained) -> TrainingSettings:
    """The settings that give the figures there are: of an interrupted run, its whole epochs."""
    epochs = len(trained.history["epoch"])
    if trained.status != "interrupted" or not epochs:
        return trained.training
    return replace(trained.training, epochs=epochs, steps=None)


def _probed(trained: Trained) -> bool:
    return trained.run is not None and has_probes(trained.run)


def _options(settings: ModelSettings | TrainingSettings, without: set[str]) -> list[str]:
    """The options of the command line, which are named as the fields, that are not at default."""
    options = []
    for each in fields(settings):
        value = getattr(settings, each.name)
        if each.name in without or value == each.default:
            continue
        options.append(f"--{each.name.replace('_', '-')}")
        if value is not True:
            options.append(_argument(value))
    return options


def _argument(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _equal(chosen: Sequence[Trained]) -> Words:
    """What to expect of a repetition."""
    data = chosen[0].data
    versions = sorted({text for each in chosen if (text := _versions(each))})
    made = f" They were made with {'; '.join(versions)}." if versions else ""
    return Words(
        f"In the same versions, on the same kind of machine, the same figures come out. The digits "
        f"are those with the SHA-256 sum {data.digest[:16]}… (kerasbn data shows yours).{made}",
        "note",
    )


def _recalibrated(trained: Trained) -> list[Block]:
    """How the statistics of a recalibrated run were made."""
    said = trained.run.record.recalibrated if trained.run else None
    if not isinstance(said, Mapping):
        return []
    variance = [] if said.get("variance") != "plain" else ["--variance", "plain"]
    source = str(said.get("from", ""))
    return [
        Words(
            f"{shown(trained.name)}: then its moving statistics were replaced by those of "
            f"{said.get('data')}:"
        ),
        Command([shlex.join(["kerasbn", "recalibrate", shown(source), *variance])]),
    ]


def _versions(trained: Trained) -> str:
    versions = trained.run.record.versions if trained.run else None
    if not isinstance(versions, Mapping):
        return ""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _parameters(trained: Trained) -> str:
    count = trained.run.record.parameters if trained.run else None
    return f"{count:,}" if isinstance(count, int) else ""


def _times(trained: Trained) -> str:
    record = trained.run.record if trained.run else None
    if record is None:
        return ""
    return f"{record.finished[:16].replace('T', ' ')} UTC, after {record.seconds:.0f} s"


def _digits(data: Data) -> str:
    return f"{data.train:,} to train on, {data.test:,} to test on, of {data.name}"


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _epochs(training: TrainingSettings) -> str:
    return f"{training.steps} steps" if training.steps is not None else str(training.epochs)


def _bn(field: Callable[[ModelSettings], Any]) -> Callable[[Trained], str]:
    """A setting that says nothing of a network without normalization."""
    return lambda trained: str(field(trained.model)) if trained.model.bn else ""


_ROWS: Mapping[str, Callable[[Trained], str]] = {
    "Hidden layers": lambda t: ", ".join(map(str, t.model.hidden)),
    "Activation": lambda t: t.model.activation,
    "Batch normalization": lambda t: "yes" if t.model.bn else "no",
    "Normalized": _bn(lambda n: f"{n.bn_position} the activation"),
    "Momentum of the moving statistics": _bn(lambda n: n.bn_momentum),
    "Epsilon": _bn(lambda n: n.bn_epsilon),
    "Bias before normalization": _bn(lambda n: "yes" if n.bias_before_bn else "no"),
    "Initial kernels": lambda t: t.model.init,
    "Optimizer": lambda t: t.training.optimizer,
    "Learning rate": lambda t: f"{t.training.lr:g}",
    "Batch size": lambda t: str(t.training.batch_size),
    "Epochs": lambda t: _epochs(t.training),
    "Seed": lambda t: str(t.training.seed),
    "Dataset": lambda t: _digits(t.data),
    "Weights": _parameters,
    "Device": lambda t: t.device,
    "Versions": _versions,
    "Finished": _times,
}
