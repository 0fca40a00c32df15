"""`--custom` and `--trust`, for every command that reads a Keras model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.backend.common import global_state

Kerasbn = Callable[..., tuple[int, str, str]]

LAYERS = """
import keras

class Doubling(keras.layers.Layer):
    def call(self, x):
        return x * 2

@keras.saving.register_keras_serializable("own")
class Shift(keras.layers.Layer):
    def call(self, x):
        return x + 1

def bent(x):
    return keras.ops.abs(x)
"""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Undo what a command leaves in the process, where usually there is no second one."""
    known = dict(keras.saving.get_custom_objects())
    yield
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(known)
    global_state.set_global_attribute("safe_mode_saving", None)


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A model file with custom layers and a custom function, beside `layers.py` with their code."""
    names: dict[str, object] = {"__name__": "layers"}
    (tmp_path / "layers.py").write_text(LAYERS)
    exec(LAYERS, names)  # noqa: S102 - the text above
    x = keras.Input((4,), name="x")
    y = keras.layers.BatchNormalization(name="bn")(keras.layers.Dense(4, name="dense")(x))
    y = keras.layers.Activation(names["bent"])(names["Shift"]()(names["Doubling"]()(y)))  # type: ignore[operator]
    suffix = getattr(request, "param", ".keras")
    keras.Model(x, y).save(tmp_path / f"model{suffix}")
    keras.saving.get_custom_objects().clear()
    return tmp_path / f"model{suffix}"


@pytest.mark.parametrize("own", [".keras", ".h5"], indirect=True)
def test_custom_classes_and_functions_load(kerasbn: Kerasbn, own: Path) -> None:
    code, _, err = kerasbn("fold", own)
    assert code == 2
    assert "a model with custom classes (" in err
    assert "--custom FILE.py" in err
    code, out, err = kerasbn("fold", own, "--custom", own.with_name("layers.py"))
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "1 of 1 BN layers folded."


@pytest.mark.slow
def test_the_other_commands_take_custom_code_as_well(kerasbn: Kerasbn, own: Path) -> None:
    custom, onnx = ("--custom", own.with_name("layers.py")), own.with_suffix(".onnx")
    np.savez(own.with_name("data.npz"), x=np.ones((20, 4), "float32"))
    for arguments in (
        ("export", onnx, "--model", own),
        ("verify", onnx, "--against", own),
        ("recalibrate", own, "--data", own.with_name("data.npz")),
    ):
        assert "--custom FILE.py" in kerasbn(*arguments, *(("--json",)))[2]
        code, _, err = kerasbn(*arguments, *custom)
        assert (code, err) == (0, ""), arguments
        keras.saving.get_custom_objects().clear()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\n\ny = x / 0\n", "line 3: failed with ZeroDivisionError: division by zero;"),
        ("def f(:\n    pass\n", "line 1: failed with SyntaxError: "),
        ("import absent_package\n", "line 1: failed with ModuleNotFoundError: "),
        ("def f():\n    raise SystemExit(3)\nf()\n", "line 2: failed with SystemExit: 3;"),
        (None, "received no such file, expected a Python file"),
    ],
)
def test_errors_in_custom_code_name_the_line(
    kerasbn: Kerasbn, own: Path, text: str | None, line: str
) -> None:
    file = own.with_name("bad.py")
    if text is not None:
        file.write_text(text)
    code, _, err = kerasbn("fold", own, "--custom", file)
    assert (code, len(err.splitlines())) == (2, 1)
    assert str(file) in err
    assert line in err


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_is_run_only_with_trust(
    kerasbn: Kerasbn, tmp_path: Path, suffix: str
) -> None:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.layers.Lambda(lambda x: x * 3)(keras.layers.Dense(2)(x)))
    model.save(tmp_path / f"model{suffix}")
    code, _, err = kerasbn("fold", tmp_path / f"model{suffix}")
    assert code == 2
    assert "with Python code (a lambda)" in err
    assert "--trust" in err
    assert kerasbn("fold", tmp_path / f"model{suffix}", "--trust")[0] == 0
