"""One run of a program in a process of its own: at one of its steps it is cancelled, or interrupted."""

import faulthandler
import gc
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import CodeType
from typing import Any, Literal, NamedTuple, TypeAlias

import trio

from triocept._util.failures import leaves

from .left import descriptors, end_orphans, files_of, noted, threads
from .programs import PROGRAMS
from .scene import Scene

Kind: TypeAlias = Literal["cancel", "ctrl-c", "twice", "line"]
KINDS: tuple[Kind, ...] = (
    ("cancel", "ctrl-c", "twice", "line") if sys.version_info >= (3, 12) else ("cancel", "ctrl-c", "twice")
)
"""`cancel`: the outermost scope is cancelled before a task step. `ctrl-c`: SIGINT before a task step, which trio raises
in the main task's next checkpoint. `twice`: SIGINT there, and `APART` steps later. `line`: SIGINT at a line of
`FOLDERS`, which needs sys.monitoring."""
FOLDERS = tuple(f"{os.sep}triocept{os.sep}{name}{os.sep}" for name in ("_trace", "_process"))
APART = 6
HANGS = 60
"""Seconds for one run."""


class Point(NamedTuple):
    """Where a program ends."""

    program: str
    kind: Kind
    step: int
    """From 1; 0: nowhere, and the result says how many steps there are."""

    def __str__(self) -> str:
        return f"--only {self.program} --kind {self.kind} --step {self.step}"


class Result(NamedTuple):
    """What became of a run."""

    steps: int
    fired: bool
    """False: the program has ended before that step."""
    problems: list[str]
    modules: list[str]
    """What it had imported at its end."""


def run(point: Point) -> Result:
    """Run it in a fork of this process, which has no threads and no children."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            said = pickle.dumps(_run(point))
            with open(writer, "wb") as file:
                file.write(said)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    result = (
        pickle.loads(data) if data else Result(0, True, ["it hangs, or has died: see its standard error"], [])
    )
    result.problems.extend(f"a process is left: {command}" for command in end_orphans())
    return result


def _run(point: Point) -> Result:
    faulthandler.dump_traceback_later(HANGS, exit=True)
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder, noted(problems.append):
        scene, before = Scene(Path(folder)), descriptors()
        steps, raised = _play(point, scene)
        fired = 0 < point.step <= steps
        problems += _wrong_end(point, fired, raised)
        if raised is not None:
            raised.__traceback__ = None
        del raised
        gc.collect()
        problems += [f"a descriptor is left: {each}" for each in sorted(descriptors() - before)]
        problems += [f"a thread is left: {name}" for name in threads()]
        problems += files_of(scene)
    return Result(steps, fired, problems, sorted(sys.modules))


def _play(point: Point, scene: Scene) -> tuple[int, BaseException | None]:
    """How many steps there were, and what left `trio.run`."""
    scope = trio.CancelScope()

    async def main() -> None:
        with scope:
            await PROGRAMS[point.program](scene)

    trio._core._run._r.seed(point.step)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    at = {point.step, point.step + APART} if point.kind == "twice" and point.step else {point.step}
    steps = _Steps(at, scope.cancel if point.kind == "cancel" else _interrupt)
    try:
        with steps.lines() if point.kind == "line" else nullcontext():
            trio.run(main, instruments=[] if point.kind == "line" else [steps])
    except BaseException as exc:
        return steps.seen, exc
    return steps.seen, None


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


class _Steps(trio.abc.Instrument):
    """Counts task steps, or lines, and acts before one of them."""

    def __init__(self, at: Collection[int], act: Callable[[], Any]) -> None:
        self.seen = 0
        self._at = at
        self._act = act

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count()

    @contextmanager
    def lines(self) -> Iterator[None]:
        """Count the lines of `FOLDERS` that the main thread runs."""
        monitoring: Any = vars(sys)["monitoring"]
        tool = monitoring.DEBUGGER_ID

        def line(code: CodeType, number: int) -> object:
            if not any(folder in code.co_filename for folder in FOLDERS):
                return monitoring.DISABLE
            if threading.current_thread() is threading.main_thread():
                self._count()
            return None

        monitoring.use_tool_id(tool, "tests.interrupts")
        monitoring.register_callback(tool, monitoring.events.LINE, line)
        monitoring.set_events(tool, monitoring.events.LINE)
        try:
            yield
        finally:
            monitoring.set_events(tool, 0)

    def _count(self) -> None:
        self.seen += 1
        if self.seen in self._at:
            self._act()


def _wrong_end(point: Point, fired: bool, raised: BaseException | None) -> list[str]:
    """A Ctrl-C leaves as KeyboardInterrupt, a cancellation is absorbed by its scope; a fault of the program leaves."""
    kinds = {type(each) for each in leaves(raised)} if raised is not None else set()
    if point.program == "a_fault":
        kinds.discard(ValueError)
    wanted = {KeyboardInterrupt} if fired and point.kind != "cancel" else set()
    return [] if kinds == wanted else [f"trio.run raised {raised!r}"]
