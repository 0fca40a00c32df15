import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from socket import AF_UNIX, socket

import pytest
from sample_folders import make_folder, names
from sample_stops import stops_at_each_step

from kerasbn.common import files
from kerasbn.common.errors import ArgumentError, InputError, KerasbnError
from kerasbn.common.files import atomic_write, check_file, scratch_folder
from kerasbn.common.folders import new_folder


def write(path: Path, content: bytes) -> None:
    with atomic_write(path) as part:
        part.write_bytes(content)


@contextmanager
def one_line(path: Path) -> Iterator[None]:
    """The block raises a one-line error about `path`."""
    with pytest.raises(InputError) as caught:
        yield
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder without write permission; root gives up its privileges for the test."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    (folder / "closed").touch(0o000)
    opened = [parent for parent in (tmp_path, *tmp_path.parents) if parent.stat().st_uid == 0]
    modes = {parent: stat.S_IMODE(parent.stat().st_mode) for parent in opened}
    is_root = os.geteuid() == 0
    if is_root:
        for parent, mode in modes.items():
            parent.chmod(mode | 0o555)
    folder.chmod(0o555)
    if is_root:
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
        for parent, mode in modes.items():
            parent.chmod(mode)
    folder.chmod(0o755)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with atomic_write(path) as part:
        assert part.parent == tmp_path
        assert part.suffix == ".onnx"
        part.write_bytes(b"new, half")
        assert path.read_bytes() == b"old"
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pipe", "a device, pipe or socket"),
        ("socket", "a device, pipe or socket"),
        ("/dev/zero", "a device, pipe or socket"),
        (".", "a folder"),
        ("absent", "no such file"),
        ("file/inside", r"a file that cannot be read \(Not a directory\)"),
        ("x" * 300, r"a file that cannot be read \(File name too long\)"),
        ("\0", r"a file that cannot be read \(embedded null byte\)"),
    ],
)
def test_only_a_regular_file_is_accepted(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with socket(AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        check_file(tmp_path / "file", "a file")
        with pytest.raises(InputError, match=f"received {found}, expected a file; try again"):
            check_file(tmp_path / name, "a file", "try again")


def test_only_a_readable_file_is_accepted(locked: Path) -> None:
    with pytest.raises(InputError, match=r"a file that cannot be read \(Permission denied\)"):
        check_file(locked / "closed", "a file")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, KerasbnError])
def test_an_error_leaves_existing_files_and_folders_unchanged(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(error), atomic_write(tmp_path / "file") as part:  # noqa: PT012 - both lines belong to the block
        part.write_bytes(b"new")
        raise error
    make_folder(tmp_path, "folder", "old")
    with pytest.raises(error), new_folder(tmp_path, "folder", replace=True) as folder:  # noqa: PT012 - as above
        (folder.path / "record").write_text("new")
        raise error
    assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "folder" / "record").read_text() == "old"
    assert names(tmp_path) == ["file", "folder"]


def test_a_full_disk(full_disk: Path) -> None:
    before = names(full_disk)
    with one_line(full_disk / "file"):
        write(full_disk / "file", bytes(100_000))
    with one_line(full_disk / "run"):
        make_folder(full_disk, "run", "x" * 100_000)
    assert names(full_disk) == before


def test_a_folder_that_is_not_writable(locked: Path) -> None:
    for name in ("new", "old"):
        with one_line(locked / name):
            write(locked / name, b"new")
    with one_line(locked / "run"):
        make_folder(locked, "run", "new")
    with one_line(locked / "deep" / "run"):
        make_folder(locked / "deep", "run", "new")
    assert names(locked) == ["closed", "old"]
    assert (locked / "old").read_bytes() == b"old"


def test_a_missing_folder(tmp_path: Path) -> None:
    with one_line(tmp_path / "missing" / "file"):
        write(tmp_path / "missing" / "file", b"")
    assert make_folder(tmp_path / "missing", "run", "").parent == tmp_path / "missing"


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with one_line(tmp_path / "file" / "new"):
        write(tmp_path / "file" / "new", b"")
    with one_line(tmp_path / "file" / "run"):
        make_folder(tmp_path / "file", "run", "")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with one_line(tmp_path / "folder"):
        write(tmp_path / "folder", b"new")
    assert names(tmp_path) == ["folder"]


def test_devices_are_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with one_line(pipe):
        write(pipe, b"new")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


def test_a_link_is_kept_and_its_target_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "model.onnx"
    target.write_bytes(b"old")
    link = tmp_path / "link.onnx"
    link.symlink_to(target)
    write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names(tmp_path / "elsewhere") == ["model.onnx"]


def test_files_and_folders_have_the_default_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "plain folder").mkdir()
    write(tmp_path / "file", b"")
    make_folder(tmp_path, "folder", "")
    for ours, plain in (("file", "plain"), ("folder", "plain folder")):
        assert (tmp_path / ours).stat().st_mode == (tmp_path / plain).stat().st_mode


def test_a_private_file_stays_private(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o600)
    write(tmp_path / "file", b"new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_errors_that_are_not_about_writing_pass_unchanged(tmp_path: Path) -> None:
    """The block may fail for other reasons than writing."""
    out = tmp_path / "out"
    out.mkdir()
    for wrong in (
        FileNotFoundError(2, "No such file", str(tmp_path / "input")),
        FileNotFoundError(2, "No such file", str(out / "input beside it")),
        BrokenPipeError(32, "Broken pipe"),
        TimeoutError("timed out"),
    ):
        with pytest.raises(type(wrong)), atomic_write(out / "file"):
            raise wrong
        with pytest.raises(type(wrong)), new_folder(out, "run"):
            raise wrong
    assert names(out) == []


def test_an_error_in_a_new_folder_names_its_final_path(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=f"^{tmp_path}/run/curves.png: cannot be written"),
        new_folder(tmp_path, "run") as folder,
        atomic_write(folder.path / "curves.png"),
    ):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_an_error_about_an_argument_keeps_its_type(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^seed=-1: received -1"), new_folder(tmp_path, "run"):
        raise ArgumentError("seed", -1, "0 or more")
    assert names(tmp_path) == []


def test_an_error_of_several_lines_becomes_one(tmp_path: Path) -> None:
    """The errors of HDF5 have several lines."""
    with one_line(tmp_path / "model.keras"), atomic_write(tmp_path / "model.keras"):
        raise OSError("cannot write (time = Mon Nov 24\n, errno = 28,\n 'No space left on device')")


def test_concurrent_writers_leave_one_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([65 + i]) * 50_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write(path, content), contents * 10))
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["file"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from kerasbn.common.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as part: part.write_text('half'); os._exit(0)"
    )
    path = tmp_path / "model.onnx"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert len(names(tmp_path)) == 1
    with atomic_write(path) as part:
        part.write_text("one")
        with atomic_write(path) as other:  # a file being written is left alone
            other.write_text("other")
        part.write_text("whole")
    assert names(tmp_path) == ["model.onnx"]
    assert path.read_text() == "whole"


def test_a_stop_at_any_step_leaves_one_complete_file(tmp_path: Path) -> None:
    path, found = tmp_path / "model.onnx", set()
    write(path, b"old")
    for _ in stops_at_each_step(lambda: write(path, b"new"), files):
        assert names(tmp_path) == ["model.onnx"]
        found.add(path.read_bytes())
        write(path, b"old")
    assert found == {b"old", b"new"}


def test_a_stop_at_any_step_leaves_no_scratch_folder(tmp_path: Path) -> None:
    def use() -> None:
        with scratch_folder(tmp_path) as folder:
            (folder / "file").write_bytes(b"content")

    use()  # the first time, tempfile takes a lock, which a stop may leave locked
    for stopped in stops_at_each_step(use, files, tempfile, shutil):
        assert stopped
        assert names(tmp_path) == []
