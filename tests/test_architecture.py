"""The arrows of the design run downward only, and the light parts stay light."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import kerasbn

ROOT = Path(__file__).parent.parent

# The packages, from the ground up: who may import whom. A package may always import from itself.
COMMON = "kerasbn.common"
ALLOWED = {
    COMMON: set(),
    "kerasbn.data": {COMMON},
    "kerasbn.training": {COMMON, "kerasbn.data"},
    "kerasbn.runs": {COMMON, "kerasbn.training"},
    "kerasbn.probes": {COMMON, "kerasbn.data", "kerasbn.training", "kerasbn.runs"},
    "kerasbn.experiments": {
        COMMON, "kerasbn.data", "kerasbn.training", "kerasbn.runs", "kerasbn.probes",
    },
    "kerasbn.sweeps": {
        COMMON, "kerasbn.data", "kerasbn.training", "kerasbn.runs", "kerasbn.experiments",
    },
    "kerasbn.reports": {
        COMMON, "kerasbn.data", "kerasbn.training", "kerasbn.runs", "kerasbn.probes",
        "kerasbn.experiments", "kerasbn.sweeps",
    },
    "kerasbn.folding": {COMMON, "kerasbn.runs"},
    "kerasbn.inference": {COMMON, "kerasbn.data", "kerasbn.runs", "kerasbn.folding"},
    "kerasbn.onnx_export": {COMMON, "kerasbn.runs", "kerasbn.folding", "kerasbn.inference"},
}  # fmt: skip
# The modules of the ground floor, likewise.
COMMON_ALLOWED = {
    "errors": {"wording"},
    "wording": set(),
    "terminal": {"wording"},
    "keras_internals": {"errors"},
    "files": {"errors"},
    "folders": {"errors", "files"},
    "records": {"errors", "files"},
    "plotting": {"errors", "files"},
    "tensorflow_ops": set(),
    "keras2": {"errors", "keras_internals", "tensorflow_ops"},
    "keras2_files": {"keras2", "keras_internals"},
    "saved_models": {"errors", "files", "keras2", "keras2_files", "keras_internals"},
}
HEAVY = (
    "tensorflow", "keras", "tf2onnx", "matplotlib", "onnx", "onnx_ir", "onnxruntime", "numpy",
)  # fmt: skip


def modules_of(package: str) -> list[Path]:
    path = ROOT / package.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def own_imports(path: Path, depth: int = 2) -> set[str]:
    """The parts of kerasbn that a file imports, anywhere in it; their names cut at a depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {".".join(name.split(".")[:depth]) for name in found if name.startswith("kerasbn.")}


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_downward(package: str) -> None:
    for path in modules_of(package):
        upward = own_imports(path) - ALLOWED[package] - {package}
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}"


@pytest.mark.parametrize("module", COMMON_ALLOWED)
def test_imports_point_downward_on_the_ground_floor(module: str) -> None:
    imported = own_imports(ROOT / f"kerasbn/common/{module}.py", depth=3)
    assert imported <= {f"{COMMON}.{name}" for name in COMMON_ALLOWED[module]}


def test_no_packages_import_each_other() -> None:
    assert tuple(TopologicalSorter(ALLOWED).static_order())


def test_no_modules_import_each_other() -> None:
    """Imports within functions count as well: a circle that they hide is still one."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in modules_of("kerasbn")
    }
    graph = {}
    for name, path in modules.items():
        imported = own_imports(path, depth=9)
        homes = {each if each in modules else each.rpartition(".")[0] for each in imported}
        graph[name] = homes - {name}
    assert tuple(TopologicalSorter(graph).static_order())


def test_every_part_has_its_place() -> None:
    parts = {
        f"kerasbn.{path.stem}"
        for path in (ROOT / "kerasbn").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts - set(ALLOWED) == {"kerasbn.__init__", "kerasbn.__main__"}


def test_nothing_imports_cli_by_its_folder_name() -> None:
    for path in ROOT.glob("*/**/*.py"):
        assert not re.search(r"^\s*(from|import) cli\b", path.read_text(), re.MULTILINE), path


def test_files_stay_readable_in_one_sitting() -> None:
    for folder in ("kerasbn", "cli", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 450, path


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh Python has loaded after running `code`."""
    show = f"import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_import_kerasbn_loads_nothing_heavy() -> None:
    assert loaded_by("import kerasbn") == set()


def test_every_help_loads_nothing_heavy() -> None:
    code = """
import contextlib, io
from kerasbn.cli.main import COMMANDS, cli
for arguments in [[], *[[name] for name in COMMANDS]]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        cli.main([*arguments, "--help"], standalone_mode=False)
    assert "Example" in out.getvalue(), arguments
"""
    assert loaded_by(code) == set()


def test_inference_loads_neither_keras_nor_onnx() -> None:
    code = "import kerasbn.inference.infer, kerasbn.inference.classifier"
    assert loaded_by(code) <= {"numpy", "onnxruntime"}


@pytest.mark.slow
def test_reading_loads_no_keras() -> None:
    modules = [
        "reports.sources", "reports.report", "sweeps.study", "sweeps.findings", "probes.results",
        "experiments.comparison", "experiments.recalibrate", "inference.classifier",
    ]  # fmt: skip
    code = "\n".join(f"import kerasbn.{module}" for module in modules)
    assert not {"tensorflow", "keras", "tf2onnx"} & loaded_by(code)


@pytest.mark.parametrize("name", kerasbn.__all__)
def test_public_names_can_be_had(name: str) -> None:
    assert getattr(kerasbn, name) is not None
