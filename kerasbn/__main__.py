"""Where `kerasbn` and `python -m kerasbn` begin and end."""

import atexit
import os
import sys
from contextlib import suppress


def start() -> None:
    """Run the command line, and leave with its exit code.

    A Ctrl-C while it is still being loaded ends as a later one does. In the end the process goes at
    once: an interpreter that first clears away what TensorFlow loaded takes another second.
    """
    code = 1  # that of an error which is kerasbn's own fault, whose traceback Python prints
    # What is registered first runs last: whatever else wants to end in order has done so by then.
    atexit.register(lambda: _leave(code))
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


def _leave(code: int) -> None:
    """End the process without clearing it away."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it is full or closed, which was told before
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    start()
