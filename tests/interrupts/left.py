"""What a run has left: processes, descriptors, threads, warnings, lines of the log, and its files."""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from triocept.traces import check, read_traces

from .scene import Scene

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 10.0
"""Seconds for what is being killed to be gone."""


def adopt_orphans() -> None:
    """Become the parent of each descendant whose parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def end_orphans() -> list[str]:
    """Kill the children of this process, of which there should be none; return the commands of those that lived."""
    until = time.monotonic() + PATIENCE
    found: dict[int, str] = {}
    while pids := list(_children()):
        if time.monotonic() > until:
            found |= {pid: _command(pid) for pid in pids}
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return list(found.values())


def _children() -> Iterator[int]:
    """Living children, after the dead ones were reaped."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            return
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        yield from map(int, file.read().split())


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode()[:100].strip()
    except OSError:
        return "?"


def descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:  # that of the listing
            continue
    return found


def threads() -> list[str]:
    """Those that are not trio's own, which it keeps for a while."""
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.name.startswith("Trio thread")
    ]


@contextmanager
def noted(problem: Callable[[str], None]) -> Iterator[None]:
    """Note each warning, each error that nothing could raise, and each line of the log that is an error."""

    class Errors(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR or record.exc_info:
                problem(f"log: {record.getMessage()} {record.exc_info and record.exc_info[1]!r}")

    handler = Errors()
    logging.getLogger().addHandler(handler)
    sys.unraisablehook = lambda it: problem(f"unraisable: {it.exc_value!r} {it.err_msg} {it.object!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: problem(f"warning: {message}")
        yield
    sys.unraisablehook = sys.__unraisablehook__
    logging.getLogger().removeHandler(handler)


def files_of(scene: Scene) -> Iterator[str]:
    """What is wrong with the files of a run."""
    files = sorted(path for path in scene.folder.rglob("*.jsonl*") if path.stat().st_size)
    found = {}
    for file in files:
        report = check(file)
        yield from (f"a gap in the file: {gap}" for gap in report.gaps)
        for trace in read_traces(file):
            found[trace.rollout] = trace
    turns = Counter((trace.rollout, turn.id) for trace in found.values() for turn in trace)
    yield from (f"{count} turns of {key}" for key, count in turns.items() if count > 1)
    for trace in scene.traces:
        if not trace.sealed:
            yield f"the trace of {trace.rollout} is not sealed"
        if trace.rollout not in found:
            yield f"no file has {trace.rollout}"
            continue
        recorded = found[trace.rollout]
        if not recorded.sealed:
            yield f"the file's {trace.rollout} is not sealed"
        if [turn.id for turn in trace] != [turn.id for turn in recorded]:
            yield f"the trace of {trace.rollout} has other turns than the file"
    for key in scene.handled:
        if key[0] in found and key not in turns:
            yield f"{key} reached a handler, and has no turn"
    for rollout, text in scene.answered:
        if rollout in found:
            same = [turn for turn in found[rollout] if turn.request.messages[-1].text == text]
            if [turn.outcome for turn in same] != ["answered"]:
                yield f"the client of {text!r} has an answer, and its turns say {[turn.outcome for turn in same]}"
