"""Ctrl-C at each step of a piece of code."""

import signal
import sys
from collections.abc import Callable, Iterator
from inspect import CO_GENERATOR
from itertools import count
from types import FrameType, ModuleType
from typing import Any


def stops_at_each_step(act: Callable[[], object], *modules: ModuleType) -> Iterator[bool]:
    """Call `act` again and again, with Ctrl-C at its first step, its second and so on.

    A step is a line or the return of a function in `modules`, without the yields of generators:
    right after them Python may stop before the `with` block, which no code can prevent. Yields
    after each call whether `act` was stopped, and ends after the first call with fewer steps.
    """
    files = {each.__file__ for each in modules}
    for number in count(1):
        step = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal step
            if frame.f_code.co_filename not in files:
                return None
            if event == "line" or (event == "return" and not frame.f_code.co_flags & CO_GENERATOR):
                step += 1
                if step == number:  # noqa: B023 - it is called only in this round
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGINT)
            return trace

        previous = sys.gettrace()
        sys.settrace(trace)
        try:
            act()
            stopped = False
        except KeyboardInterrupt:
            stopped = True
        finally:
            sys.settrace(previous)
        if step < number:
            return
        yield stopped
