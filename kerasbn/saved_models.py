"""Saved Keras networks, read or written whole, or one line that says why not."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasbn.errors import InputError, expected, quoted
from kerasbn.files import atomic_write, check_new_file

if TYPE_CHECKING:
    import keras

SUFFIXES = (".keras", ".h5", ".hdf5")


def load_model(path: Path | str) -> "keras.Model":
    """Give the network saved in a `.keras`, `.h5` or `.hdf5` file, not compiled.

    Keras safe mode stays on: no code from the file is run, so a Lambda layer that carries Python
    code is refused. A changed byte in a `.keras` file is found by its checksum; `.h5` has none,
    so there only damage to the structure is found, not to the numbers.

    Raises:
        InputError: if there is no such file, or it holds no network, is damaged, or needs classes
            that this program doesn't know.
    """
    path = Path(path)
    _check_kind(path)
    # Keras is loaded here and not above, so that naming a wrong file is answered at once.
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # damaged, it makes zip, HDF5, JSON or Keras raise almost anything
        raise _in_words(path, error) from error
    if not isinstance(model, keras.Model):
        raise expected(
            path, f"a {type(model).__name__}", "a network", "save the whole model with model.save"
        )
    return model


def save_model(model: "keras.Model", path: Path) -> None:
    """Write a network as a `.keras` file that is whole or not there.

    Raises:
        InputError: if it cannot be written there, or holds what Keras cannot save.
    """
    check_new_file(path, ".keras")
    with atomic_write(path) as temporary:
        try:
            model.save(temporary)
        except (TypeError, ValueError, NotImplementedError) as error:
            said = f"{path}: Keras cannot save this network ({quoted(error)})"
            raise InputError(said) from error


def _check_kind(path: Path) -> None:
    """Say what can be said without Keras: is there a file, of a known kind, whole?"""
    advice = "give a network saved by model.save"
    if path.is_dir():
        raise expected(path, "a folder", f"a file ending in {', '.join(SUFFIXES)}", advice)
    if not path.exists():
        raise expected(path, "no such file", "a saved network", advice)
    if path.suffix not in SUFFIXES:
        kind = f"a file ending in '{path.suffix}'" if path.suffix else "a file without an ending"
        raise expected(path, kind, f"one ending in {', '.join(SUFFIXES)}", advice)
    if path.suffix == ".keras":
        _check_zip(path)


def _check_zip(path: Path) -> None:
    """Read a `.keras` file through, so that its checksums speak."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = archive.namelist()
    except PermissionError as error:
        raise InputError(f"{path}: may not be read; change its permissions") from error
    except Exception as error:  # zipfile raises a dozen kinds on damaged archives
        raise _damaged(path) from error
    if damaged is not None:
        raise _damaged(path)
    if "config.json" not in names:
        raise expected(
            path, "an archive without config.json", "a saved network", "save it with model.save"
        )


def _damaged(path: Path) -> InputError:
    return expected(
        path, "a file that is truncated or damaged", "a whole saved network", "copy or save it anew"
    )


def _in_words(path: Path, error: Exception) -> InputError:
    """One line for whatever Keras raised while it read `path`."""
    config = _config_of(path)
    text = quoted(error, longest=None)
    if "__lambda__" in json.dumps(config) or "lambda" in text.lower():
        return expected(
            path,
            "a network that carries Python code (a lambda)",
            "layers that can be read without running code",
            "replace it by keras.ops or a layer, and save it again",
        )
    # A .keras file names the module of every class; for .h5 only Keras's message names one.
    unknown = sorted(set(_foreign(config))) or re.findall(
        r"(?:Unknown layer|Could not locate class): ?'(\w+)'", text
    )
    if unknown:
        return expected(
            path,
            f"a network with custom classes ({', '.join(unknown)})",
            "layers of Keras alone",
            "load it in Python, where these classes are known, and use kerasbn.fold(model)",
        )
    if "No model config" in text:
        return expected(
            path, "weights without a network", "a whole network", "save it with model.save"
        )
    if config is not None:
        return InputError(
            f"{path}: the file is whole, but Keras cannot build its network ({text[:200]}); "
            "save it with the Keras version that is installed here"
        )
    return _damaged(path)


def _config_of(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """The configuration inside a `.keras` file; None for `.h5` and for what is no JSON."""
    if path.suffix != ".keras":
        return None
    with zipfile.ZipFile(path) as archive:
        try:
            return json.loads(archive.read("config.json"))
        except ValueError:
            return None


def _foreign(config: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Every class and function named anywhere in a configuration that is not Keras's own."""
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
            yield from _foreign(value)
    elif isinstance(config, list):
        for value in config:
            yield from _foreign(value)
