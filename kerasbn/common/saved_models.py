"""Loading and saving Keras models, with one line that says why a file cannot be used."""

import inspect
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from mmap import ACCESS_READ, mmap
from pathlib import Path
from struct import unpack_from
from traceback import extract_tb
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kerasbn.common import keras_internals
from kerasbn.common.errors import InputError, expected, quoted
from kerasbn.common.files import atomic_write, check_archive, check_file, check_new_file

if TYPE_CHECKING:
    import keras

SAVED_MODEL = "saved_model.pb"  # in the folders of that format
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
_ADVICE = "save the whole model with model.save"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\1\0\0\0"
_BEGINNINGS = {".keras": b"PK\3\4", ".h5": _HDF5, ".hdf5": _HDF5}
# How Keras names a class or function that it does not know.
_UNKNOWN = (
    r"(?:Unknown [\w ]+: ?|Could not (?:locate|deserialize) (?:class|function) |"
    r"Cannot deserialize object of type )['`]([^'`]+)['`]"
)


def load_model(path: Path | str) -> "keras.Model":
    """Load a model from a `.keras`, `.h5` or `.hdf5` file or a SavedModel folder, uncompiled.

    Custom classes must be registered with Keras. No code in the file is run, so a Lambda layer with
    Python code is refused, unless `keras.config.enable_unsafe_deserialization()` was called. A
    changed byte in a `.keras` file is found by its checksum. `.h5` files have none, so
    there only damage to the structure is found, not to the numbers.
    """
    path = Path(path)
    _check_file(path)
    # Loaded only here, so that a wrong file name is reported at once.
    import keras

    config, version = _configuration(path)
    try:
        if version.startswith("2."):
            from kerasbn.common import keras2, keras2_files

            if unknown := keras2.unknown_classes(config):
                raise _custom(path, unknown)
            model = keras2_files.load_keras_2(path, config)
        else:
            safe = keras_internals.in_safe_mode()
            model = keras.saving.load_model(path, compile=False, safe_mode=safe)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # on a damaged file zip, HDF5, JSON and Keras raise almost anything
        raise _reason(path, error) from error
    if not isinstance(model, keras.Model):
        raise expected(path, f"a {type(model).__name__}", "a model", _ADVICE)
    return model


def allow_code(custom: Iterable[Path] = (), *, trust: bool = False) -> None:
    """Register the code that models need: `custom` files are run, and code in model files allowed.

    All classes and functions of a Python file that are not Keras's own become custom objects of
    Keras for the rest of the process. With `trust`, loading a model runs the code of its Lambda
    layers, whatever it does.

    Raises:
        InputError: if a file is missing or fails; the line names where.
    """
    import keras

    for path in custom:
        check_file(path, "a Python file")
        for name, each in vars(_run(path)).items():
            is_own = not (getattr(each, "__module__", None) or "keras").startswith("keras.")
            if is_own and (inspect.isfunction(each) or hasattr(each, "from_config")):
                keras.saving.get_custom_objects()[name] = each
    if trust:
        keras.config.enable_unsafe_deserialization()


def _run(path: Path) -> ModuleType:
    """Run a Python file as a module of its own."""
    spec = spec_from_file_location(path.stem, path, loader=SourceFileLoader(path.stem, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever that code raises
        lines = [
            each.lineno for each in extract_tb(error.__traceback__) if each.filename == str(path)
        ]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1]
        said = f"{type(error).__name__}: {quoted(error)}"
        raise InputError(f"{path}, line {line}: failed with {said}; correct this file") from error
    return module


def save_model(model: "keras.Model", path: Path) -> None:
    """Save a model as a `.keras` file, complete or not at all."""
    check_new_file(path, ".keras")
    with atomic_write(path) as temporary:
        try:
            model.save(temporary)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise InputError(f"{path}: Keras cannot save this model ({quoted(error)})") from error


def _custom(path: Path, names: list[str]) -> InputError:
    return expected(
        path, f"a model with custom classes ({', '.join(names)})", "layers of Keras alone",
        "name the file with their code (--custom FILE.py), or register them with Keras in Python",
    )  # fmt: skip


def _check_file(path: Path) -> None:
    """Check what can be checked without Keras: existence, suffix and archive."""
    if (path / SAVED_MODEL).is_file():
        return
    suffixes = ", ".join(MODEL_SUFFIXES)
    check_file(path, f"a saved model ending in {suffixes}", _ADVICE)
    if path.suffix not in MODEL_SUFFIXES:
        found = f"a file ending in '{path.suffix}'" if path.suffix else "a file without a suffix"
        raise expected(path, found, f"one ending in {suffixes}", _ADVICE)
    if path.suffix == ".keras":
        try:
            check_archive(path, "a saved model")
            with zipfile.ZipFile(path) as archive:
                damaged, names = archive.testzip(), archive.namelist()
                packed = [
                    archive.read(each)
                    for each in archive.infolist()
                    if each.filename.endswith(".h5") and each.compress_type
                ]
        except InputError:
            raise
        except Exception as error:  # zipfile raises a dozen kinds on damaged archives
            raise _damaged(path) from error
        if damaged is not None:
            raise _damaged(path)
        if len(set(names)) < len(names):  # only the last one of a name was checked
            raise _damaged(path, "it has two members of one name")
        if "config.json" not in names:
            raise expected(path, "an archive without config.json", "a saved model", _ADVICE)
    else:
        packed = []
    if path.stat().st_size == 0:  # what cannot be mapped
        return
    # HDF5 files in an archive are rarely packed: they are found in it as they are.
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        contents: list[bytes | mmap] = [content, *packed]
        if not all(map(_has_intact_heaps, contents)):
            raise _damaged(path, "a text in it has no end")


def _has_intact_heaps(content: bytes | mmap) -> bool:
    """Return whether the objects of each global heap, which hold texts, fill it one by one.

    HDF5 1.14 reads an object of no length without end. See "Global Heap" in the specification of
    its file format: a number, 0 for free space, and a size, which counts the header only there.
    """
    start = content.find(_HEAP)
    while start >= 0:
        at, end = start + 16, start + int.from_bytes(content[start + 8 : start + 16], "little")
        while at + 16 <= min(end, len(content)):
            number, size = unpack_from("<H6xQ", content, at)
            size = size if number == 0 else 16 + (size + 7) // 8 * 8
            if not 0 < size <= end - at:
                return False
            at += size
        start = content.find(_HEAP, start + 1)
    return True


def _damaged(path: Path, reason: str = "") -> InputError:
    """Return the error for a file that is not of the format its suffix names, or breaks off."""
    with path.open("rb") as file:
        beginning = file.read(len(_BEGINNINGS[".h5"]))
    actual = next((each for each, start in _BEGINNINGS.items() if beginning.startswith(start)), "")
    if not beginning:
        found, advice = "an empty file", "copy or save it again"
    elif not actual:
        found, advice = f"a file that does not begin as a {path.suffix} file", _ADVICE
    elif beginning.startswith(_BEGINNINGS[path.suffix]):
        why = f" ({reason[:200]})" if reason else ""
        found, advice = f"a file that is truncated or damaged{why}", "copy or save it again"
    else:
        found, advice = f"a file in the format of {actual} files", f"make its name end in {actual}"
    return expected(path, found, "an intact model file", advice)


def _reason(path: Path, error: Exception) -> InputError:
    """Return the error for a file that Keras could not load."""
    import keras

    (config, version), text = _configuration(path), keras_internals.cause(error)
    if "Python lambda" in text or "is a Python lambda" in str(error):
        return expected(
            path, "a model with Python code (a lambda)", "layers that need no code from the file",
            "replace it with keras.ops or a layer, or run that code if you trust it (--trust)",
        )  # fmt: skip
    if re.search(_UNKNOWN, text):
        # A .keras file names the module of every class; for .h5 only Keras's message names one.
        unknown = sorted(set(_custom_classes(config))) or re.findall(_UNKNOWN, text)
        return _custom(path, unknown)
    if version.startswith("2."):
        found = f"a model of Keras 2 that Keras 3 cannot build ({text})"
        advice = "rebuild it in Keras 3 and load its weights"
        return expected(path, found, "a model of Keras 3", advice)
    if path.is_dir() and config is None:
        return expected(
            path, "a SavedModel folder without a readable configuration of Keras",
            "one that Keras 2 saved with model.save", "save the model as .keras, or as .h5",
        )  # fmt: skip
    if "No model config" in text:
        return expected(path, "weights without a model", "a whole model", _ADVICE)
    if config is None or isinstance(error, OSError):
        return _damaged(path, text)
    if (saved_by := _release(version)) > (own := _release(keras.__version__)):
        newer, older = (".".join(map(str, release)) for release in (saved_by, own))
        return expected(
            path, f"a model of Keras {newer} that Keras {older} cannot build ({text})",
            f"a model of Keras {older} or older", f"save it with Keras {older}",
        )  # fmt: skip
    return InputError(
        f"{path}: Keras {keras.__version__} cannot build this model ({text}); "
        "save it again with this version"
    )


def _release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; none if it is no version."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", version)
    return tuple(map(int, found.groups())) if found else ()


def _configuration(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the configuration of the model in a file and the version of Keras that wrote it.

    If they cannot be read, the configuration is None and the version is empty.
    """
    config, version = None, ""
    with suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
        if path.is_dir():
            saved = json.loads(keras_internals.configuration_of_saved_model(path))
            config, version = saved, str(saved["keras_version"])
        elif path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
                version = str(json.loads(archive.read("metadata.json"))["keras_version"])
        else:
            import h5py

            with h5py.File(path) as file:
                config = json.loads(file.attrs["model_config"])
                version = str(file.attrs.get("keras_version"))
    return config if isinstance(config, dict) else None, version


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
