"""Where `kerasbn` and `python -m kerasbn` begin and end."""

import atexit
import io
import os
import signal
import sys
from contextlib import suppress

# Keras calls itself once for each of the layers in a row when it builds a model. Calls of Python
# functions take no room on the stack of the process.
DEEPEST = 100_000


def start() -> None:
    """Run the command line, and leave with its exit code.

    A Ctrl-C while it is still being loaded ends as a later one does. In the end the process goes at
    once: an interpreter that first clears away what TensorFlow loaded takes another second.
    """
    os.environ["MPLBACKEND"] = "agg"  # figures are only saved
    # TensorFlow would fill the memory of every GPU, in commands too that compute little.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    sys.setrecursionlimit(DEEPEST)
    code = 1  # that of an error which is kerasbn's own fault, whose traceback Python prints
    # What is registered first runs last: whatever else wants to end in order has done so by then.
    atexit.register(lambda: _leave(code))
    _open_streams()
    try:
        from kerasbn.cli.main import main

        main()
        code = 0
    except KeyboardInterrupt:
        print("kerasbn: stopped", file=sys.stderr)  # noqa: T201 - click may not be there yet
        code = 130
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # as late as this, without a traceback
            signal.signal(number, signal.SIG_DFL)


def _open_streams() -> None:
    """Open closed standard streams on the null device; replace what an encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the next descriptor to be opened is the closed one
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _leave(code: int) -> None:
    """End the process without clearing it away."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it is full or closed, which was reported before
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    start()
