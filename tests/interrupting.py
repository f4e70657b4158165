"""A Ctrl-C at a line of ours, for programs that a test runs in a process of their own."""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def interrupt_at(step: int, is_ours: Callable[[str], bool]) -> Callable[[], int]:
    """Interrupt this program at the `step`th line (from 1) that runs of our files; return how many have run."""
    seen = 0

    def line(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == step:
                signal.raise_signal(signal.SIGINT)
        return line

    def call(frame: FrameType, event: str, arg: object) -> Any:
        return line if is_ours(frame.f_code.co_filename) else None

    sys.settrace(call)
    return lambda: seen
