"""Every JSON, TOML and CSV file that is read back, checked against a schema.

msgspec takes plain dataclasses as schemas, validates while it decodes, names the offending key, and
imports in 0.03 s. Readers limit size and depth, so that no file can use up the memory. Their `what`
and `advice` are for the error: what the file should hold, and what to do if it does not.
"""

import csv
import io
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args

import msgspec

from kerasbn.common.errors import InputError, expected, quoted
from kerasbn.common.files import atomic_write, read_file

MAX_BYTES = 64 * 2**20
MAX_TOML_BYTES = 2**20  # written by hand
MAX_DEPTH = 50

T = TypeVar("T")


def read_json(path: Path, schema: type[T], what: str, advice: str = "") -> T:
    """Read a JSON file as an instance of `schema`, ignoring unknown keys."""
    content = read_file(path, MAX_BYTES, what, advice)
    try:
        return msgspec.json.decode(content, type=schema)
    except (msgspec.ValidationError, InputError, RecursionError) as error:
        raise _damaged(path, error, what, advice) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise expected(path, "text that is not JSON", what, advice) from error


def read_toml(path: Path, what: str, advice: str = "") -> dict[str, Any]:
    """Read a TOML file."""
    return decode_toml(read_file(path, MAX_TOML_BYTES, what, advice), path, what, advice)


def decode_toml(content: bytes, subject: object, what: str, advice: str = "") -> dict[str, Any]:
    """Decode TOML; `subject` is what the error is about."""
    try:
        text = content.decode("utf-8")
        # Reading a dotted key takes tomllib the square of its length.
        parts = re.split(r"[\n,={}\[\]]", text.replace(" ", "").replace("\t", ""))
        if any(part.count(".") > MAX_DEPTH for part in parts):
            raise RecursionError
        table = tomllib.loads(text)
        if _is_deep(table):
            raise RecursionError
        return table
    except UnicodeDecodeError as error:
        raise expected(subject, "a file that is not text", what, advice) from error
    except tomllib.TOMLDecodeError as error:
        raise expected(subject, f"text that is not TOML ({error})", what, advice) from error
    except (RecursionError, ValueError) as error:  # ValueError: an integer of too many digits
        raise _damaged(subject, error, what, advice) from error


def read_csv(
    path: Path,
    columns: Mapping[str, Any],
    what: str,
    advice: str = "",
    *,
    finite: bool = True,
    max_bytes: int | None = None,
) -> dict[str, list[Any]]:
    """Read a CSV file with a header as a list of values for each of `columns`.

    Their types are str, int or float, or ``int | None`` and ``float | None`` where a cell can be
    empty. `finite` refuses NaN and infinity.
    """
    content = read_file(path, max_bytes or MAX_BYTES, what, advice)
    text = content.decode("utf-8", errors="replace")
    table: dict[str, list[Any]] = {name: [] for name in columns}
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"no column '{missing[0]}'")
        for row in reader:
            for name, kind in columns.items():
                table[name].append(_cell(row[name], kind, name, finite=finite))
    except (ValueError, csv.Error) as error:
        raise expected(path, f"a damaged table ({quoted(error)})", what, advice) from error
    return table


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole or not at all; NaN and infinity become null."""
    content = msgspec.json.format(msgspec.json.encode(value), indent=2)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content + b"\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with a header, whole or not at all."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def to_plain(value: Any) -> Any:  # noqa: ANN401 - any value, as JSON holds it
    """Return a value as JSON holds it: dataclasses as objects, NaN and infinity as None."""
    return msgspec.json.decode(msgspec.json.encode(value))


def as_table(columns: Mapping[str, Sequence[Any]]) -> Any:  # noqa: ANN401 - a DataFrame or dict
    """Return columns as a pandas DataFrame where pandas is installed, otherwise as a dict."""
    try:
        import pandas
    except ImportError:
        return dict(columns)
    return pandas.DataFrame(dict(columns))


def _cell(text: str | None, kind: Any, name: str, *, finite: bool) -> object:  # noqa: ANN401
    if text is None:
        raise ValueError("a row is cut off")
    if kind is str:
        return text
    if isinstance(kind, UnionType):
        if not text:
            return None
        kind = get_args(kind)[0]
    try:
        value = kind(text)
        if math.isfinite(value) or not finite:
            return value
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"'{text[:40]}' in column '{name}'")


def _is_deep(value: object, depth: int = MAX_DEPTH) -> bool:
    """Return whether dicts and lists are nested deeper than `depth`."""
    items = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(items, list):
        return False
    return depth == 0 or any(_is_deep(item, depth - 1) for item in items)


def _damaged(subject: object, error: Exception, what: str, advice: str) -> InputError:
    reason = "nested too deeply" if isinstance(error, RecursionError) else quoted(error)
    # msgspec writes the place as `$.model.lr`: the dollar is the file.
    reason = reason.replace(" - at `$.", " at `").replace("`$`", "the top level")
    return expected(subject, f"a damaged record ({reason})", what, advice)


def own_version() -> str:
    """Return the version of kerasbn, ``unknown`` if it is on the path without being installed."""
    from importlib import metadata  # takes 40 ms, which not every command has to pay

    try:
        return metadata.version("kerasbn")
    except metadata.PackageNotFoundError:
        return "unknown"
