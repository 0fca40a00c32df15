"""A grid: what a sweep trains, as data.

A grid is a TOML file, or a dict of the same form. Every part is optional::

    question = "Which learning rates work, with and without BN?"
    source = "where the question comes from"
    seeds = 3                        # trials per configuration, from options.seed on

    [options]                        # shared by all trials; the settings of `kerasbn train`
    epochs = 5
    bn = true                        # if left out, every trial runs with and without BN

    [axes]                           # what varies: all combinations of these values
    lr = [0.001, 0.01, 0.1]
    hidden = ["32,32", "64,64"]

With ``sample = 40`` there are 40 random combinations instead of all, drawn with `sample_seed`. Then
an axis can be a range: ``lr = { log = [1e-4, 1] }``, ``bn_momentum = { linear = [0.5, 0.99] }``.

Names, types, ranges and labels of the settings come from `kerasbn.training.settings`.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from kerasbn.common.errors import InputError, did_you_mean, expected
from kerasbn.common.records import decode_toml, read_toml
from kerasbn.training.settings import MAX_SEEDS, SETTINGS, Value, find_setting

KEYS = ("question", "source", "seeds", "sample", "sample_seed", "options", "axes")
MAX_TRIALS = 1_000_000  # the list of them still fits into memory
TRIALS_WITHOUT_YES = 1000  # a larger grid needs --yes


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, drawn uniformly on a linear or logarithmic scale."""

    low: float
    high: float
    log: bool

    def at(self, share: float) -> float:
        """Return the number at `share`, 0 to 1, of the way from `low` to `high`."""
        if self.log:
            return math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class Grid:
    """What a sweep trains.

    Attributes:
        name: The default name of the study.
        question: What the sweep should answer.
        source: Where the question or its settings come from.
        options: The settings that all trials share, by name.
        axes: What varies: the values of each setting, or a range to draw from.
        kinds: Whether to train with BN (True), without (False), or both.
        seeds: The number of trials per configuration.
        sample: The number of random combinations; None for all combinations.
        sample_seed: The random seed of the sample.
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
        """The number of combinations of the axes' values."""
        if self.sample is not None:
            return self.sample
        return math.prod(len(axis) for axis in self.axes.values() if not isinstance(axis, Range))

    @property
    def size(self) -> int:
        """The number of trials."""
        return self.combinations * len(self.kinds) * self.seeds

    def record(self) -> dict[str, Any]:
        """Return the grid as `parse_grid` takes it, in the types of JSON and TOML."""
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

    def check_size(self, *, yes: bool) -> None:
        """Raise `InputError` if the grid is larger than anybody trains by accident."""
        if self.size > MAX_TRIALS:
            raise expected(self.name, f"{self.size:,} trials", f"at most {MAX_TRIALS:,} in a sweep")
        if self.size > TRIALS_WITHOUT_YES and not yes:
            raise expected(
                self.name,
                f"{self.size:,} trials ({self.combinations:,} combinations, {self.seeds} seeds)",
                f"at most {TRIALS_WITHOUT_YES:,}",
                "add --yes if you mean it",
            )


def recipes() -> dict[str, bytes]:
    """Return the grids that come with the package: their TOML by name."""
    folder = files("kerasbn.sweeps") / "recipes"
    texts = {each.name: each.read_bytes() for each in folder.iterdir()}
    return {name.removesuffix(".toml"): texts[name] for name in sorted(texts) if ".toml" in name}


def load_grid(name: str, changes: Mapping[str, Any] | None = None) -> Grid:
    """Return the grid of a TOML file or a recipe.

    Args:
        name: The path of a TOML file, or the name of one of `recipes`.
        changes: Changes to it, see `parse_grid`.

    Raises:
        InputError: If there is no such file or recipe, or it is no valid grid.
    """
    known, path, what = recipes(), Path(name), "a grid in TOML"
    if path.is_file():
        return parse_grid(read_toml(path, what), path.stem, name, changes)
    if name in known:
        return parse_grid(decode_toml(known[name], name, what), name, name, changes)
    raise expected(
        name,
        "a folder" if path.is_dir() else "no such file",
        f"a TOML file, a study, or one of the recipes {', '.join(known)}",
        did_you_mean(name, known),
    )


def parse_grid(
    raw: Mapping[str, Any], name: str, subject: str, changes: Mapping[str, Any] | None = None
) -> Grid:
    """Return the grid that the content of a TOML file describes.

    Args:
        raw: The content of the file.
        name: The name of the grid.
        subject: What error messages start with, such as the path of the file.
        changes: Settings that replace those in `raw`; a list of values makes an axis. Also
            `seeds`, `sample` and `sample_seed`.

    Raises:
        InputError: If a key or value is invalid, or the grid is empty.
    """
    for key in raw:
        if key not in KEYS:
            raise expected(
                subject, f"'{key}'", f"one of {', '.join(KEYS)}", did_you_mean(key, KEYS)
            )
    options, axes = (_table(subject, raw, key) for key in ("options", "axes"))
    counts = {key: raw[key] for key in ("seeds", "sample", "sample_seed") if key in raw}
    for key, value in (changes or {}).items():
        if key in ("seeds", "sample", "sample_seed"):
            counts[key] = value
            continue
        field = _field(subject, key)
        # Steps override epochs: a change of one drops the other.
        for old in (field, {"epochs": "steps", "steps": "epochs"}.get(field, field)):
            options.pop(old, None)
            axes.pop(old, None)
        (axes if _is_axis(field, value) else options)[field] = value
    if not (options or axes or counts):
        raise expected(subject, "an empty grid", "[options] or [axes] with at least one entry")
    for key in axes:
        if key in options:
            raise expected(f"{subject}: {key}", "it in [options] and in [axes]", "one of the two")
        if key == "seed":
            raise expected(f"{subject}: seed", "it in [axes]", "seeds = N, counted from seed on")
    sample = counts.get("sample")
    if sample is not None:
        _check_count(f"{subject}: sample", sample, MAX_TRIALS)
        if not axes:
            raise expected(f"{subject}: sample", "a sample of no axes", "[axes] to draw from")
    _check_count(f"{subject}: seeds", counts.get("seeds", 1), MAX_SEEDS)
    if type(counts.get("sample_seed", 0)) is not int:
        raise expected(f"{subject}: sample_seed", repr(counts["sample_seed"]), "a whole number")
    kinds = _kinds(subject, options.pop("bn", None), axes.pop("bn", None))
    return Grid(
        name=name,
        question=_text(subject, raw, "question"),
        source=_text(subject, raw, "source"),
        options={key: _value(subject, key, value) for key, value in options.items()},
        axes={key: _axis(subject, key, axis, sample) for key, axis in axes.items()},
        kinds=kinds,
        seeds=counts.get("seeds", 1),
        sample=sample,
        sample_seed=counts.get("sample_seed", 0),
    )


def parse_change(text: str) -> tuple[str, Any]:
    """Return the name and value of a change ``KEY=VALUES``; several values, as a list, are an axis.

    Raises:
        InputError: If it has no ``=`` or no value, or the key or a value is invalid.
    """
    subject = f"--set {text}"
    key, sign, values = text.partition("=")
    if not sign:
        raise expected(subject, "no '='", "KEY=VALUES, such as --set lr=0.1")
    setting = SETTINGS[_field(subject, key)]
    parsed = []
    for part in values.split():
        try:
            parsed.append(setting.parse(part))
        except InputError as error:
            raise expected(subject, f"'{part}'", setting.expects) from error
    if not parsed:
        raise expected(subject, "no value", "one value, or several separated by spaces")
    return setting.name, parsed if len(parsed) > 1 else parsed[0]


def _table(subject: str, raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the table [options] or [axes] by the names of the settings."""
    table = raw.get(key, {})
    if not isinstance(table, Mapping):
        raise expected(f"{subject}: {key}", repr(table), f"a table: [{key}]")
    found: dict[str, Any] = {}
    for name, value in table.items():
        field = _field(f"{subject}: [{key}]", name)
        if field in found:
            raise expected(f"{subject}: [{key}]", f"'{field}' twice", "it once")
        found[field] = value
    return found


def _field(subject: str, key: str) -> str:
    with _prefixed(subject):
        return find_setting(key).name


def _value(subject: str, key: str, raw: object) -> Value:
    with _prefixed(subject):
        return SETTINGS[key].check(raw)


@contextmanager
def _prefixed(subject: str) -> Iterator[None]:
    """Prefix the message of an `InputError` with its subject."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{subject}: {error}") from error


def _is_axis(key: str, value: object) -> bool:
    """Return whether a value is an axis: a list, but not that of the sizes of layers."""
    sizes = SETTINGS[key].kind is tuple
    return isinstance(value, Mapping) or (
        isinstance(value, list) and not (sizes and all(type(each) is int for each in value))
    )


def _axis(subject: str, key: str, raw: object, sample: int | None) -> tuple[Value, ...] | Range:
    if isinstance(raw, Mapping):
        return _range(f"{subject}: {key}", key, raw, sample)
    if not isinstance(raw, list | tuple):
        raise expected(f"{subject}: {key}", repr(raw), "a list of values in [axes]")
    if not raw:
        raise expected(f"{subject}: {key}", "an empty list", "at least one value")
    values = tuple(_value(subject, key, value) for value in raw)
    for i, value in enumerate(values):
        if value in values[:i]:
            raise expected(f"{subject}: {key}", f"{value!r} twice", "each value once")
    return values


def _range(subject: str, key: str, raw: Mapping[str, Any], sample: int | None) -> Range:
    bounds: Any = next(iter(raw.values()), None)
    valid = (
        isinstance(bounds, list | tuple)
        and len(bounds) == 2
        and all(type(each) in (int, float) and math.isfinite(each) for each in bounds)
        and bounds[0] < bounds[1]
    )
    if not valid or len(raw) != 1 or set(raw) - {"log", "linear"}:
        form = f"{key} = {{ log = [LOW, HIGH] }} or {{ linear = [LOW, HIGH] }}"
        raise expected(subject, repr(dict(raw)), form)
    if not SETTINGS[key].is_number:
        raise expected(subject, "a range", "a list: its values are not numbers")
    if "log" in raw and bounds[0] <= 0:
        raise expected(subject, repr(dict(raw)), "bounds above 0 for a log range")
    if sample is None:
        raise expected(subject, "a range without a sample", "sample = N to draw from it, or a list")
    return Range(float(bounds[0]), float(bounds[1]), "log" in raw)


def _kinds(subject: str, option: object, axis: object) -> tuple[bool, ...]:
    """Return whether to train with BN, without, or both, which is the default."""
    given = [option] if axis is None else axis
    if given == [None]:
        return (True, False)
    if not isinstance(given, list) or not given or {type(each) for each in given} != {bool}:
        raise expected(f"{subject}: bn", repr(given), "true or false")
    return tuple(sorted(set(given), reverse=True))


def _check_count(subject: str, count: object, most: int) -> None:
    if type(count) is not int or not 1 <= count <= most:
        raise expected(subject, repr(count), f"a whole number from 1 to {most:,}")


def _text(subject: str, raw: Mapping[str, Any], key: str) -> str:
    text = raw.get(key, "")
    if not isinstance(text, str):
        raise expected(f"{subject}: {key}", repr(text), "text in quotation marks")
    return text.strip()


def _plain(value: object) -> object:
    """Return a value or an axis in the types of JSON and TOML."""
    if isinstance(value, Range):
        return {"log" if value.log else "linear": [value.low, value.high]}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
