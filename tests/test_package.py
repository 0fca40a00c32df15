"""The wheel holds the tree, and the package is quiet."""

import inspect
import subprocess
import sys
import tomllib
import typing
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import kerasbn as library
from kerasbn.experiments.trained_model import versions
from kerasbn.inference.metadata import Metadata

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from a copy of what git keeps, or of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q",
         "-w", str(folder), str(source)],
        check=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


@pytest.mark.slow
def test_the_wheel_holds_the_tree(wheel: set[str]) -> None:
    expected = set()
    for folder, package in (("kerasbn", "kerasbn"), ("cli", "kerasbn/cli")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(f"{package}/{path.relative_to(ROOT / folder).as_posix()}")
    assert "kerasbn/py.typed" in expected
    assert {name for name in wheel if ".dist-info/" not in name} == expected


def test_the_wheel_has_no_stray_top_level(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"kerasbn"}


def test_the_wheel_carries_the_licence(wheel: set[str]) -> None:
    assert any(name.endswith("/licenses/LICENSE") for name in wheel)


def test_the_lowest_versions_are_the_bounds() -> None:
    """tests/lowest.txt, which `.ci/run --lowest` installs, says what pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    bounds = {
        line.partition("[")[0].partition(">=")[0]: line.partition(">=")[2].partition(",")[0]
        for line in [*project["dependencies"], *extras["digits"], *extras["test"], *extras["gpu"]]
    }
    pins = (ROOT / "tests" / "lowest.txt").read_text().splitlines()
    assert dict(line.split("==") for line in pins if "==" in line) == bounds


@pytest.mark.slow
def test_a_path_may_be_given_as_text() -> None:
    functions = {name: getattr(library, name) for name in library.__all__}
    paths = {
        (name, parameter.name): typing.get_args(parameter.annotation)
        for name, function in functions.items()
        if inspect.isfunction(function)
        for parameter in inspect.signature(function).parameters.values()
        if Path in (parameter.annotation, *typing.get_args(parameter.annotation))
    }
    assert ("train", "root") in paths
    assert [place for place, kinds in paths.items() if str not in kinds] == []


@pytest.mark.slow
def test_python_is_as_quiet_as_the_command_line_and_keras_loads_no_scikit_learn() -> None:
    code = """
import sys
import kerasbn
kerasbn.fold(kerasbn.mlp(hidden=(4,)))
import keras.wrappers
assert "sklearn" not in sys.modules
import sklearn.utils
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_the_package_works_from_pythonpath(
    monkeypatch: pytest.MonkeyPatch, kerasbn: Callable[..., tuple[int, str, str]]
) -> None:
    """Without the record of an installation, which holds the version."""
    installed = metadata.version

    def version(name: str) -> str:
        if name == "kerasbn":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    assert library.__version__ == installed("kerasbn")
    monkeypatch.setattr(metadata, "version", version)
    assert library.__version__ == versions()["kerasbn"] == Metadata().version == "unknown"
    assert kerasbn("--version") == (0, "kerasbn, version unknown\n", "")
