"""A grid: what a sweep trains, as data.

A file of it is TOML, and every part may be left out:

    question = "Which learning rates work, with and without?"
    source = "where the question comes from"
    seeds = 3                        # how many of each, from the option seed on

    [options]                        # what all share, named as the options of `kerasbn train`
    epochs = 5
    bn = true                        # left out, every network is trained with and without

    [axes]                           # what differs: every combination is trained
    lr = [0.001, 0.01, 0.1]
    hidden = ["32,32", "64,64"]

With `sample = 40` there are 40 random combinations in place of all, drawn from `sample_seed`, and
an axis may also be a range: `lr = { log = [1e-4, 1] }` or `bn_momentum = { linear = [0.5, 0.99] }`.
"""

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from kerasbn.errors import expected
from kerasbn.training.settings import (
    MAX_SEEDS,
    SETTINGS,
    ModelSettings,
    TrainingSettings,
)

Value = bool | int | float | str | tuple[int, ...]

NETWORK = tuple(ModelSettings.__dataclass_fields__)
TRAINING = tuple(TrainingSettings.__dataclass_fields__)
KINDS: dict[str, Any] = get_type_hints(ModelSettings) | get_type_hints(TrainingSettings)
KEYS = ("question", "source", "seeds", "sample", "sample_seed", "options", "axes")
LARGEST = 1_000_000  # networks of one sweep: the list of them still fits into memory
WITHOUT_ASKING = 1000  # networks that are trained without `--yes`


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, drawn evenly, or evenly on a logarithmic scale."""

    low: float
    high: float
    log: bool

    def at(self, share: float) -> float:
        """The number at `share`, 0 to 1, of the way from `low` to `high`."""
        if self.log:
            return math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class Grid:
    """What a sweep trains.

    Attributes:
        name: what its study is called where no other name is given.
        question: what the sweep is to answer.
        source: where the question or its settings come from.
        options: what all networks share, by the names of the settings' fields.
        axes: what differs: the values of each option, or a range of them.
        kinds: whether with normalization, without, or both.
        seeds: how many of each configuration.
        sample: how many random combinations; None for all.
        sample_seed: what these depend on.
    """

    name: str
    question: str
    source: str
    options: Mapping[str, Value]
    axes: Mapping[str, tuple[Value, ...] | Range]
    kinds: tuple[bool, ...]
    seeds: int
    sample: int | None
    sample_seed: int

    @property
    def combinations(self) -> int:
        """How many combinations of the axes' values there are."""
        if self.sample is not None:
            return self.sample
        return math.prod(len(axis) for axis in self.axes.values() if not isinstance(axis, Range))

    @property
    def size(self) -> int:
        """How many networks are trained."""
        return self.combinations * len(self.kinds) * self.seeds

    def record(self) -> dict[str, Any]:
        """The same as `parse` takes it, made of what JSON and TOML hold."""
        options = dict(self.options)
        if len(self.kinds) == 1:
            options["bn"] = self.kinds[0]
        record: dict[str, Any] = {
            "question": self.question,
            "source": self.source,
            "seeds": self.seeds,
            "options": {key: _plain(value) for key, value in options.items()},
            "axes": {key: _plain(axis) for key, axis in self.axes.items()},
        }
        if self.sample is not None:
            record |= {"sample": self.sample, "sample_seed": self.sample_seed}
        return record


def recipes() -> dict[str, str]:
    """The grids that come with the package: their text by name."""
    folder = files("kerasbn.sweeps") / "recipes"
    texts = {each.name: each.read_text(encoding="utf-8") for each in folder.iterdir()}
    return {name.removesuffix(".toml"): texts[name] for name in sorted(texts) if ".toml" in name}


def load(name: str, changes: Mapping[str, Any] | None = None) -> Grid:
    """The grid that `name` says, a file or a recipe, after some changes.

    Args:
        name: the path of a TOML file, or the name of one of `recipes`.
        changes: as `parse` takes them.

    Raises:
        InputError: if there is none, or it is no grid.
    """
    known = recipes()
    if name in known and not Path(name).is_file():
        text, own = known[name], name
    else:
        text, own = _read(Path(name), known), Path(name).stem
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise expected(name, f"text that is not TOML ({error})", "a grid") from error
    return parse(raw, own, name, changes)


def parse(
    raw: Mapping[str, Any], name: str, subject: str, changes: Mapping[str, Any] | None = None
) -> Grid:
    """The grid that a TOML file holds.

    Args:
        raw: its content.
        name: what the grid is called.
        subject: what an error's line begins with.
        changes: options that are to be as given here, whatever `raw` says of them, with a list of
            values where they are to be an axis; and `seeds`, `sample` or `sample_seed`.

    Raises:
        InputError: if a key or value is none of a grid, or the grid is empty.
    """
    _check_keys(subject, raw, KEYS, "")
    tables = {key: raw.get(key, {}) for key in ("options", "axes")}
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise expected(f"{subject}: {key}", repr(table), f"a table: [{key}]")
        _check_keys(subject, table, KINDS, f" in [{key}]")
    options = {_field(key): value for key, value in tables["options"].items()}
    axes = {_field(key): value for key, value in tables["axes"].items()}
    numbers = {key: raw[key] for key in ("seeds", "sample", "sample_seed") if key in raw}
    for key, value in (changes or {}).items():
        if key in ("seeds", "sample", "sample_seed"):
            numbers[key] = value
            continue
        _check_keys(subject, {key: value}, KINDS, "")
        options.pop(_field(key), None)
        axes.pop(_field(key), None)
        (axes if isinstance(value, list) else options)[_field(key)] = value
        # Steps override epochs, so of the two only what was asked for last may stay.
        for other in {"epochs": ["steps"], "steps": ["epochs"]}.get(_field(key), []):
            options.pop(other, None)
            axes.pop(other, None)
    return _grid(raw, name, subject, options, axes, numbers)


def _grid(
    raw: Mapping[str, Any],
    name: str,
    subject: str,
    options: dict[str, Any],
    axes: dict[str, Any],
    numbers: Mapping[str, Any],
) -> Grid:
    if not options and not axes and not numbers:
        raise expected(subject, "an empty grid", "[options] or [axes] with at least one entry")
    both = sorted(options.keys() & axes.keys())
    if both:
        raise expected(f"{subject}: {both[0]}", "it in [options] and in [axes]", "one of the two")
    if "seed" in axes:
        raise expected(f"{subject}: seed", "it in [axes]", "seeds = N, which counts from seed on")
    sample = numbers.get("sample")
    if sample is not None:
        _check_count(f"{subject}: sample", sample, LARGEST)
        if not axes:
            raise expected(f"{subject}: sample", "a sample of no axes", "[axes] to draw from")
    kinds = _kinds(subject, options.pop("bn", None), axes.pop("bn", None))
    seeds = numbers.get("seeds", 1)
    _check_count(f"{subject}: seeds", seeds, MAX_SEEDS)
    sample_seed = numbers.get("sample_seed", 0)
    if type(sample_seed) is not int:
        raise expected(f"{subject}: sample_seed", repr(sample_seed), "a whole number")
    texts = {key: raw.get(key, "") for key in ("question", "source")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise expected(f"{subject}: {key}", repr(text), "text in quotation marks")
    return Grid(
        name=name,
        question=texts["question"].strip(),
        source=texts["source"].strip(),
        options={key: value_of(subject, key, value) for key, value in options.items()},
        axes={key: _axis(subject, key, axis, sample) for key, axis in axes.items()},
        kinds=kinds,
        seeds=seeds,
        sample=sample,
        sample_seed=sample_seed,
    )


def value_of(subject: str, key: str, raw: object) -> Value:
    """The value of the option `key`, of the type its field has.

    Raises:
        InputError: if it is of another type.
    """
    kind = KINDS[key]
    if kind is bool and isinstance(raw, bool):
        return raw
    if kind is str and isinstance(raw, str):
        return raw
    if kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if kind in (int, int | None) and type(raw) is int:
        return raw
    if kind == tuple[int, ...]:
        if isinstance(raw, list) and raw and all(type(size) is int for size in raw):
            return tuple(raw)
        if isinstance(raw, str):
            return SETTINGS["hidden"].parse(raw)  # type: ignore[return-value]
    words = {bool: "true or false", str: "text in quotation marks", float: "a number"}
    sizes = 'sizes of layers, such as "32,32"' if kind == tuple[int, ...] else "a whole number"
    raise expected(f"{subject}: {key}", repr(raw), words.get(kind, sizes))


def values_of_text(key: str, text: str) -> Any:  # noqa: ANN401 - what TOML would hold
    """What ``--set KEY=TEXT`` says: a value, or a list of those that blanks separate.

    Raises:
        InputError: if `key` is no option.
    """
    subject = f"--set {key}={text}"
    _check_keys(subject, {key: text}, KINDS, "")
    values = [_typed(KINDS[_field(key)], part) for part in text.split()]
    if not values:
        raise expected(subject, "no value", "one, or several with blanks between")
    return values[0] if len(values) == 1 else values


def _typed(kind: object, text: str) -> object:
    """The text as a value of that type, or as it is, which `value_of` then refuses."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in (float, int, int | None):
        try:
            return float(text) if kind is float else int(text)
        except ValueError:
            return text
    return text


def _axis(subject: str, key: str, raw: object, sample: int | None) -> tuple[Value, ...] | Range:
    if isinstance(raw, dict):
        return _range(subject, key, raw, sample)
    if not isinstance(raw, list):
        raise expected(f"{subject}: {key}", repr(raw), "a list of values in [axes]")
    if not raw:
        raise expected(f"{subject}: {key}", "an empty list", "at least one value")
    values = tuple(value_of(subject, key, value) for value in raw)
    if len(set(values)) < len(values):
        twice = next(value for i, value in enumerate(values) if value in values[:i])
        raise expected(f"{subject}: {key}", f"{twice!r} twice", "each value once")
    return values


def _range(subject: str, key: str, raw: Mapping[str, Any], sample: int | None) -> Range:
    form = f"{key} = {{ log = [LOW, HIGH] }} or {{ linear = [LOW, HIGH] }}"
    bounds: Any = next(iter(raw.values()), None)
    numbers = (
        isinstance(bounds, list)
        and len(bounds) == 2
        and all(type(each) in (int, float) and math.isfinite(each) for each in bounds)
        and bounds[0] < bounds[1]
    )
    if not numbers or len(raw) != 1 or set(raw) - {"log", "linear"}:
        raise expected(f"{subject}: {key}", repr(dict(raw)), form)
    if KINDS[key] not in (float, int, int | None):
        raise expected(f"{subject}: {key}", "a range", "a list: its values are no numbers")
    if "log" in raw and bounds[0] <= 0:
        raise expected(f"{subject}: {key}", repr(dict(raw)), "bounds above 0 for a log range")
    if sample is None:
        raise expected(
            f"{subject}: {key}", "a range without a sample", "sample = N to draw from it, or a list"
        )
    return Range(float(bounds[0]), float(bounds[1]), "log" in raw)


def _kinds(subject: str, fixed: object, axis: object) -> tuple[bool, ...]:
    """Whether to train with normalization, without, or both, which is what nothing said means."""
    given = [fixed] if axis is None else axis
    if given == [None]:
        return (True, False)
    if not isinstance(given, list) or not given or {type(each) for each in given} != {bool}:
        raise expected(f"{subject}: bn", repr(given), "true or false")
    return tuple(sorted(set(given), reverse=True))


def _check_count(subject: str, count: object, most: int) -> None:
    if type(count) is not int or not 1 <= count <= most:
        raise expected(subject, repr(count), f"a whole number from 1 to {most:,}")


def _check_keys(
    subject: str, given: Mapping[str, Any], known: Sequence[str] | Mapping[str, Any], where: str
) -> None:
    for i, key in enumerate(given):
        if _field(key) in map(_field, list(given)[:i]):
            raise expected(subject, f"'{_field(key)}'{where} twice", "it once")
        if _field(key) not in known:
            near = difflib.get_close_matches(_field(key), known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else ""
            raise expected(subject, f"'{key}'{where}", f"one of {', '.join(known)}", hint)


def _field(key: str) -> str:
    """The name of a field as an option is also written: ``batch-size`` is ``batch_size``."""
    return key.removeprefix("--").replace("-", "_")


def _plain(value: object) -> object:
    """A value, or an axis, as JSON and TOML hold it."""
    if isinstance(value, Range):
        return {"log" if value.log else "linear": [value.low, value.high]}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _read(path: Path, known: Mapping[str, str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        near = difflib.get_close_matches(str(path), known, n=1)
        raise expected(
            path,
            "no such file" if not path.exists() else (error.strerror or "a file I cannot read"),
            f"a grid as a TOML file, a study, or one of the recipes {', '.join(known)}",
            f"did you mean '{near[0]}'?" if near else "",
        ) from error
    except UnicodeDecodeError as error:
        raise expected(path, "a file that is not text", "a grid as a TOML file") from error


def check_size(grid: Grid, subject: str, *, yes: bool) -> None:
    """Raise `InputError` if the grid is larger than anybody trains by accident."""
    if grid.size > LARGEST:
        raise expected(subject, f"{grid.size:,} networks", f"at most {LARGEST:,} in one sweep")
    if grid.size > WITHOUT_ASKING and not yes:
        raise expected(
            subject,
            f"{grid.size:,} networks to train ({grid.combinations:,} combinations, "
            f"{grid.seeds} seeds)",
            f"at most {WITHOUT_ASKING:,}",
            "add --yes if you mean it",
        )
