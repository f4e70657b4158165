"""Read the rollouts of a trace file or a store, and report the unreadable lines on standard error.

All readable lines are read. The first `_SHOWN` unreadable lines are reported with their line numbers. The other
unreadable lines are only counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from .._trace.reader import error_of_all
from .._trace.trace import Trace
from .._trace.turn import Turn
from .._tracefiles.follow import iter_traces
from .._util.terminal import say
from ..errors import DialectError, StoreError, TrioceptError
from ..fleets.store.layout import is_store
from ..fleets.store.reading import named_runs, trace_files
from .words import a_directory, counted

UNREAD = 2
"""Exit status if a named file cannot be read or does not exist. A wrong command line has the same status."""

_SHOWN = 10
"""Maximum unreadable lines to report, and maximum rollouts to list in an error."""


class NotThere(TrioceptError):
    """Error for a file that does not contain the requested rollout or turn."""


class NotAFile(NotThere):
    """Error for a path to a directory that must be a path to a file."""


class NoSuchRollout(NotThere):
    """Error for a file that contains rollouts, but not the requested rollout."""


class File:
    """A file of `JSONLRecorder`, or a fleet's store. In a store, only the rollouts that have a result are read.

    `rollout` selects rollouts by their id or by the id of their run (`Trace.run`). None means all rollouts.
    """

    def __init__(self, path: Path, rollout: str | None = None) -> None:
        self._path = path
        self._rollout = rollout
        self.damages = 0
        """Number of unreadable lines so far."""
        self.attempts = 0
        """Number of rollouts in a store that were left out because their attempts ended without a result."""
        self.missing = 0
        """Number of results in a store that lack a trace file."""

    def __iter__(self) -> Iterator[Trace]:
        held: (
            list[DialectError] | None
        ) = []  # until the first trace, because the file may not be a trace file

        def on_damage(damage: DialectError | StoreError) -> None:
            self.damages += 1
            if self.damages > _SHOWN:
                return
            if held is not None and isinstance(damage, DialectError) and not is_store(self._path):
                held.append(damage)
            else:
                say(f"a line was not read: {damage}")

        def leave_out(trace: Trace) -> bool:  # a rollout without a result, unless it is requested
            left_out = self._rollout not in (trace.rollout, trace.run)
            self.attempts += left_out
            return left_out

        def on_missing(missing: int, text: str) -> None:
            self.missing = missing
            say(text)

        if self._path.is_dir() and not is_store(self._path):
            raise NotAFile(a_directory(self._path))
        found = 0
        others: list[str] = []
        wanted = () if self._rollout is None else (self._rollout,)
        for trace in traces_of(self._path, on_damage, on_missing, leave_out, wanted):
            for damage in held or ():
                say(f"a line was not read: {damage}")
            held = None
            if self._rollout in (None, trace.rollout, trace.run):
                found += 1
                yield trace
            elif len(others) <= _SHOWN:
                others.append(trace.rollout)
        if held:
            raise NotThere(str(error_of_all(held, self._path)))
        if self.damages > _SHOWN:
            more = counted(self.damages - _SHOWN, "more line", "more lines")
            say(f"{self._path}: {more} cannot be read")
        if others and not found:
            raise NoSuchRollout(
                f"{self._path} contains no rollout {self._rollout}; it contains {_listed(others)}"
            )
        if self.attempts and not found:
            attempts = counted(self.attempts, "rollout", "rollouts")
            raise NotThere(f"{self._path} contains no result yet, only {attempts} without a result")
        if not found:
            why = "no line of the file can be read" if self.damages else "the file is empty"
            why = "the trace files of the results are missing" if self.missing else why
            raise NotThere(f"{self._path} holds no rollout: {why}")

    def one(self) -> Trace:
        """Return the only rollout. Raise NotThere if there are several rollouts, or none."""
        found: Trace | None = None
        more: list[str] = []
        for trace in self:
            if found is None:
                found = trace
            elif len(more) <= _SHOWN:
                more.append(self._name(trace))
        assert found is not None
        if more:
            raise NotThere(
                f"{self._path} holds several rollouts ({_listed([self._name(found), *more])}): choose one with "
                "--rollout ID"
            )
        return found

    def turn(self, which: str) -> tuple[Trace, Turn]:
        trace = self.one()
        return trace, self.turn_of(trace, which)

    def turn_of(self, trace: Trace, which: str) -> Turn:
        """Return the turn whose number or id is `which`. Raise NotThere if the rollout has no such turn."""
        found = next((turn for turn in trace if which in (str(turn.number), turn.id)), None)
        if found is None:
            runs: list[list[int]] = []
            for number in (turn.number for turn in trace):
                if runs and number == runs[-1][-1] + 1:
                    runs[-1].append(number)
                else:
                    runs.append([number])
            numbers = ", ".join(f"{r[0]}" if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs) or "none"
            raise NotThere(
                f"rollout {trace.rollout} in {self._path} has no turn {which}; turns in this rollout: {numbers}"
            )
        return found

    def _name(self, trace: Trace) -> str:
        """Return the rollout's id. If the user has already selected this id, return the id of the rollout's run."""
        return trace.run if self._rollout == trace.rollout and trace.run else trace.rollout


def traces_of(
    path: Path,
    on_damage: Callable[[DialectError | StoreError], object],
    on_missing: Callable[[int, str], object],
    leave_out: Callable[[Trace], bool] = lambda trace: True,
    wanted: Collection[str] = (),
    on_skip: Callable[[Path, str], object] = lambda file, reason: say(
        f"a file was not read: {file} {reason}"
    ),
) -> Iterator[Trace]:
    """Yield the rollouts of a trace file or a store.

    Args:
        path: the file, or the directory of a store.
        on_damage: function that is called with each error in a file.
        on_missing: function that is called if a store lacks traces of results. It gets the number of these results or
            rollouts, and a text. It is called before the first rollout if whole trace files are missing, and after the
            last rollout if rollouts are missing in the existing files.
        leave_out: function that is called with each rollout that has no result in its store. The rollout is yielded
            only if the function returns False.
        wanted: ids of rollouts. If it is not empty, `on_missing` counts only results with one of these rollouts.
        on_skip: function that is called with each trace file of a store that must not be read, and the reason.
    """
    if not is_store(path):
        yield from iter_traces(path, on_damage=on_damage)
        return
    named, results, missing = named_runs(path, wanted, on_damage)
    if missing:
        of = counted(results, "result", "results")
        text = f"the trace files of {missing:,} of {of} are missing"
        on_missing(missing, f"{path}: {text}; `triocept check` names them")
    seen: set[str] = set()
    for file in trace_files(path, on_skip):
        for trace in iter_traces(file, on_damage=on_damage):
            seen.add(trace.run)
            if trace.run in named or not leave_out(trace):
                yield trace
    if not missing and not wanted and (lost := len(named - seen)):
        of = counted(lost, "rollout", "rollouts")
        text = f"results name {of} that the trace files do not contain"
        on_missing(lost, f"{path}: {text}; `triocept check` names them")


def left_out(path: Path, attempts: int) -> str:
    return f"{path}: left out: {counted(attempts, 'rollout', 'rollouts')} without a result"


def _listed(names: list[str]) -> str:
    more = ", …" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
