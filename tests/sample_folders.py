"""Folders for tests: written through `new_folder`, what lies in them, and full disks."""

import shutil
import subprocess
from contextlib import suppress
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


class Disk:
    """A folder that can be on a full disk.

    If mounting is allowed (as root on Linux), it is a small disk of its own. Otherwise this process
    is limited to files of a few bytes, which gives the same error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(path)]
        can_mount = shutil.which("mount") is not None
        self._is_mounted = can_mount and not subprocess.run(mount, capture_output=True).returncode

    def fill(self) -> None:
        """Leave no room."""
        if not self._is_mounted:
            self._limit(16)
            return
        with suppress(OSError), (self.path / "fills it").open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Make room again."""
        if self._is_mounted:
            (self.path / "fills it").unlink(missing_ok=True)
        else:
            self._limit(-1)

    def close(self) -> None:
        """Unmount it, if it was."""
        self.free()
        if self._is_mounted:
            subprocess.run(["umount", str(self.path)], check=True)

    def _limit(self, size: int) -> None:
        import resource  # not on Windows

        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most if size < 0 else size, most))
