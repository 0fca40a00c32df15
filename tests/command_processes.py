"""Processes that run commands, to be killed: fresh ones, or quick ones that only look so.

A process of kerasbn spends most of its time importing TensorFlow. A forked one is the child of a
server that has imported it, but has run no operation. It has its own memory, signals and exit code.
The workers of a sweep are its children in the same way.
"""

import atexit
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from abc import ABC, abstractmethod
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

# A setup for commands that train: XLA takes longer to compile than to train a few epochs.
WITHOUT_XLA = """
from functools import partial
from kerasbn.training import loop
loop.TrainingLoop = partial(loop.TrainingLoop, compiled=False)
"""
_HERE = str(Path(__file__).parent)
_SERVER = multiprocessing.get_context("forkserver")


class Command(ABC):
    """A command that runs in a folder, after some Python code in its process, the setup."""

    pid: int

    @abstractmethod
    def is_running(self) -> bool:
        """Return whether it still runs."""

    @abstractmethod
    def wait(self) -> tuple[int, str]:
        """Wait for it and whatever it started; return its exit code and what it printed."""

    def kill(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.is_running():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)


class FreshCommand(Command):
    """A command in a new process."""

    def __init__(self, command: str, folder: Path, setup: str = "") -> None:
        start = f"{setup}\nfrom kerasbn.__main__ import start; start()"
        python = [sys.executable, *(["-c", start] if setup else ["-m", "kerasbn"])]
        self._process = subprocess.Popen(
            [*python, *shlex.split(command)],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "TMPDIR": str(_temporary(folder)), "PYTHONPATH": _HERE},
            preexec_fn=_handle_ctrl_c,
        )  # fmt: skip
        self.pid = self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> tuple[int, str]:
        output, _ = self._process.communicate()
        return self._process.returncode, output


class ForkedCommand(Command):
    """A command in a child of the server; `errors`, if any, is a file for its standard error."""

    def __init__(
        self, command: str, folder: Path, setup: str = "", errors: Path | None = None
    ) -> None:
        _start_server()
        self._output, far_end = _SERVER.Pipe(duplex=False)
        self._process = _SERVER.Process(target=_run, args=(far_end, command, folder, setup, errors))
        self._process.start()
        far_end.close()
        assert self._process.pid
        self.pid = self._process.pid

    def is_running(self) -> bool:
        return self._process.is_alive()

    def wait(self) -> tuple[int, str]:
        # Its workers write there too: the end of the file comes with the end of the last.
        with open(self._output.fileno(), errors="replace", closefd=False) as file:
            output = file.read()
        self._output.close()
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        return code, output


def run_forked(command: str, folder: Path, setup: str = "") -> tuple[int, str, str]:
    """Run a command in a child of the server; return its exit code, standard output and error."""
    errors = _temporary(folder) / "stderr"
    code, output = ForkedCommand(command, folder, setup, errors).wait()
    return code, output, errors.read_text()


def _start_server() -> None:
    """Start the server, if that is still to be done; its children ignore SIGINT at first."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    _SERVER.set_forkserver_preload(["preloaded"])
    with patch.dict(os.environ, PYTHONPATH=_HERE):
        forkserver.ensure_running()
    signal.signal(signal.SIGINT, before)


def _run(output: Connection, command: str, folder: Path, setup: str, errors: Path | None) -> None:
    """Run a command as a fresh process does, and leave as it does."""
    os.dup2(output.fileno(), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if errors else 1, 2)
    output.close()
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - until the process ends
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - as above
    os.chdir(folder)
    os.environ["TMPDIR"] = str(_temporary(folder))
    tempfile.tempdir = None
    sys.argv = ["kerasbn", *shlex.split(command)]
    exec(setup)  # noqa: S102 - a line of the case
    from kerasbn.__main__ import start
    from kerasbn.sweeps import process_pool

    process_pool.CONTEXT = multiprocessing.get_context("fork")  # type: ignore[assignment] # instead of spawn
    _handle_ctrl_c()
    try:
        start()
    except Exception:  # noqa: BLE001 - as an interpreter that ends with it
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined] # what an interpreter does at its end
        atexit._run_exitfuncs()


def _temporary(folder: Path) -> Path:
    """Return the folder beside that of a command which its temporary files go into."""
    temporary = folder.with_name(f"{folder.name}-tmp")
    temporary.mkdir(exist_ok=True)
    return temporary


def _handle_ctrl_c() -> None:
    """Let SIGINT interrupt, as in a terminal; a background job ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
