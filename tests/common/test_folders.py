"""Folders appear when they are complete; unfinished ones are locked, kept or cleared."""

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from sample_folders import make_folder, names
from sample_stops import stops_at_each_step

from kerasbn.common import files, folders
from kerasbn.common.errors import InputError, StoppedError
from kerasbn.common.folders import (
    CHECKPOINT,
    SESSION,
    is_being_written,
    new_folder,
    resumable_folder,
)

LEAVE_UNFINISHED = """
import os, sys
from pathlib import Path
from kerasbn.common.folders import CHECKPOINT, new_folder
with new_folder(Path(sys.argv[1]), "run") as folder:
    (folder.path / sys.argv[2]).mkdir()
    (folder.path / sys.argv[2] / "session.json").write_text("half")
    os._exit(0)
"""


def leave_unfinished(parent: Path, what: str) -> None:
    """A process that writes `what` into the folder `run` dies."""
    subprocess.run([sys.executable, "-c", LEAVE_UNFINISHED, parent, what], check=True)


def test_a_taken_name(tmp_path: Path) -> None:
    make_folder(tmp_path, "run", "old")
    with pytest.raises(InputError, match="received a name that is taken"):
        make_folder(tmp_path, "run", "new")
    assert (tmp_path / "run" / "record").read_text() == "old"
    assert make_folder(tmp_path, "run", "new", replace=True) == tmp_path / "run"
    assert (tmp_path / "run" / "record").read_text() == "new"
    assert make_folder(tmp_path, "run", "second", numbered=True) == tmp_path / "run-2"
    assert make_folder(tmp_path, "run", "third", numbered=True) == tmp_path / "run-3"
    assert names(tmp_path) == ["run", "run-2", "run-3"]


def test_the_name_of_an_empty_folder_is_taken(tmp_path: Path) -> None:
    """A rename alone would silently replace an empty folder."""
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="received a name that is taken"):
        make_folder(tmp_path, "run", "new")
    assert make_folder(tmp_path, "run", "new", numbered=True) == tmp_path / "run-2"


def test_the_old_folder_is_restored_if_the_new_one_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, "run", "old")
    monkeypatch.setattr(folders, "_EXCHANGING_CALL", "a call that this system lacks")
    rename = os.rename

    def fail_for_the_new(source: Path, target: Path) -> None:
        if (Path(source) / "record").read_text() == "new":
            raise OSError(5, "Input/output error", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_the_new)
    monkeypatch.setattr(os, "replace", fail_for_the_new)
    with pytest.raises(InputError, match="Input/output error"):
        make_folder(tmp_path, "run", "new", replace=True)
    monkeypatch.undo()
    assert (tmp_path / "run" / "record").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_concurrent_folders_get_different_names(tmp_path: Path) -> None:
    count = 8
    together = threading.Barrier(count)

    def one(number: int) -> Path:
        with new_folder(tmp_path, "run", numbered=True) as folder:
            (folder.path / "record").write_text(str(number))
            together.wait()  # all look for a free name at the same time
        assert folder.placed
        return folder.placed

    for _ in range(20):
        with ThreadPoolExecutor(count) as pool:
            placed = list(pool.map(one, range(count)))
        assert len(set(placed)) == count
        for number, path in enumerate(placed):
            assert (path / "record").read_text() == str(number)
    assert len(names(tmp_path)) == 20 * count


@pytest.mark.parametrize("exchanging_call", ["", folders._EXCHANGING_CALL])
def test_replacing_exchanges_the_two_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanging_call: str
) -> None:
    monkeypatch.setattr(folders, "_EXCHANGING_CALL", exchanging_call)
    make_folder(tmp_path, "run", "old")
    (tmp_path / "run/more").mkdir()
    make_folder(tmp_path, "run", "new", replace=True)
    assert names(tmp_path / "run") == ["record"]
    assert (tmp_path / "run/record").read_text() == "new"
    assert names(tmp_path) == ["run"]


def test_at_no_instant_is_there_no_folder(tmp_path: Path) -> None:
    make_folder(tmp_path, "run", "old")
    missing, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not os.path.exists(tmp_path / "run"):  # noqa: PTH110 - the fastest look there is
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(200):
        make_folder(tmp_path, "run", str(number), replace=True)
    done.set()
    watcher.join()
    assert not missing


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_stop_at_any_step_leaves_complete_folders(
    tmp_path: Path, replaces: bool, complete: bool
) -> None:
    def write() -> None:
        with suppress(StoppedError), new_folder(tmp_path, "run", replace=replaces) as folder:
            (folder.path / "record").write_text("new")
            folder.complete = complete

    run, found = tmp_path / "run", set()
    if replaces:
        make_folder(tmp_path, "run", "old")
    for _ in stops_at_each_step(write, folders, files):
        assert names(tmp_path) in ([], ["run"])
        found.add((run / "record").read_text() if run.exists() else "")
        if run.exists():
            shutil.rmtree(run)
        if replaces:
            make_folder(tmp_path, "run", "old")
    assert found == {"old" if replaces else "", "new"}


def test_a_name_is_taken_from_the_start(tmp_path: Path) -> None:
    with new_folder(tmp_path, "run") as first:
        assert is_being_written(tmp_path / "run")
        with pytest.raises(InputError, match="that another process is writing"):
            make_folder(tmp_path, "run", "second")
        with pytest.raises(InputError, match="that another process is writing"):
            make_folder(tmp_path, "run", "second", replace=True)
        assert make_folder(tmp_path, "run", "second", numbered=True) == tmp_path / "run-2"
    assert first.placed == tmp_path / "run"
    assert not is_being_written(tmp_path / "run")


def test_what_a_dead_process_left_is_cleared_if_it_cannot_be_resumed(tmp_path: Path) -> None:
    leave_unfinished(tmp_path, "something")
    assert names(tmp_path) == [".run.part"]
    assert not is_being_written(tmp_path / "run")
    with new_folder(tmp_path, "run") as folder:
        assert folder.cleared
        assert names(folder.path) == []
    assert names(tmp_path) == ["run"]


def test_what_can_be_resumed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_unfinished(tmp_path, CHECKPOINT)
    with pytest.raises(InputError, match=r"unfinished training .*; resume with --resume run, or"):
        make_folder(tmp_path, "run", "new")
    assert make_folder(tmp_path, "run", "new", numbered=True) == tmp_path / "run-2"
    start = resumable_folder(tmp_path / "run")
    assert start
    with new_folder(tmp_path, "run", start=start) as folder:
        assert (folder.path / CHECKPOINT / SESSION).read_text() == "half"
        (folder.path / "record").write_text("resumed")
    assert names(tmp_path) == ["run", "run-2"]
    # An interrupted folder has its name already and is replaced by what goes on from it.
    start = resumable_folder(tmp_path / "run")
    assert start == tmp_path / "run"
    with new_folder(tmp_path, "run", start=start) as folder:
        assert (folder.path / CHECKPOINT / SESSION).read_text() == "half"
        assert (tmp_path / "run" / CHECKPOINT).exists()
    assert names(tmp_path) == ["run", "run-2"]
    # A copy of it that was not completed is none to go on from.
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(folders, "atomic_write", Mock(side_effect=KeyboardInterrupt))
        with new_folder(tmp_path, "run", start=start):
            pass
    assert resumable_folder(tmp_path / "run") == start
    make_folder(tmp_path, "run", "from scratch", replace=True)
    assert resumable_folder(tmp_path / "run") is None


def test_an_error_keeps_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match=r"--resume run$"), new_folder(tmp_path, "run") as folder:  # noqa: PT012 - both lines belong to the block
        (folder.path / CHECKPOINT).mkdir()
        (folder.path / CHECKPOINT / SESSION).touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == [".run.part"]
    with pytest.raises(InputError, match=r"^full; resume with --resume other$"):  # noqa: PT012, SIM117
        with new_folder(tmp_path, "other") as folder:
            (folder.path / CHECKPOINT).mkdir()
            (folder.path / CHECKPOINT / SESSION).touch()
            raise InputError("full")
    assert names(tmp_path) == [".other.part", ".run.part"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(InputError("curves.png: no"), InputError), (KeyboardInterrupt(), StoppedError)],
)
def test_what_is_complete_survives_a_later_error(
    tmp_path: Path, error: BaseException, raised: type[BaseException]
) -> None:
    with (  # noqa: PT012 - as above
        pytest.raises(raised, match=f"what was finished is kept as {tmp_path}/run$"),
        new_folder(tmp_path, "run") as folder,
    ):
        (folder.path / "record").write_text("trained")
        folder.complete = True
        raise error
    assert (tmp_path / "run/record").read_text() == "trained"
    bug = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"), new_folder(tmp_path, "other") as folder:  # noqa: PT012
        folder.complete = True
        raise bug
    assert bug.__notes__ == [f"what was finished is kept as {tmp_path}/other"]


def test_a_name_that_is_taken_in_the_meantime(tmp_path: Path) -> None:
    with (  # noqa: PT012 - as above
        pytest.raises(InputError, match=rf"in the meantime, .* it is kept as {tmp_path}/run-2$"),
        new_folder(tmp_path, "run") as folder,
    ):
        (folder.path / "record").write_text("trained")
        (tmp_path / "run").mkdir()
    assert (tmp_path / "run-2/record").read_text() == "trained"
