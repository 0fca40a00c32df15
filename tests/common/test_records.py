"""Reading and writing records."""

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasbn.common import records
from kerasbn.common.errors import InputError
from kerasbn.common.records import read_csv, read_json, read_toml, write_csv, write_json


@dataclass(frozen=True)
class Inner:
    lr: float = 0.1
    hidden: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Record:
    status: str
    inner: Inner
    history: dict[str, list[float | None]] = field(default_factory=dict)


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    record = Record("finished", Inner(0.25, (3, 4)), {"loss": [1.0, math.nan, math.inf]})
    write_json(tmp_path / "record.json", record)
    back = read_json(tmp_path / "record.json", Record, "a record")
    assert back == Record("finished", Inner(0.25, (3, 4)), {"loss": [1.0, None, None]})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not JSON"),
        ("[]", "damaged"),
        ('{"inner": {}}', "status"),
        ('{"status": "x", "inner": {"lr": "fast"}}', "inner.lr"),
        ('{"status": "x", "inner": {"hidden": [1.5]}}', "inner.hidden"),
        ('{"status": "x", "inner": {}, "history": {"loss": [1e999]}}', "history"),
        ('{"status": "x", "inner": {"lr": NaN}}', "not JSON"),
        ('{"status": ' + "[" * 100_000, "status"),
    ],
)
def test_a_damaged_record_is_one_line_that_names_the_key(
    tmp_path: Path, text: str, named: str
) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(InputError, match=r"expected a record; train again") as error:
        read_json(tmp_path / "record.json", Record, "a record", "train again")
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "a = ",
        "a = " + "[" * 3000 + "]" * 3000,
        "a = " + "9" * 9999,
    ],
)
def test_damaged_toml_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(InputError, match=r"expected a grid"):
        read_toml(tmp_path / "grid.toml", "a grid")


@pytest.mark.parametrize(
    "text",
    [
        ".".join("k" * 20_000) + " = 1",
        " . ".join("k" * 20_000) + " = 1",
        "a = { " + ".".join("k" * 20_000) + " = 1 }",
        "[" + ".".join(['"k"'] * 20_000) + "]",
        "# " + "a" * 2**20,
    ],
)
def test_toml_that_would_take_minutes_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("tomllib.loads", lambda _: pytest.fail("it is read"))
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(InputError, match=r"(nested too deeply|too large).*, expected a grid"):
        read_toml(tmp_path / "grid.toml", "a grid")


def test_a_long_list_of_numbers_is_no_deep_key(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(f"lr = [{', '.join(['0.1'] * 1000)}]")
    assert len(read_toml(tmp_path / "grid.toml", "a grid")["lr"]) == 1000


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("step\n1\n", "no column 'value'"),
        ("step,value\n1\n", "cut off"),
        ("step,value\n1,nan\n", "'nan' in column 'value'"),
        ("step,value\nx,1\n", "'x' in column 'step'"),
        ("", "no column"),
    ],
)
def test_a_damaged_table_is_one_line(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=r"expected a table") as error:
        read_csv(tmp_path / "table.csv", {"step": int, "value": float}, "a table")
    assert named in str(error.value)


@settings(max_examples=30)
@given(rows=st.lists(st.tuples(st.integers(), st.floats(allow_nan=False, allow_infinity=False))))
def test_a_table_survives_the_disk(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float]]
) -> None:
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    write_csv(path, ("step", "value"), rows)
    back = read_csv(path, {"step": int, "value": float}, "a table")
    assert list(zip(back["step"], back["value"], strict=True)) == rows


def test_a_cell_keeps_its_line_breaks(tmp_path: Path) -> None:
    texts = ["a\nb", "a\r\nb", "a\u2028b\x0bc", '"quoted", with a comma']
    write_csv(tmp_path / "table.csv", ("text",), [(each,) for each in texts])
    assert read_csv(tmp_path / "table.csv", {"text": str}, "a table") == {"text": texts}


def test_special_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "record.json")
    with pytest.raises(InputError, match="a device, pipe or socket"):
        read_json(tmp_path / "record.json", Record, "a record")
    with pytest.raises(InputError, match="a folder"):
        read_json(tmp_path, Record, "a record")
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "absent.json", Record, "a record")
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path / ("x" * 5000), Record, "a record")


def test_a_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 10)
    (tmp_path / "record.json").write_text(json.dumps({"status": "x" * 20, "inner": {}}))
    with pytest.raises(InputError, match="too large"):
        read_json(tmp_path / "record.json", Record, "a record")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b'{"\xff": 1}')
    with pytest.raises(InputError, match="received text that is not JSON, expected a record"):
        read_json(path, dict[str, int], "a record")
