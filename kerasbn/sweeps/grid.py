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
from kerasbn.training.settings import MAX_SEEDS, SETTINGS, SettingValue, find_setting

MAX_TRIALS = 1_000_000  # the list of them still fits into memory
TRIALS_WITHOUT_YES = 1000  # a larger grid needs --yes
DRAWN_DIGITS = 3  # significant digits of a number drawn from a range


# The keys of a grid: the type of a value, and what is expected, in words.
_KEYS = {
    "question": (str, "text in quotation marks"),
    "source": (str, "text in quotation marks"),
    "seeds": (int, f"a whole number from 1 to {MAX_SEEDS:,}"),
    "sample": (int, f"a whole number from 1 to {MAX_TRIALS:,}"),
    "sample_seed": (int, "a whole number"),
    "options": (Mapping, "a table: [options]"),
    "axes": (Mapping, "a table: [axes]"),
}
_LARGEST = {"seeds": MAX_SEEDS, "sample": MAX_TRIALS}


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, drawn uniformly on a ``linear`` or ``log`` scale."""

    low: float
    high: float
    scale: str
    is_whole: bool

    def at(self, share: float) -> float:
        """Return the number, rounded, at `share` (0 to 1) of the way from `low` to `high`."""
        number = self.low + share * (self.high - self.low)
        if self.scale == "log":
            number = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        return round(number) if self.is_whole else float(f"{number:.{DRAWN_DIGITS}g}")


@dataclass(frozen=True)
class Grid:
    """What a sweep trains; see the module.

    `kinds` says whether to train with BN (True), without (False), or both; `sample` is None for all
    combinations of the axes.
    """

    name: str
    options: Mapping[str, SettingValue]
    axes: Mapping[str, tuple[SettingValue, ...] | Range]
    kinds: tuple[bool, ...]
    question: str = ""
    source: str = ""
    seeds: int = 1
    sample: int | None = None
    sample_seed: int = 0

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
        """Return the grid as `parse_grid` takes it."""
        record = {key: getattr(self, key) for key in ("question", "source", "seeds")}
        record["options"] = dict(self.options)
        if len(self.kinds) == 1:
            record["options"]["bn"] = self.kinds[0]
        record["axes"] = {
            key: {axis.scale: [axis.low, axis.high]} if isinstance(axis, Range) else list(axis)
            for key, axis in self.axes.items()
        }
        if self.sample is not None:
            record |= {"sample": self.sample, "sample_seed": self.sample_seed}
        return record

    def check_size(self, *, yes: bool) -> None:
        """Raise `InputError` if the grid is larger than anybody trains by accident."""
        if self.size > MAX_TRIALS:
            raise expected(self.name, f"{self.size:,} trials", f"at most {MAX_TRIALS:,} in a sweep")
        if self.size > TRIALS_WITHOUT_YES and not yes:
            parts = f"{self.combinations:,} combinations, {self.seeds} seeds"
            raise expected(
                self.name, f"{self.size:,} trials ({parts})",
                f"at most {TRIALS_WITHOUT_YES:,}", "add --yes if you mean it",
            )  # fmt: skip


def recipes() -> dict[str, bytes]:
    """Return the grids that come with the package: their TOML by name."""
    folder = files("kerasbn.sweeps") / "recipes"
    texts = {each.name: each.read_bytes() for each in folder.iterdir()}
    return {name.removesuffix(".toml"): texts[name] for name in sorted(texts) if ".toml" in name}


def load_grid(name: str, changes: Mapping[str, Any] | None = None) -> Grid:
    """Return the grid of a TOML file or of one of `recipes`, changed as by `parse_grid`."""
    known, path, what = recipes(), Path(name), "a grid in TOML"
    if path.is_file():
        return parse_grid(read_toml(path, what), path.stem, name, changes)
    if name in known:
        return parse_grid(decode_toml(known[name], name, what), name, name, changes)
    found = "a folder" if path.is_dir() else "no such file"
    what = f"a TOML file, a study, or one of the recipes {', '.join(known)}"
    raise expected(name, found, what, did_you_mean(name, known))


def parse_grid(
    raw: Mapping[str, Any], name: str, subject: str, changes: Mapping[str, Any] | None = None
) -> Grid:
    """Return the grid that the content of a TOML file describes.

    `changes` are settings that replace those in `raw` (a list of values makes an axis), and counts
    such as `seeds`. Raises `InputError` if a key or value is invalid or the grid is empty; the line
    starts with `subject`, such as the path of the file.
    """
    changes = dict(changes or {})
    counts = ("seeds", "sample", "sample_seed")
    about = {**raw, **{key: changes.pop(key) for key in counts if key in changes}}
    for key, value in about.items():
        if key not in _KEYS:
            known = f"one of {', '.join(_KEYS)}"
            raise expected(subject, f"'{key}'", known, did_you_mean(key, _KEYS))
        kind, expects = _KEYS[key]
        is_kind = isinstance(value, kind) and not isinstance(value, bool)
        if not is_kind or (key in _LARGEST and not 1 <= value <= _LARGEST[key]):
            raise expected(f"{subject}: {key}", repr(value), expects)
    with prefixed(subject):
        options, axes = (_by_setting(key, about.pop(key, {})) for key in ("options", "axes"))
        _change(options, axes, changes)
        if twice := options.keys() & axes:
            raise expected(min(twice), "it in [options] and in [axes]", "one of the two")
        if "seed" in axes:
            raise expected("seed", "it in [axes]", "seeds = N, counted from seed on")
        if "sample" in about and not axes:
            raise expected("sample", "a sample of no axes", "[axes] to draw from")
        options = {key: SETTINGS[key].check(value) for key, value in options.items()}
        axes = {key: _axis(key, value, "sample" in about) for key, value in axes.items()}
    if not (options or axes or about.keys() & counts):
        raise expected(subject, "an empty grid", "[options] or [axes] with at least one entry")
    both = axes.pop("bn", (True, False))
    kinds = (options.pop("bn"),) if "bn" in options else tuple(sorted(both, reverse=True))
    texts = {key: about.pop(key, "").strip() for key in ("question", "source")}
    return Grid(name, options, axes, kinds, **texts, **about)


def parse_change(text: str) -> tuple[str, Any]:
    """Return the name and the value of a change ``KEY=VALUES``; several values are a list."""
    subject = f"--set {text}"
    key, sign, values = text.partition("=")
    if not sign:
        raise expected(subject, "no '='", "KEY=VALUES, such as --set lr=0.1")
    with prefixed(subject):
        setting = find_setting(key)
    parsed = []
    for part in values.split():
        try:
            parsed.append(setting.parse(part))
        except InputError as error:
            raise expected(subject, f"'{part}'", setting.expects) from error
    if not parsed:
        raise expected(subject, "no value", "one value, or several separated by spaces")
    return setting.name, parsed if len(parsed) > 1 else parsed[0]


@contextmanager
def prefixed(subject: str) -> Iterator[None]:
    """Prefix the message of an `InputError` with its subject."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{subject}: {error}") from error


def _by_setting(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table [options] or [axes] by the names of the settings."""
    found: dict[str, Any] = {}
    with prefixed(f"[{name}]"):
        names = [find_setting(key).name for key in table]
    for key, value in zip(names, table.values(), strict=True):
        if key in found:
            raise expected(f"[{name}]", f"'{key}' twice", "it once")
        found[key] = value
    return found


def _change(options: dict[str, Any], axes: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Replace options and axes; a list of values, but not that of layer sizes, is an axis."""
    for name, value in changes.items():
        setting = find_setting(name)
        key = setting.name
        # Steps override epochs: a change of one drops the other.
        for old in (key, {"epochs": "steps", "steps": "epochs"}.get(key, key)):
            options.pop(old, None)
            axes.pop(old, None)
        is_axis = isinstance(value, Mapping | list)
        if is_axis and setting.kind is tuple:
            is_axis = not all(type(each) is int for each in value)
        (axes if is_axis else options)[key] = value


def _axis(key: str, raw: object, is_sample: bool) -> tuple[SettingValue, ...] | Range:
    if isinstance(raw, Mapping):
        return _range(key, raw, is_sample)
    if not isinstance(raw, list | tuple):
        raise expected(key, repr(raw), "a list of values in [axes]")
    if not raw:
        raise expected(key, "an empty list", "at least one value")
    values = tuple(SETTINGS[key].check(value) for value in raw)
    for i, value in enumerate(values):
        if value in values[:i]:
            raise expected(key, f"{value!r} twice", "each value once")
    return values


def _range(key: str, raw: Mapping[str, Any], is_sample: bool) -> Range:
    match [*raw.items()]:
        case [("log" | "linear" as scale, [low, high])] if {type(low), type(high)} <= {
            int,
            float,
        } and -math.inf < low < high < math.inf:
            pass
        case _:
            form = f"{key} = {{ log = [LOW, HIGH] }} or {{ linear = [LOW, HIGH] }}"
            raise expected(key, repr(dict(raw)), form)
    if not SETTINGS[key].is_number:
        raise expected(key, "a range", "a list: its values are not numbers")
    if scale == "log" and low <= 0:
        raise expected(key, repr(dict(raw)), "bounds above 0 for a log range")
    if not is_sample:
        raise expected(key, "a range without a sample", "sample = N to draw from it, or a list")
    return Range(float(low), float(high), scale, SETTINGS[key].kind is int)
