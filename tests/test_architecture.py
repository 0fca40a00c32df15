"""The arrows of the design run downward only, and the light parts stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kerasbn

ROOT = Path(__file__).parent.parent

# Who may import whom; a package may always import from itself.
GROUND = {"kerasbn.errors", "kerasbn.files", "kerasbn.records", "kerasbn.wording"}
ALLOWED = {
    "kerasbn.errors": set(),
    "kerasbn.wording": set(),
    "kerasbn.files": {"kerasbn.errors"},
    "kerasbn.records": {"kerasbn.errors", "kerasbn.files"},
    "kerasbn.keras_internals": set(),
    "kerasbn.runs": GROUND | {"kerasbn.training"},
    "kerasbn.saved_models": GROUND,
    "kerasbn.plotting": GROUND,
    "kerasbn.data": GROUND,
    "kerasbn.folding": {
        "kerasbn.errors",
        "kerasbn.keras_internals",
        "kerasbn.runs",
        "kerasbn.saved_models",
    },
    "kerasbn.training": GROUND | {"kerasbn.data", "kerasbn.keras_internals"},
    "kerasbn.probes": GROUND
    | {"kerasbn.data", "kerasbn.plotting", "kerasbn.runs", "kerasbn.training"},
    "kerasbn.experiments": GROUND
    | {
        "kerasbn.data",
        "kerasbn.plotting",
        "kerasbn.probes",
        "kerasbn.runs",
        "kerasbn.saved_models",
        "kerasbn.training",
    },
    "kerasbn.sweeps": GROUND
    | {
        "kerasbn.data",
        "kerasbn.experiments",
        "kerasbn.keras_internals",
        "kerasbn.plotting",
        "kerasbn.runs",
        "kerasbn.training",
    },
    "kerasbn.reports": GROUND
    | {
        "kerasbn.experiments",
        "kerasbn.plotting",
        "kerasbn.probes",
        "kerasbn.runs",
        "kerasbn.sweeps",
        "kerasbn.training",
    },
    "kerasbn.inference": GROUND
    | {
        "kerasbn.data",
        "kerasbn.folding",
        "kerasbn.keras_internals",
        "kerasbn.runs",
        "kerasbn.saved_models",
    },
    "kerasbn.onnx_export": GROUND
    | {
        "kerasbn.folding",
        "kerasbn.inference",
        "kerasbn.keras_internals",
        "kerasbn.runs",
        "kerasbn.saved_models",
    },
}
HEAVY = (
    "tensorflow", "keras", "tf2onnx", "matplotlib", "onnx", "onnx_ir", "onnxruntime", "numpy",
)  # fmt: skip


def modules_of(package: str) -> list[Path]:
    path = ROOT / package.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def own_imports(path: Path) -> set[str]:
    """The parts of kerasbn that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {".".join(name.split(".")[:2]) for name in found if name.startswith("kerasbn.")}


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_run_downward(package: str) -> None:
    for path in modules_of(package):
        upward = own_imports(path) - ALLOWED[package] - {package, "kerasbn.__version__"}
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}"


def test_every_part_has_its_place() -> None:
    parts = {
        f"kerasbn.{path.stem}"
        for path in (ROOT / "kerasbn").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts - set(ALLOWED) == {"kerasbn.__init__", "kerasbn.__main__"}


def test_nothing_imports_cli_by_its_folder_name() -> None:
    for path in sorted(ROOT.glob("*/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            assert not [n for n in names if n.split(".")[0] == "cli"], path


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


def test_keras_loads_no_scikit_learn_for_a_command() -> None:
    code = """
import sys
from kerasbn.keras_internals import quiet_tensorflow
quiet_tensorflow()
import keras.wrappers
assert "sklearn" not in sys.modules
import sklearn.utils
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", kerasbn.__all__)
def test_public_names_can_be_had(name: str) -> None:
    assert getattr(kerasbn, name) is not None
