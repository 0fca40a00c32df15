"""Every JSON, TOML and CSV file that is read back, checked against a schema.

A schema is a dataclass, or any type that msgspec knows. msgspec was chosen over pydantic and
cattrs: it decodes and validates in one pass without building an untyped tree first, takes plain
dataclasses as they are, names the offending key in its errors, has no dependencies, and imports in
0.03 s.

Files are read up to `MAX_BYTES` and nested up to `MAX_DEPTH`, so that none can use up the memory.
"""

import csv
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args

import msgspec

from kerasbn.common.errors import InputError, expected, quoted
from kerasbn.common.files import atomic_write

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 50

T = TypeVar("T")


def read_json(path: Path, schema: type[T], what: str, advice: str = "") -> T:
    """Read a JSON file as an instance of `schema`.

    Args:
        path: The file.
        schema: A dataclass or another type that msgspec validates. Unknown keys are ignored.
        what: What the file should hold, such as "a run's record", for the error.
        advice: What to do if it does not, for the error.

    Raises:
        InputError: If the file is missing, unreadable, too large, no JSON, or does not match the
            schema. The message names the offending key.
    """
    return decode_json(_read(path, what, advice), schema, path, what, advice)


def decode_json(
    content: bytes | str, schema: type[T], subject: object, what: str, advice: str = ""
) -> T:
    """Decode JSON as an instance of `schema`; `subject` is what the error is about.

    Raises:
        InputError: If it is no JSON or does not match the schema.
    """
    try:
        return msgspec.json.decode(content, type=schema)
    except (msgspec.ValidationError, InputError) as error:
        raise _damaged(subject, quoted(error), what, advice) from error
    except msgspec.DecodeError as error:
        raise expected(subject, "text that is not JSON", what, advice) from error
    except RecursionError as error:
        raise _damaged(subject, "nested too deeply", what, advice) from error


def read_toml(path: Path, what: str, advice: str = "") -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: If the file is missing, unreadable, too large, nested too deeply, or no TOML.
    """
    return decode_toml(_read(path, what, advice), path, what, advice)


def decode_toml(content: bytes, subject: object, what: str, advice: str = "") -> dict[str, Any]:
    """Decode TOML; `subject` is what the error is about.

    Raises:
        InputError: If it is no TOML or nested too deeply.
    """
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise expected(subject, "a file that is not text", what, advice) from error
    except tomllib.TOMLDecodeError as error:
        raise expected(subject, f"text that is not TOML ({error})", what, advice) from error
    except (RecursionError, ValueError) as error:  # ValueError: an integer of too many digits
        raise _damaged(subject, quoted(error), what, advice) from error
    if _is_deep(table):
        raise _damaged(subject, "nested too deeply", what, advice)
    return table


def read_csv(
    path: Path,
    columns: Mapping[str, Any],
    what: str,
    advice: str = "",
    *,
    finite: bool = True,
    max_bytes: int | None = None,
) -> dict[str, list[Any]]:
    """Read a CSV file with a header as a list of values for each column.

    Args:
        path: The file.
        columns: The columns it must have, with the type of their values: str, int or float, or
            ``int | None`` and ``float | None`` where a cell can be empty. Other columns are
            ignored.
        what: What the file should hold, for the error.
        advice: What to do if it does not, for the error.
        finite: Whether NaN and infinity are refused.
        max_bytes: The largest size that is read; None for `MAX_BYTES`.

    Raises:
        InputError: If the file is missing, unreadable, too large, lacks a column, or has a cell of
            another type.
    """
    text = _read(path, what, advice, max_bytes).decode("utf-8", errors="replace")
    table: dict[str, list[Any]] = {name: [] for name in columns}
    try:
        reader = csv.DictReader(text.splitlines(), strict=True)
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
    """Write a value as JSON, whole or not at all; NaN and infinity become null.

    Raises:
        InputError: If the file cannot be written.
    """
    content = msgspec.json.format(msgspec.json.encode(to_plain(value)), indent=2)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content + b"\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with a header, whole or not at all.

    Raises:
        InputError: If the file cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def to_plain(value: Any) -> Any:  # noqa: ANN401 - any value, as JSON holds it
    """Return a value as JSON holds it: dataclasses as objects, NaN and infinity as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def as_table(columns: Mapping[str, Sequence[Any]]) -> Any:  # noqa: ANN401 - a DataFrame or dict
    """Return columns as a pandas DataFrame where pandas is installed, otherwise as a dict."""
    try:
        import pandas
    except ImportError:
        return dict(columns)
    return pandas.DataFrame(dict(columns))


def _read(path: Path, what: str, advice: str, max_bytes: int | None = None) -> bytes:
    """Read a regular file of at most `max_bytes`, or `MAX_BYTES`."""
    max_bytes = max_bytes or MAX_BYTES
    try:
        if path.exists() and not path.is_file():
            found = "a folder" if path.is_dir() else "a device or pipe"
            raise expected(path, found, what, advice)
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise expected(path, "no such file", what, advice) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or quoted(error)
        raise expected(path, f"a file that cannot be read ({reason})", what, advice) from error
    if len(content) > max_bytes:
        most = f"{what} of at most {max_bytes // 2**20:,} MiB"
        raise expected(path, "a file that is too large", most, advice)
    return content


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
    except (ValueError, OverflowError):
        raise ValueError(f"'{text[:40]}' in column '{name}'") from None
    if finite and not math.isfinite(value):
        raise ValueError(f"'{text[:40]}' in column '{name}'")
    return value


def _is_deep(value: object) -> bool:
    """Return whether a value is nested deeper than `MAX_DEPTH`; works level by level."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
    return any(isinstance(each, dict | list) for each in level)


def _damaged(subject: object, reason: str, what: str, advice: str) -> InputError:
    # msgspec writes the place as `$.model.lr`: the dollar is the file.
    reason = reason.replace(" - at `$.", " at `").replace("`$`", "the top level")
    return expected(subject, f"a damaged record ({reason})", what, advice)
