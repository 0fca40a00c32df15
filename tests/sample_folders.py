"""Folders for tests: written through `new_folder`, and what lies in them."""

from pathlib import Path

from kerasbn.common.folders import new_folder


def make_folder(parent: Path, name: str, content: str, **how: bool) -> Path:
    """Write a folder with one file, and return where it is."""
    with new_folder(parent, name, **how) as folder:  # type: ignore[arg-type] # no `start` here
        (folder.path / "record").write_text(content)
    assert folder.placed
    return folder.placed


def names(folder: Path) -> list[str]:
    """Return the sorted names of what lies in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())
