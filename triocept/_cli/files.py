"""The rollouts of a file, one after the other, and the file's errors, in words and with the line.

All readable lines are read. Unreadable lines are reported on standard error; after many of them the file is not a trace
file, and the others are only counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .._trace.trace import Trace
from .._trace.turn import Turn
from .._tracefiles.follow import iter_traces
from .._util.terminal import say
from ..errors import DialectError, TrioceptError
from ..fleets.store.layout import is_store
from ..fleets.store.reading import named_runs, trace_files
from .words import a_directory, counted

UNREAD = 2
"""Exit status if a named file cannot be read or does not exist, as for a wrong command line."""

_TOLD = 10
"""Maximum unreadable lines, and rollouts to choose from, to list."""


class NotThere(TrioceptError):
    """A file does not hold the requested item."""


class NotAFile(NotThere):
    """A directory was given for a file."""


class NoSuchRollout(NotThere):
    """A file holds other rollouts, and not the requested one."""


class File:
    """A file of `JSONLRecorder`; or a fleet's store, of which only the rollouts of results are taken.

    Args:
        path: path of the file.
        rollout: id or run of the requested rollouts; None: all.
    """

    def __init__(self, path: Path, rollout: str | None = None) -> None:
        self._path = path
        self._rollout = rollout
        self.damages = 0
        """Number of unreadable lines so far."""
        self.attempts = 0
        """Number of rollouts of a store that were left out: their attempts ended without a result."""

    def __iter__(self) -> Iterator[Trace]:
        found = 0
        others: list[str] = []
        for trace in self._traces():
            if self._rollout in (None, trace.rollout, trace.run):
                found += 1
                yield trace
            elif len(others) <= _TOLD:
                others.append(trace.rollout)
        if self.damages > _TOLD:
            say(f"{self._path}: and {counted(self.damages - _TOLD, 'line', 'lines')} more")
        if not found:
            raise (NoSuchRollout if others else NotThere)(self._nothing(others))

    def _traces(self) -> Iterator[Trace]:
        if self._path.is_dir() and not is_store(self._path):
            raise NotAFile(a_directory(self._path))
        return traces_of(self._path, self._tell, self._leave_out)

    def _leave_out(self, trace: Trace) -> bool:
        """Return True if a rollout without a result is left out; a requested rollout never is."""
        left_out = self._rollout not in (trace.rollout, trace.run)
        self.attempts += left_out
        return left_out

    def one(self) -> Trace:
        """Return the only rollout. NotThere: there are several, or there is no rollout."""
        found: Trace | None = None
        more: list[str] = []
        for trace in self:
            if found is None:
                found = trace
            elif len(more) <= _TOLD:
                more.append(self._name(trace))
        assert found is not None
        if more:
            raise NotThere(
                f"{self._path} holds several rollouts: choose one with --rollout: "
                f"{_listed([self._name(found), *more])}"
            )
        return found

    def turn(self, which: str) -> tuple[Trace, Turn]:
        """Return the turn of this number or id, of the only rollout. NotThere: it does not exist."""
        trace = self.one()
        return trace, self.turn_of(trace, which)

    def turn_of(self, trace: Trace, which: str) -> Turn:
        """Return the turn of this number or id. NotThere: it does not exist."""
        found = next((turn for turn in trace if which in (str(turn.number), turn.id)), None)
        if found is None:
            numbers = ", ".join(_ranges([turn.number for turn in trace])) or "none"
            raise NotThere(f"rollout {trace.rollout} in {self._path} has no turn {which}; it has {numbers}")
        return found

    def _name(self, trace: Trace) -> str:
        """Return the rollout's distinguishing name: its id, or its run if a rollout id was requested."""
        return trace.run if self._rollout == trace.rollout and trace.run else trace.rollout

    def _nothing(self, others: list[str]) -> str:
        if others:
            return f"{self._path} holds no rollout {self._rollout}; it has {_listed(others)}"
        if self.attempts:
            return f"{self._path} holds no result yet, but {counted(self.attempts, 'rollout', 'rollouts')} of attempts"
        return (
            f"{self._path} holds no rollout: {'no line of it can be read' if self.damages else 'it is empty'}"
        )

    def _tell(self, damage: DialectError) -> None:
        self.damages += 1
        if self.damages <= _TOLD:
            say(f"not read: {damage}")


def traces_of(
    path: Path,
    on_damage: Callable[[DialectError], object],
    leave_out: Callable[[Trace], bool] = lambda trace: True,
) -> Iterator[Trace]:
    """Yield the rollouts of a file. Of a fleet's store: the rollouts of results, and others that `leave_out` keeps."""
    if not is_store(path):
        yield from iter_traces(path, on_damage=on_damage)
        return
    named = named_runs(path)
    for file in trace_files(path):
        for trace in iter_traces(file, on_damage=on_damage):
            if trace.run in named or not leave_out(trace):
                yield trace


def _listed(names: list[str]) -> str:
    more = ", …" if len(names) > _TOLD else ""
    return f"{', '.join(names[:_TOLD])}{more}"


def _ranges(numbers: list[int]) -> Iterator[str]:
    """`0-5`, `8`."""
    at = 0
    while at < len(numbers):
        end = at
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1:
            end += 1
        yield f"{numbers[at]}" if at == end else f"{numbers[at]}-{numbers[end]}"
        at = end + 1
