"""What inputs have left: tasks, threads, descriptors, state of the process, lines of the log, and their own bytes."""

import gc
import locale
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio

from .kind import expect

MARK = "STRANGER"
"""Stands in what a client without a key sends: none of it may be there when it is gone."""
IDLE = "Trio thread"
"""How a thread is called that trio keeps for a while, and that does nothing."""
MOST_LINES = 30
"""Of the log, for one input."""


def tasks() -> int:
    """How many tasks there are in this run, without those that wait to run a handler: they are kept for the next."""
    root = trio.lowlevel.current_root_task()
    count, waiting = 0, [root]
    while waiting:
        task = waiting.pop()
        if task is not None:
            count += not task.name.endswith("_Workers._work")
            waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return count


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def _state() -> dict[str, Any]:
    """What a process has one of."""
    return {
        "threads": sum(not thread.name.startswith(IDLE) for thread in threading.enumerate()),
        "environment": dict(os.environ), "directory": os.getcwd(), "recursion": sys.getrecursionlimit(),
        "digits": sys.get_int_max_str_digits(),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        "filters": len(warnings.filters), "locale": locale.setlocale(locale.LC_ALL),
        "handlers": [len(logging.getLogger(name).handlers) for name in (None, "triocept", "triocept.http")],
        "levels": [logging.getLogger(name).level for name in (None, "triocept", "triocept.http")],
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "collector": (gc.isenabled(), gc.get_threshold()),
    }  # fmt: skip


@contextmanager
def same_process() -> Iterator[None]:
    """The process is as it was when this ends well: no thread, descriptor, or setting has come or gone."""
    before, open_before = _state(), descriptors()
    yield
    gc.collect()
    for name, now in _state().items():
        alike = now <= before[name] if name == "threads" else now == before[name]  # an idle one may have gone
        expect(alike, "the process has changed", f"{name}: {before[name]} became {now}")
    expect(descriptors() <= open_before, "descriptors are left", f"{open_before} became {descriptors()}")


def held_bytes(least: int = 512) -> int:
    """The bytes of all texts and bytes of at least so many that have the mark in them, wherever they are kept."""
    gc.collect()
    found: dict[int, int] = {}
    for holder in gc.get_objects():
        for value in gc.get_referents(holder):
            kind = type(value)
            if kind is str:
                marked = len(value) >= least and MARK in value
            elif kind is bytes or kind is bytearray:
                marked = len(value) >= least and MARK.encode() in value
            elif kind is tuple and not gc.is_tracked(value):
                for inner in value:
                    if type(inner) is str and len(inner) >= least and MARK in inner:
                        found[id(inner)] = len(inner)
                continue
            else:
                continue
            if marked:
                found[id(value)] = len(value)
    return sum(found.values())


class LogWatch(logging.Handler):
    """Reads the log: it has one line for one thing, no traceback, and nothing that steers a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._bad: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        self.lines.append(line)
        if record.exc_info is not None and record.exc_info[0] is not None:
            shown = logging.Formatter().formatException(record.exc_info)
            self._bad.append(("a traceback is in the log", f"{line}\n{shown[-1600:]}"))
        if not line.isprintable():
            self._bad.append(("a line of the log has control characters", repr(line[:300])))
        if len(line) > 2000:
            self._bad.append(("a line of the log is long", f"{len(line)} characters: {line[:200]}"))

    def take(self) -> list[str]:
        """Return the lines since the last time; raise Violation if one is bad or there are too many."""
        lines, bad = self.lines, self._bad
        self.lines, self._bad = [], []
        for rule, what in bad:
            expect(False, rule, what)
        expect(len(lines) <= MOST_LINES, "too many lines are in the log", f"{len(lines)}: {lines[:5]}")
        return lines


@contextmanager
def watched_log() -> Iterator[LogWatch]:
    """All that is logged here, from WARNING on, and nowhere else."""
    watch, root = LogWatch(), logging.getLogger()
    watch.setLevel(logging.WARNING)
    others = root.handlers[:]
    root.handlers[:] = [watch]
    try:
        yield watch
    finally:
        root.handlers[:] = others
