"""Loading and saving Keras models, with one line that says why a file cannot be used."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasbn.common.errors import InputError, expected, quoted
from kerasbn.common.files import atomic_write, check_archive, check_new_file

if TYPE_CHECKING:
    import keras

MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
_ADVICE = "save the whole model with model.save"


def load_model(path: Path | str) -> "keras.Model":
    """Load a model from a `.keras`, `.h5` or `.hdf5` file, uncompiled.

    Keras safe mode stays on: no code in the file is run, so a Lambda layer with Python code is
    refused. A changed byte in a `.keras` file is found by its checksum. `.h5` files have none, so
    there only damage to the structure is found, not to the numbers.
    """
    path = Path(path)
    _check_file(path)
    # Loaded only here, so that a wrong file name is reported at once.
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # on a damaged file zip, HDF5, JSON and Keras raise almost anything
        raise _reason(path, error) from error
    if not isinstance(model, keras.Model):
        raise expected(path, f"a {type(model).__name__}", "a model", _ADVICE)
    return model


def save_model(model: "keras.Model", path: Path) -> None:
    """Save a model as a `.keras` file, complete or not at all."""
    check_new_file(path, ".keras")
    with atomic_write(path) as temporary:
        try:
            model.save(temporary)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise InputError(f"{path}: Keras cannot save this model ({quoted(error)})") from error


def _check_file(path: Path) -> None:
    """Check what can be checked without Keras: existence, suffix and archive."""
    suffixes = ", ".join(MODEL_SUFFIXES)
    if path.is_dir():
        raise expected(path, "a folder", f"a file ending in {suffixes}", _ADVICE)
    if not path.exists():
        raise expected(path, "no such file", "a saved model")
    if path.suffix not in MODEL_SUFFIXES:
        found = f"a file ending in '{path.suffix}'" if path.suffix else "a file without a suffix"
        raise expected(path, found, f"one ending in {suffixes}", _ADVICE)
    if path.suffix == ".keras":
        try:
            check_archive(path, "a saved model")
            with zipfile.ZipFile(path) as archive:
                damaged, names = archive.testzip(), archive.namelist()
        except InputError:
            raise
        except PermissionError as error:
            raise InputError(f"{path}: cannot be read; change its permissions") from error
        except Exception as error:  # zipfile raises a dozen kinds on damaged archives
            raise _damaged(path) from error
        if damaged is not None:
            raise _damaged(path)
        if "config.json" not in names:
            raise expected(path, "an archive without config.json", "a saved model", _ADVICE)


def _damaged(path: Path) -> InputError:
    return expected(
        path, "a file that is truncated or damaged", "an intact model file", "copy or save it again"
    )


def _reason(path: Path, error: Exception) -> InputError:
    """Return the error for a file that Keras could not load."""
    (config, version), text = _configuration(path), quoted(error, longest=None)
    if version.startswith("2."):
        advice = "rebuild it in Keras 3 and load its weights"
        if path.suffix == ".keras":  # Keras 3 reads more of the older format
            advice = f"save it with Keras 2 as .h5, or {advice}"
        found = f"a model of Keras 2 that Keras 3 cannot build ({text.partition('. ')[0][:200]})"
        return expected(path, found, "a model of Keras 3", advice)
    if "__lambda__" in json.dumps(config) or "lambda" in text.lower():
        return expected(
            path, "a model with Python code (a lambda)", "layers that need no code from the file",
            "replace it with keras.ops or a layer, and save the model again",
        )  # fmt: skip
    # A .keras file names the module of every class; for .h5 only Keras's message names one.
    unknown = sorted(set(_custom_classes(config))) or re.findall(
        r"(?:Unknown layer|Could not locate class): ?'(\w+)'", text
    )
    if unknown:
        return expected(
            path, f"a model with custom classes ({', '.join(unknown)})", "layers of Keras alone",
            "load it in Python, where these classes are known, and use kerasbn.fold(model)",
        )  # fmt: skip
    if "No model config" in text:
        return expected(path, "weights without a model", "a whole model", _ADVICE)
    if config is not None:
        return InputError(
            f"{path}: the file is intact, but Keras cannot build its model ({text[:200]}); "
            "save it again with the installed version of Keras"
        )
    return _damaged(path)


def _configuration(path: Path) -> tuple[Any, str]:
    """Return the configuration of the model in a file and the version of Keras that wrote it.

    If they cannot be read, the configuration is None and the version is empty.
    """
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                about = json.loads(archive.read("metadata.json"))
                return json.loads(archive.read("config.json")), str(about["keras_version"])
        import h5py

        with h5py.File(path) as file:
            return json.loads(file.attrs["model_config"]), str(file.attrs.get("keras_version"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None, ""


def _custom_classes(config: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Yield the names of all classes and functions in a configuration that are not Keras's own."""
    if isinstance(config, dict):
        module, name = config.get("module"), config.get("class_name")
        if isinstance(module, str) and isinstance(name, str):
            if name == "function" and module == "builtins":
                yield str(config.get("config"))
            elif module.split(".")[0] not in ("keras", "builtins"):
                yield name
        elif "module" in config and isinstance(name, str):  # a class registered by its name alone
            yield name
        for value in config.values():
            yield from _custom_classes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _custom_classes(value)
