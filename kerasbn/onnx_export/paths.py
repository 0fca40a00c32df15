"""Where an exported file may go, said before the work and not after it."""

from pathlib import Path

from kerasbn.errors import expected


def check_path(path: Path) -> None:
    """Raise `InputError` unless `path` can become an ONNX file."""
    if path.is_dir():
        raise expected(path, "a folder", "a file ending in .onnx")
    if path.suffix != ".onnx":
        ending = f"'{path.suffix}'" if path.suffix else "nothing"
        raise expected(path, f"a file ending in {ending}", "one ending in .onnx")
    if not path.parent.is_dir():
        raise expected(path, "a folder that does not exist", "an existing one", "make it first")
